"""Images from disk: rate relative to torchvision's loader, number of decoded images, waiting time."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from io import BytesIO
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_loader
from torch.utils.data import DataLoader
from torchvision import datasets as torchvision_datasets
from torchvision.transforms import v2

from ...datasets.augment import MEAN_STD, RATIO, Augment
from ...datasets.base import Split
from ...datasets.loading import image_folder
from ...datasets.pixels import DemandPixels, Images, MemoryPixels, Pixels, as_tensor
from ...methods import catalog
from ..launch.pool import num_cores
from ..training.clock import Clock
from .build import SIZES, build, stepper
from .interleaved import Rounds, cpu_clock, device_clock, race, show

NUM_CLASSES, PER_CLASS, QUALITY = 4, 96, 90
WIDTH, HEIGHT = 500, 375  # a typical image of ImageNet
SIZE, SIDE, BATCH_SIZE = 224, 256, 32
NUM_BATCHES = NUM_CLASSES * PER_CLASS // BATCH_SIZE  # batches of an epoch
OTHERS = ("torchvision", "timm")
LEAST = {"JPEG": 1.0, "the cache": 5.0}  # smallest rate relative to theirs
FROM_DISK = {"resnet18, 64 px": 72, "inception_v3, 299 px, bf16": 342}  # side of their pixels
WAIT = 5.0  # longest wait for data, in % of a step


class Counting:
    """Images that count how many were decoded."""

    def __init__(self, images: Images) -> None:
        self.images, self.num_decoded = images, 0

    def __len__(self) -> int:
        return len(self.images)

    def decode(self, i: int, side: int, interpolation: str = "bicubic") -> tuple[np.ndarray, float]:
        """Decode and count."""
        self.num_decoded += 1
        return self.images.decode(i, side, interpolation)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the photos of `NUM_CLASSES` classes."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for c in range(NUM_CLASSES):
        _write_photos(root / f"class{c}", PER_CLASS, WIDTH, HEIGHT, rng)
    return root


def _write_photos(folder: Path, number: int, width: int, height: int, rng: np.random.Generator) -> None:
    """Write JPEGs that cost as much to decode as photographs: smooth shapes with some grain."""
    folder.mkdir()
    for i in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        grain = smooth + rng.normal(0, 6, smooth.shape)
        image = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{i}.jpg", quality=QUALITY)


@pytest.mark.parametrize("workers", sorted({1, num_cores()}))
def bench_images_a_second(benchmark: Any, photos: Path, workers: int) -> None:
    """Time epochs at 224 px from JPEGs and from the uint8 cache, with equal numbers of workers.

    An epoch starts without decoded images and ends without active workers: epochs do not overlap.
    """
    rivals = _epochs(photos, workers)
    times = race(benchmark, Rounds(rivals), count=7, warmup=1)
    words = f"{workers} worker{'s'[: workers > 1]}"
    for name in rivals:
        rate = NUM_BATCHES * BATCH_SIZE / times.median(name)
        show(benchmark, f"images from {name}, {words}", rate, "a second")
    for name, other in product(LEAST, OTHERS):
        ratio = times.ratios(other, name)
        show(benchmark, f"images a second from {name} / {other}'s, {words}", ratio, least=LEAST[name])


def bench_decoding_in_parallel(benchmark: Any, photos: Path) -> None:
    """Time decoding alone, by threads of one process and by processes, which share no interpreter.

    The pixels of the processes stay where they are: no copy between processes is counted.
    """
    part = image_folder.load(photos, as_source=True).parts["train"]
    rows, cores = torch.arange(len(part.labels)), num_cores()
    with get_context("fork").Pool(cores, torch.set_num_threads, (1,)) as pool:
        shares = [(part.images, rows[k::cores]) for k in range(cores)]
        rivals: dict[str, Callable[[], object]] = {
            "1 thread": partial(_decode, part.images, rows),
            f"{cores} threads": partial(_decode, part.images, rows, cores),
            f"{cores} processes": partial(pool.starmap, _decode, shares, 1),
        }
        times = race(benchmark, Rounds(rivals), count=9, warmup=1)
    for name in rivals:
        show(benchmark, f"images decoded by {name}", len(rows) / times.median(name), "a second")
    for name in list(rivals)[1:]:
        show(benchmark, f"images decoded by {name} / by 1 thread", times.ratios("1 thread", name))


def _decode(images: Images, rows: torch.Tensor, num_threads: int = 1) -> None:
    DemandPixels(images, SIDE, num_threads).take(rows)()


def bench_cpu_of_an_image(benchmark: Any, photos: Path) -> None:
    """Measure the CPU time of the same epochs, which varies less on shared cores."""
    rivals = _epochs(photos, workers=0)
    times = race(benchmark, Rounds(rivals, cpu_clock), count=7, warmup=1)
    for name in rivals:
        seconds = times.median(name) / (NUM_BATCHES * BATCH_SIZE)
        show(benchmark, f"CPU time of an image from {name}", 1e3 * seconds, "ms")
    for name, other in product(LEAST, OTHERS):
        ratio = times.ratios(other, name)
        show(benchmark, f"images a CPU second from {name} / {other}'s", ratio, least=LEAST[name])


@pytest.mark.parametrize(("width", "height"), [(WIDTH, HEIGHT), (4 * WIDTH, 4 * HEIGHT)])
def bench_decoders(benchmark: Any, tmp_path: Path, width: int, height: int) -> None:
    """Compare the CPU time of decoders: a JPEG as a square of `SIDE` pixels.

    `draft` decodes at the nearest larger eighth of the size. torchcodec and simplejpeg take part where they
    are installed.
    """
    _write_photos(tmp_path / "photos", 16, width, height, np.random.default_rng(0))
    images = image_folder.load(tmp_path, as_source=True).parts["train"].images
    files = [path.read_bytes() for path in sorted((tmp_path / "photos").iterdir())][: len(images)]
    ways: dict[str, Callable[[bytes], object]] = {"Pillow with draft": _by_draft}
    with suppress(ImportError):
        by_codec = import_module("torchcodec.decoders").decode_jpeg
        ways["torchcodec"] = lambda data: _squared(
            by_codec(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        )
    with suppress(ImportError):
        simply = import_module("simplejpeg").decode_jpeg
        ways["simplejpeg"] = lambda data: _squared(torch.from_numpy(simply(data)).permute(2, 0, 1))
    rivals: dict[str, Callable[[], object]] = {
        name: partial(lambda way: [way(data) for data in files], way) for name, way in ways.items()
    }
    rivals["ours"] = lambda: [images.decode(i, SIDE) for i in range(len(images))]
    times = race(benchmark, Rounds(rivals, cpu_clock), count=15, warmup=2)
    show(benchmark, f"decoding {width} x {height}", 1e3 * times.median("ours") / len(files), "ms")
    for name in ways:
        show(benchmark, f"decoding {width} x {height}: {name} / ours", times.ratios(name, "ours"))


def _by_draft(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        image.draft("RGB", (SIDE, SIDE))
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _squared(image: torch.Tensor) -> torch.Tensor:
    return v2.functional.resize(image, [SIDE, SIDE], v2.InterpolationMode.BICUBIC, antialias=True)


@pytest.mark.parametrize("size", [size for size in SIZES if size in FROM_DISK])
def bench_l2tl_from_disk(benchmark: Any, photos: Path, size: str) -> None:
    """Time L2TL steps with a source of JPEGs: the wait for images, and the number of decoded ones."""
    memory: Any
    memory, built = build("l2tl", *SIZES[size])
    device = built.problem.device
    on_cpu = device.type == "cpu"
    part = image_folder.load(photos, as_source=True).parts["train"]
    counting = Counting(part.images)
    source = built.problem.source
    assert source is not None
    labels = torch.from_numpy(part.labels)
    pixels = DemandPixels(counting, FROM_DISK[size], num_threads=1 if on_cpu else num_cores())
    split = replace(source, pixels=pixels, labels=labels, index=torch.arange(len(labels)))
    disk: Any = catalog.load("l2tl")(replace(built.problem, source=split), memory.config)
    clock = Clock(device)
    steps = 0

    def from_disk() -> None:
        nonlocal steps
        with clock.stepping(lambda: steps):
            disk.step(steps)
            steps += 1

    rounds = Rounds(
        {"disk": from_disk, "memory": stepper(memory)}, perf_counter if on_cpu else device_clock(device)
    )
    times = race(benchmark, rounds, count=6, warmup=1)
    kept = counting.num_decoded / (steps * disk.recipe.batch_size)
    show(benchmark, "source images decoded a step / B_S", kept, most=1.0, least=1.0)
    ratio = times.ratios("disk", "memory")
    show(benchmark, f"L2TL step, source from JPEG / from memory: {size}", ratio)
    total = sum(clock.parts.values())
    for name, seconds in clock.parts.items():
        most = WAIT if name == "data" and on_cpu else None  # a GPU is faster than these cores decode
        show(benchmark, f"part of that step: {name}", 100 * seconds / total, "%", most=most)


def _epochs(photos: Path, workers: int) -> dict[str, Callable[[], None]]:
    torch.set_num_threads(1)
    part = image_folder.load(photos, as_source=True).parts["train"]
    demand = DemandPixels(part.images, SIDE, num_threads=max(1, workers))
    pixels, aspect = demand.take(torch.arange(len(part.labels)))()
    decoded = MemoryPixels(as_tensor(pixels), aspect)
    return {
        "JPEG": _epoch(demand, part.labels),
        "the cache": _epoch(decoded, part.labels),
        "torchvision": _torchvision(photos, workers),
        "timm": _timm(photos, workers),
    }


def _epoch(pixels: Pixels, labels: np.ndarray) -> Callable[[], None]:
    names = tuple(f"class{c}" for c in range(NUM_CLASSES))
    rows = torch.arange(len(labels))
    split = Split("photos/train", names, pixels, torch.from_numpy(labels), rows, Augment(SIZE))
    stream = split.stream(BATCH_SIZE, seed=0)

    def epoch() -> None:
        ahead = stream.fetch(stream.draw()[0])
        for left in reversed(range(NUM_BATCHES)):
            now, ahead = ahead, stream.fetch(stream.draw()[0]) if left else ahead
            now.result()

    return epoch


def _torchvision(root: Path, workers: int) -> Callable[[], None]:
    mean, std = MEAN_STD["imagenet"]
    steps = [
        v2.RandomResizedCrop(SIZE, ratio=RATIO),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean, std),
    ]
    images = torchvision_datasets.ImageFolder(str(root), v2.Compose(steps))
    return _pass(
        DataLoader(images, BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    )


def _timm(root: Path, workers: int) -> Callable[[], None]:
    """Return an epoch of timm's loader with the crop and the flip of the others.

    The images are torchvision's `ImageFolder`: timm's own data set leaves files open.
    """
    loader = create_loader(
        torchvision_datasets.ImageFolder(str(root)),
        (3, SIZE, SIZE),
        BATCH_SIZE,
        is_training=True,
        color_jitter=0.0,
        use_prefetcher=False,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return _pass(loader)


def _pass(loader: Iterable[Any]) -> Callable[[], None]:
    def epoch() -> None:
        assert sum(len(x) for x, _ in loader) == NUM_BATCHES * BATCH_SIZE

    return epoch
