"""A problem whose label a single layer in the middle tells, of which the features know nothing."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from toy import toy_problem, toy_split
from transferbench.datasets.base import Split
from transferbench.datasets.pixels import MemoryPixels
from transferbench.methods.base import Problem

TELLING = "stages.1"


class Forgetful(nn.Module):
    """Three layers beside each other: of the images, only the second sees more than noise."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(3))
        self.last = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        first, _, third = (
            stage(given) for stage, given in zip(self.stages, (noise(x, 7), x, noise(x, 5)), strict=True)
        )
        return self.last(first + third).mean((2, 3))


def noise(x: Tensor, pace: float) -> Tensor:
    """Give a map that depends on the image, but tells nothing of it."""
    return torch.sin(1e4 * pace * x.mean((1, 2, 3), keepdim=True)).expand_as(x)


def told_split(num_images: int) -> Split:
    """Make images of three classes: each has a channel that is bright."""
    labels = [i % 3 for i in range(num_images)]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 120, (num_images, 3, 16, 16), generator=generator)
    pixels[torch.arange(num_images), labels] += 100
    split = toy_split(labels, 3, "target")
    return replace(split, pixels=MemoryPixels(pixels.to(torch.uint8), torch.ones(num_images)))


def planted_problem(num_images: int = 36, **changes: Any) -> Problem:
    """Pose it."""
    return toy_problem(told_split(num_images), encoder=Forgetful, **changes)
