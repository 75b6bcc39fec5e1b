"""Images from disk: as many a second as torchvision's loader, none decoded in vain, no waiting for them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets as torchvision_datasets
from torchvision.transforms import v2

from ..datasets import folder
from ..datasets.augment import MEAN_STD, RATIO, Augment
from ..datasets.base import Split
from ..datasets.pixels import DemandPixels, Images, MemoryPixels, Pixels
from ..methods import catalog
from ..methods.base import measured_by
from .clock import Clock
from .pool import num_cores
from .rounds import Rounds, race, show
from .untrained import ON_CPU, build, stepper

NUM_CLASSES, PER_CLASS, QUALITY = 4, 32, 90
WIDTH, HEIGHT = 500, 375  # a typical image of ImageNet
SIZE, SIDE, BATCH_SIZE = 224, 256, 64
WAIT = 1.05  # a step from disk to a step from memory


class Counting:
    """Images that count how many were decoded."""

    def __init__(self, images: Images) -> None:
        self.images, self.num_decoded = images, 0

    def __len__(self) -> int:
        return len(self.images)

    def decode(self, i: int, side: int) -> tuple[np.ndarray, float]:
        """Decode and count."""
        self.num_decoded += 1
        return self.images.decode(i, side)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write JPEGs with the detail of photographs: smooth shapes, and some grain."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for c in range(NUM_CLASSES):
        (root / f"class{c}").mkdir()
        for i in range(PER_CLASS):
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
            grain = smooth + rng.normal(0, 6, smooth.shape)
            image = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
            image.save(root / f"class{c}" / f"{i}.jpg", quality=QUALITY)
    return root


@pytest.mark.parametrize("workers", sorted({1, num_cores()}))
def bench_images_a_second(benchmark: Any, photos: Path, workers: int) -> None:
    """Draw training batches of 224 px from JPEGs and from the uint8 cache, with as many workers."""
    torch.set_num_threads(1)
    part = folder.load(photos, as_source=True).parts["train"]
    demand = DemandPixels(part.images, SIDE, num_threads=workers)
    decoded = MemoryPixels(*demand.take(torch.arange(len(part.labels)))())
    theirs = _torchvision(photos, workers)
    rivals = {
        "jpeg": _stream(demand, part.labels),
        "cache": _stream(decoded, part.labels),
        "torchvision": theirs,
    }
    times = race(benchmark, Rounds({name: own.__next__ for name, own in rivals.items()}), count=8, warmup=3)
    rates = {name: BATCH_SIZE / times.median(name) for name in rivals}
    for name, rate in rates.items():
        show(benchmark, f"images from {name}, {workers} workers", rate, "a second")
    own = f"images a second from JPEG / torchvision's, {workers} workers"
    show(benchmark, own, times.ratios("torchvision", "jpeg"), least=1.0)
    cached = f"images a second from the cache / torchvision's, {workers} workers"
    show(benchmark, cached, times.ratios("torchvision", "cache"), least=5.0)


def bench_l2tl_from_disk(benchmark: Any, photos: Path) -> None:
    """Take the source from JPEGs: the step waits for none, and decodes no candidate in vain."""
    size = "resnet18, 64 px"
    memory: Any
    memory, posed = build("l2tl", *ON_CPU[size])
    part = folder.load(photos, as_source=True).parts["train"]
    counting = Counting(part.images)
    source = posed.problem.source
    assert source is not None
    labels = torch.from_numpy(part.labels)
    pixels = DemandPixels(counting, 72, num_threads=1)
    split = replace(source, pixels=pixels, labels=labels, index=torch.arange(len(labels)))
    disk: Any = catalog.load("l2tl")(replace(posed.problem, source=split), memory.config)
    clock = Clock(torch.device("cpu"))
    steps = 0

    def from_disk() -> None:
        nonlocal steps
        with measured_by(clock._measure):
            disk.step(steps)
        steps += 1

    rounds = Rounds({"disk": from_disk, "memory": stepper(memory)})
    times = race(benchmark, rounds, count=6, warmup=1)
    kept = counting.num_decoded / (steps * disk.recipe.batch_size)
    show(benchmark, "source images decoded a step / B_S", kept, most=1.0, least=1.0)
    ratio = times.ratios("disk", "memory")
    show(benchmark, f"L2TL step, source from JPEG / from memory: {size}", ratio, most=WAIT)
    total = sum(clock.parts.values())
    for name, seconds in clock.parts.items():
        show(benchmark, f"part of that step: {name}", 100 * seconds / total, "%")


def _stream(pixels: Pixels, labels: np.ndarray) -> Any:
    augment = Augment(SIZE)
    names = tuple(f"class{c}" for c in range(NUM_CLASSES))
    split = Split("photos/train", names, pixels, torch.from_numpy(labels), torch.arange(len(labels)), augment)
    return split.stream(BATCH_SIZE, seed=0)


def _torchvision(root: Path, workers: int) -> Iterator[Any]:
    mean, std = MEAN_STD["imagenet"]
    steps = [
        v2.RandomResizedCrop(SIZE, ratio=RATIO),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean, std),
    ]
    images = torchvision_datasets.ImageFolder(str(root), v2.Compose(steps))
    loader = DataLoader(
        images, BATCH_SIZE, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
    )
    while True:
        yield from loader
