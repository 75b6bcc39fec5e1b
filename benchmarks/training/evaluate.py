"""Evaluate a method on a split: all scores, and the prediction for each image."""

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
    """Evaluate a method on all images of a split, including the last partial batch.

    The logits of an image are the mean over its crops.

    Args:
        method: the method.
        split: the images.
        batch_size: images per forward pass.
        crops: crops of each image.
        by_class: add the AUROC of each class against the rest.

    Returns:
        The scores in [0,1], `loss` and `num_images`; and which images are correct [N] (bool). For
        multi-label images: the mean AUROC, `auroc:<label>` of each scored label that has a curve, and
        the logits of the scored labels [N,S] (float16).
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
    """Return the mean AUROC of the scored labels or classes, and that of each, where it is defined."""
    names = [split.classes[label] for label in split.scored_labels]
    each = {
        f"auroc:{name}": area
        for name, area in zip(names, areas(z, y).tolist(), strict=True)
        if not math.isnan(area)
    }
    return {"auroc": auroc(z, y).item(), **each}


def by_image(predicted: np.ndarray, split: Split) -> dict[str, Any]:
    """Return the record's fields that hold the predictions of `evaluate`, image by image.

    `correct` is packed bits [N]. For multi-label images `scores` is the logits [N,num_scores] in float16
    and `test_labels` the labels [N,num_scores] in packed bits; AUROC can be resampled from the two.
    """
    if not split.multi_label:
        return {"correct": packed(predicted)}
    labels = split.labels[:, split.scored_labels].cpu().numpy().astype(bool)
    scores = base64.b64encode(predicted.astype("<f2").tobytes()).decode()
    return {
        "correct": None,
        "scores": scores,
        "num_scores": predicted.shape[1],
        "test_labels": packed(labels),
    }


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode; restore the mode of each at the end."""
    training = [m for m in net.modules() if m.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
