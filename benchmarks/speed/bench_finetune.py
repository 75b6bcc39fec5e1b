"""A fine-tuning step relative to a bare torch loop and timm's: on equal ready batches, and with its data."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ...datasets.augment import RATIO
from ...datasets.base import Batch, Split
from ...datasets.pixels import as_tensor
from .build import ON_GPU, SIZES, SameBatch, build, stepper
from .interleaved import Rounds, device_clock, race, show
from .reference_loops import timm_loop, torch_loop

MOST = 1.03  # largest cost relative to the faster rival


@pytest.mark.parametrize("size", SIZES)
def bench_finetune_step(benchmark: Any, size: str) -> None:
    """Time steps on one fixed batch, without data loading."""
    method: Any = build("finetune", *SIZES[size])[0]
    batch = next(method.target)
    method.target = SameBatch(batch)
    rivals = {
        "ours": stepper(method),
        "torch": torch_loop(method.net, method.recipe, SameBatch(batch)),
        "timm": timm_loop(method.net, method.recipe, SameBatch(batch)),
    }
    times = race(benchmark, Rounds(rivals, device_clock(batch[0].device)))
    for name in ("torch", "timm"):
        show(benchmark, f"fine-tuning step / {name}'s, ready batches: {size}", times.ratios("ours", name))
    faster = times.to_fastest("ours", ["torch", "timm"])
    show(benchmark, f"fine-tuning step / the faster, ready batches: {size}", faster, most=MOST)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("size", ON_GPU)
def bench_compiled_step(benchmark: Any, size: str) -> None:
    """Time steps on one fixed batch with a compiled encoder, and the seconds until it has compiled."""
    rivals = {}
    for name, given in (("eager", ()), ("compiled", ("recipe.compile=true",))):
        method: Any = build("finetune", *SIZES[size], *given)[0]
        method.target = SameBatch(next(method.target))
        rivals[name] = stepper(method)
    begin = time.perf_counter()
    for _ in range(2):
        rivals["compiled"]()
    torch.cuda.synchronize()
    show(benchmark, f"two first steps, compiled: {size}", time.perf_counter() - begin, "s")
    times = race(benchmark, Rounds(rivals, device_clock(torch.device("cuda"))), count=10)
    show(benchmark, f"compiled step / eager step: {size}", times.ratios("compiled", "eager"), most=1.0)


@pytest.mark.parametrize("size", SIZES)
def bench_finetune_with_data(benchmark: Any, size: str) -> None:
    """Time steps with random crops of images in memory: ours crop a batch, torchvision's one image."""
    method, built = build("finetune", *SIZES[size])
    net, recipe, split = method.net, built.problem.recipe, built.problem.target
    rivals = {
        "ours": stepper(method),
        "torch": torch_loop(net, recipe, _endless(split, recipe.batch_size)),
        "timm": timm_loop(net, recipe, _endless(split, recipe.batch_size)),
    }
    times = race(benchmark, Rounds(rivals, device_clock(split.device)), count=10)
    for name in ("torch", "timm"):
        show(benchmark, f"fine-tuning step / {name}'s, with crops: {size}", times.ratios("ours", name))
    faster = times.to_fastest("ours", ["torch", "timm"])
    show(benchmark, f"fine-tuning step / the faster, with crops: {size}", faster, most=MOST)


class _Images(Dataset[tuple[torch.Tensor, int]]):
    """The images of a split, cropped, flipped and normalized one by one."""

    def __init__(self, split: Split) -> None:
        augment = split.augment
        mean, std = augment.statistics
        self.pixels = as_tensor(split.pixels.take(split.index)()[0]).cpu()
        self.labels = split.labels.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(
                    augment.image_size, scale=(augment.crop_scale, 1), ratio=RATIO, antialias=False
                ),
                *([v2.RandomHorizontalFlip()] if augment.hflip else []),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[i]), self.labels[i]


def _endless(split: Split, batch_size: int) -> Iterator[Batch]:
    loader = DataLoader(_Images(split), min(batch_size, len(split)), shuffle=True, drop_last=True)
    while True:
        for x, y in loader:
            yield x.to(split.device), y.to(split.device)
