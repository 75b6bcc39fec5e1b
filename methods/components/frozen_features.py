"""Features of a frozen encoder: one pass over the central crops of a split, kept in the cache and shared.

Shape letters: N images of a split, F features, C classes.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...datasets.base import Split, derive_seed
from ...datasets.files.atomic import atomic_write
from ...datasets.storage import cache
from ..base import Problem
from ..networks.network import Network

T = TypeVar("T")
NUM_FOLDS = 5  # of the cross-validation where there is no holdout


class Fold(NamedTuple):
    """Features [n,F] and labels [n] to fit, and features [m,F] and labels [m] to judge by."""

    features: Tensor
    labels: Tensor
    held_features: Tensor
    held_labels: Tensor


class FrozenFeatures:
    """The features of a split by the encoder of a network in evaluation mode.

    They are stored by network, weights, images and crop, with the seconds that they took: a run that finds
    them adds those seconds to its own.

    Args:
        net: the network, which stays as it is.
        split: the images.
        batch_size: images per forward pass.
    """

    def __init__(self, net: Network, split: Split, batch_size: int) -> None:
        self.net, self.split, self.batch_size = net, split, batch_size
        self.num_images = 0
        self.found_seconds = 0.0
        head: Any = net.target_head
        self.width: int = head.in_features  # F

    def all(self) -> Tensor:
        """Return the features [N,F] in float32, on the device."""
        self.num_images += len(self.split)
        kept = cache.folder() / "features" / f"{self._key()}.npz"
        with suppress(OSError, ValueError, KeyError), np.load(kept) as stored:
            self.found_seconds += float(stored["seconds"])
            return torch.from_numpy(stored["features"]).to(self.split.device)
        begin = time.perf_counter()
        with torch.no_grad():
            features = torch.cat([self.net.features(x) for x, _ in self.split.batches(self.batch_size)])
        there = features.cpu().numpy()
        if self.split.images:
            with suppress(OSError):  # a full or read-only disk costs the time again
                kept.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(kept, durable=False) as draft, draft.open("wb") as f:
                    np.savez(f, features=there, seconds=time.perf_counter() - begin)
        return features

    def state_dict(self) -> dict[str, float]:
        """Return the counts."""
        return {"num_images": self.num_images, "found_seconds": self.found_seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the counts."""
        self.num_images, self.found_seconds = int(state["num_images"]), state["found_seconds"]

    def _key(self) -> str:
        """Return a hash of all that determines the features; random for images without a fingerprint."""
        split = self.split
        if not split.images:
            return os.urandom(8).hex()
        words = (split.images, split.name, split.fingerprint(), split.interpolation, split.augment)
        net = self.net
        how = (net.backbone, sorted(net.backbone_options.items()), net.autocast)  # of equal weights
        digest = hashlib.sha256(f"{words} {how} {split.device.type} {self.batch_size}".encode())
        for name, tensor in self.net.encoder.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:24]


class KnownFeatures(FrozenFeatures):
    """Features that are known already, in place of a pass over the images of their split.

    Args:
        features: the features [N,F], or turned into fewer axes.
        split: their images.
        width: F.
    """

    def __init__(self, features: Tensor, split: Split, width: int) -> None:
        self.features, self.split, self.width = features, split, width
        self.num_images, self.found_seconds = 0, 0.0

    def all(self) -> Tensor:
        """Return the features."""
        return self.features


def folds(problem: Problem, features: Tensor, holdout: FrozenFeatures | None) -> list[Fold]:
    """Return what a value is chosen on: the holdout, or five stratified folds of the training images."""
    labels = problem.target.labels
    if holdout is not None:
        return [Fold(features, labels, holdout.all(), holdout.split.labels)]
    return [
        Fold(features[~held], labels[~held], features[held], labels[held])
        for held in held_images(problem.target, problem.seed)
    ]


def by_class(split: Split, seed: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of images class by class [N], shuffled in each, and their places in the class."""
    labels = split.labels.cpu()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[torch.argsort(labels[order], stable=True)]
    count = labels.bincount(minlength=split.num_classes)
    return order, torch.arange(len(order)) - (count.cumsum(0) - count)[labels[order]]


def held_images(split: Split, seed: int) -> list[Tensor]:
    """Return which images each of five stratified folds holds out [N].

    A class with one image is never held out. Without any other class there are no folds.
    """
    labels = split.labels.cpu()
    count = labels.bincount(minlength=split.num_classes)
    order, place_in_order = by_class(split, derive_seed(seed, "folds"))
    place = torch.empty_like(order)
    place[order] = place_in_order
    num_folds = min(NUM_FOLDS, int(count.max()))
    return [
        ((place % num_folds == fold) & (count[labels] > 1)).to(split.labels.device)
        for fold in range(num_folds if num_folds > 1 else 0)
    ]


def best_value(values: Sequence[float], score: Callable[[float, T], Tensor], on: Sequence[T]) -> float:
    """Return the value with the highest mean score; the first of equals, and the first without folds."""
    found = [sum(score(value, fold).item() for fold in on) for value in values]
    return values[max(range(len(values)), key=found.__getitem__)]


def why_not_frozen(problem: Problem) -> str:
    """Return why a classifier of features cannot run on a problem; empty if it can."""
    return "it needs classes, and target images have several labels" if problem.target.multi_label else ""
