"""The one evaluator: every score of a method on a split, and what it said of each image."""

import base64
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.base import Split
from ...methods.base import Method
from ...methods.metrics import SCORES, areas, auroc, classification_loss, of_scored
from ...methods.recipe import TestCrops
from .record import packed


def evaluate(
    method: Method,
    split: Split,
    batch_size: int,
    crops: TestCrops = TestCrops.central,
    by_class: bool = False,
) -> tuple[dict[str, float], np.ndarray]:
    """Judge a method on all images of a split, the last partial batch too.

    The logits of an image are the mean over its crops. With `by_class` the AUROC of each class against
    the rest is there too.

    Returns: scores in [0,1] with `loss` and `num_images`, and which images were right [N]. Where
    images have several labels: AUROC alone, in the mean and as `auroc:<label>` of each scored label
    that has a curve, and the logits of the scored labels [N,S] in float16.
    """
    logits, labels = [], []
    with evaluation_mode(method.net), torch.no_grad():
        for x, y in split.batches(batch_size, ten_crops=crops is TestCrops.ten):
            logits.append(method.predict(x).unflatten(0, (len(y), -1)).mean(1))
            labels.append(y)
    z, y = torch.cat(logits), torch.cat(labels)
    rest = {"loss": classification_loss(z, y).item(), "num_images": len(y)}
    z, y = of_scored(z, y, split.scored_labels)
    if split.multi_label:
        return {**_areas(z, y, split), **rest}, z.half().cpu().numpy()
    scores = {name: score(z, y).item() for name, score in SCORES.items()}
    scores |= _areas(z, y, split) if by_class else {}
    return {**scores, **rest}, (z.argmax(1) == y).cpu().numpy()


def _areas(z: Tensor, y: Tensor, split: Split) -> dict[str, float]:
    """Give the mean AUROC of the scored labels or of the classes, and each that there is."""
    names = [split.classes[label] for label in split.scored_labels]
    each = {
        f"auroc:{name}": area
        for name, area in zip(names, areas(z, y).tolist(), strict=True)
        if not math.isnan(area)
    }
    return {"auroc": auroc(z, y).item(), **each}


def by_image(said: np.ndarray, split: Split) -> dict[str, Any]:
    """Give the fields of the record that tell what `evaluate` found for each image.

    `correct` is bits [N]; or, where images have several labels, `scores` is the logits in float16
    [N,num_scores] row by row, and `labels` the same in bits: AUROC can be resampled from them.
    """
    if not split.multi_label:
        return {"correct": packed(said)}
    labels = split.labels[:, split.scored_labels].cpu().numpy().astype(bool)
    scores = base64.b64encode(said.astype("<f2").tobytes()).decode()
    return {"correct": None, "scores": scores, "num_scores": said.shape[1], "labels": packed(labels)}


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and each back as it was."""
    training = [m for m in net.modules() if m.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
