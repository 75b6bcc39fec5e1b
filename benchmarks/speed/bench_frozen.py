"""Seconds of the rows on frozen features with many classes, without the passes over the images."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.augment import Augment
from ...datasets.base import Split
from ...datasets.pixels import MemoryPixels
from ...methods import catalog
from ...methods.networks.network import Network
from .build import build
from .interleaved import Rounds, device_clock, race, show

NUM_CLASSES, NUM_FEATURES = 1000, 512
IMAGES = {"train": 10, "holdout": 5}  # of each class
ROWS = ("knn", "ncm", "logistic")


class _Encoder(nn.Flatten):
    num_features = NUM_FEATURES


def bench_thousand_classes(benchmark: Any) -> None:
    """Time the choice and fit of each row: 10,000 training and 5,000 holdout images of 1,000 classes."""
    problem = build("ncm")[1].problem
    features = {part: _features(count).to(problem.device) for part, count in IMAGES.items()}
    splits = {part: _split(part, count, problem.device) for part, count in IMAGES.items()}
    problem = replace(
        problem,
        target=splits["train"],
        holdout=splits["holdout"],
        network=lambda: Network(_Encoder(), 0, NUM_CLASSES).to(problem.device),
    )
    rivals = {}
    for name in ROWS:
        cls = catalog.load(name)
        method: Any = cls(problem, cls.Config())
        for part, of_split in (("train", "target"), ("holdout", "holdout")):
            if frozen := getattr(method, of_split, None):
                frozen.all = lambda part=part: features[part]
        rivals[name] = lambda method=method: method.step(0)
    times = race(benchmark, Rounds(rivals, device_clock(problem.device)), count=1, warmup=0)
    for name in rivals:
        show(benchmark, f"{name} with {NUM_CLASSES:,} classes of 10 images", times.seconds[name], "s")


def _split(name: str, count: int, device: torch.device) -> Split:
    labels = torch.arange(NUM_CLASSES).repeat_interleave(count)
    pixels = MemoryPixels(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.ones(1))
    classes = tuple(map(str, range(NUM_CLASSES)))
    return Split(
        name, classes, pixels, labels.to(device), torch.zeros(len(labels)).long(), Augment(1), device
    )


def _features(count: int) -> Tensor:
    """Draw features [N,F] around class means, mixed so that few directions have most of the variance."""
    mix_FF = np.random.default_rng(0).normal(size=(NUM_FEATURES, NUM_FEATURES))
    mix_FF *= np.arange(1, NUM_FEATURES + 1)[:, None] ** -0.7
    mean_CF = np.random.default_rng(1).normal(scale=0.5, size=(NUM_CLASSES, NUM_FEATURES))
    noise_NF = np.random.default_rng(2 + count).normal(size=(NUM_CLASSES * count, NUM_FEATURES))
    found = np.maximum((mean_CF.repeat(count, axis=0) + noise_NF) @ mix_FF, 0)
    return torch.from_numpy(found.astype(np.float32))
