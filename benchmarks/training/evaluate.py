"""Evaluate a method on a split: all scores, and the prediction for each image."""

import math
from typing import Any

import torch
from torch import Tensor

from ...analysis.records.answers import to_text
from ...datasets.base import Split
from ...methods.base import Method
from ...methods.metrics import SCORES, areas, auroc, classification_loss, of_scored
from ...methods.networks.network import evaluation_mode
from ...methods.recipe import TestCrops
from .record import packed

MOST_CLASSES = 1 << 16  # in 16 bits


def evaluate(
    method: Method,
    split: Split,
    batch_size: int,
    crops: TestCrops = TestCrops.central,
    by_class: bool = False,
) -> tuple[dict[str, float], Tensor]:
    """Evaluate a method on all images of a split, including the last partial batch.

    The logits of an image are the mean over its crops.

    Args:
        method: the method.
        split: the images.
        batch_size: images per forward pass.
        crops: crops of each image.
        by_class: add the AUROC of each class against the rest.

    Returns:
        The scores in [0,1], `loss` and `num_images`; and the logits of the scored labels [N,S], on the
        device. For multi-label images: the mean AUROC, and `auroc:<label>` of each scored label that has a
        curve.
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
        return {**_areas(z, y, split), **rest}, z
    scores = {name: score(z, y).item() for name, score in SCORES.items()}
    scores |= _areas(z, y, split) if by_class else {}
    return {**scores, **rest}, z


def _areas(z: Tensor, y: Tensor, split: Split) -> dict[str, float]:
    """Return the mean AUROC of the scored labels or classes, and that of each, where it is defined."""
    names = [split.classes[label] for label in split.scored_labels]
    each = {
        f"auroc:{name}": area
        for name, area in zip(names, areas(z, y).tolist(), strict=True)
        if not math.isnan(area)
    }
    return {"auroc": auroc(z, y).item(), **each}


def by_image(z: Tensor, split: Split) -> dict[str, Any]:
    """Return the record's fields that hold the predictions of `evaluate`, image by image.

    For images with one class, `correct` is packed bits [N], `predictions` the predicted class [N] and its
    probability [N], `test_labels` the classes [N], and `class_names` their names; numbers of 16 bits. For
    multi-label images `scores` is the logits [N,S] in float16 and `test_labels` the labels [N,S] in packed
    bits; AUROC can be resampled from the two.

    Args:
        z: logits of the scored labels [N,S].
        split: the images.
    """
    if not split.multi_label:
        return {"correct": packed((z.argmax(1) == split.labels).cpu().numpy()), **_answers(z, split)}
    labels = split.labels[:, split.scored_labels].cpu().numpy().astype(bool)
    return {
        "correct": None,
        "predictions": None,
        "scores": to_text(z.cpu().numpy(), "f2"),
        "num_scores": z.shape[1],
        "test_labels": packed(labels),
        "class_names": [split.classes[label] for label in split.scored_labels],
    }


def _answers(z: Tensor, split: Split) -> dict[str, Any]:
    """Return the classes and their probabilities; none where 16 bits are too few for a class."""
    if split.num_classes > MOST_CLASSES:
        return {"predictions": None, "test_labels": None, "class_names": None}
    predicted, probability = z.argmax(1), z.float().softmax(1).amax(1)
    return {
        "predictions": {
            "classes": to_text(predicted.cpu().numpy(), "u2"),
            "probabilities": to_text(probability.cpu().numpy(), "f2"),
        },
        "test_labels": to_text(split.labels.cpu().numpy(), "u2"),
        "class_names": list(split.classes),
    }
