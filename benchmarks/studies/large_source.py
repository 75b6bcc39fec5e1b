"""A source of 14 million images: time to open it, memory, and images per second.

`python -m transferbench.benchmarks.studies.large_source --images 14000000` makes a few real shards and an
index whose rows repeat their images, then opens the index in a new process.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NUM_CLASSES = 21_841  # classes of ImageNet-21k
PER_SHARD = 1_000  # real images per shard
SIDE = 64
BATCH_SIZE = 256
NUM_DRAWN = 50  # number of batches that are drawn
NUM_DECODED = 5  # number of batches that are decoded


def main() -> None:
    """Make the source, open it in a new process, and print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=14_000_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--open", type=Path, help="only open the index in this folder, and measure")
    given = parser.parse_args()
    if given.open:
        print(json.dumps(opened(given.open)))
        return
    with tempfile.TemporaryDirectory() as place:
        for name, value in measured(Path(place), given.images, given.shards).items():
            print(f"{name:>24} {value:,.2f}" if isinstance(value, float) else f"{name:>24} {value:,}")


def measured(place: Path, num_images: int, num_shards: int) -> dict[str, float]:
    """Make a source in a folder; return all measurements: seconds, MB and images per second."""
    from ...datasets.storage import tar_shards
    from ...datasets.storage.index import fingerprint, read_index, write_index

    start = time.perf_counter()
    tars = [_shard(place / f"made-train-{i:06}.tar", i) for i in range(num_shards)]
    made = time.perf_counter()
    num_read = sum(len(list(images)) for _, images in tar_shards.samples(place, tars))
    read = time.perf_counter()
    classes = [f"n{c:08}" for c in range(NUM_CLASSES)]
    write_index(place / "index", place, {"train": _rows(place, tars, num_images)}, classes)
    written = time.perf_counter()
    fingerprint(read_index(place / "index")[1])
    found = {
        "images": num_images,
        "shards_made_seconds": made - start,
        "headers_per_second": num_read / (read - made),
        "index_seconds": written - read,
        "fingerprint_seconds": time.perf_counter() - written,
        "index_mb": sum(f.stat().st_size for f in (place / "index").iterdir()) / 1e6,
    }
    command = [
        sys.executable,
        "-m",
        "transferbench.benchmarks.studies.large_source",
        "--open",
        str(place / "index"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    return found | json.loads(done.stdout)


def opened(folder: Path) -> dict[str, float]:
    """Open an index as a run does, draw and decode batches; return seconds, MB and images per second."""
    start = time.perf_counter()
    import torch

    from ...datasets.augment import Augment
    from ...datasets.base import Split
    from ...datasets.pixels import DemandPixels
    from ...datasets.storage.index import fingerprint, read_index, typical_side

    imported, torch_mb = time.perf_counter(), _memory_mb("VmRSS")
    classes, parts = read_index(folder)
    fingerprint(parts)
    pixels = DemandPixels(parts["train"].images, typical_side(parts), num_threads=2)
    labels = torch.from_numpy(parts["train"].labels)
    split = Split("made/train", classes, pixels, labels, torch.arange(len(labels)), Augment(SIDE))
    stream = split.stream(BATCH_SIZE, seed=0)
    stream.draw()
    ready = time.perf_counter()
    for _ in range(NUM_DRAWN):
        stream.draw()
    drawn = time.perf_counter()
    for _ in range(NUM_DECODED):
        next(stream)
    decoded = time.perf_counter()
    return {
        "import_seconds": imported - start,
        "open_seconds": ready - imported,
        "start_up_seconds": ready - start,
        "drawn_per_second": BATCH_SIZE * NUM_DRAWN / (drawn - ready),
        "decoded_per_second": BATCH_SIZE * NUM_DECODED / (decoded - drawn),
        "torch_mb": torch_mb,
        "resident_mb": _memory_mb("VmRSS"),
        "peak_mb": _memory_mb("VmHWM"),
    }


def _shard(tar: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    with tarfile.open(tar, "w") as out:
        for i in range(PER_SHARD):
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(image, "JPEG")
            label = str(int(rng.integers(NUM_CLASSES))).encode()
            for suffix, content in (("jpg", image.getvalue()), ("cls", label)):
                member = tarfile.TarInfo(f"{seed:04}_{i:06}.{suffix}")
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    return tar


def _rows(root: Path, tars: list[Path], num_images: int) -> Iterator[Any]:
    from ...datasets.storage import tar_shards
    from ...datasets.storage.table import Row

    real = [(tar, s.offset, s.num_bytes) for tar, images in tar_shards.samples(root, tars) for s in images]
    for i in range(num_images):
        tar, offset, num_bytes = real[i % len(real)]
        label = i * 7919 % NUM_CLASSES  # as if shuffled
        yield Row(f"n{label:08}/n{label:08}_{i:08}.JPEG", label, tar, offset, num_bytes)


def _memory_mb(name: str) -> float:
    """Return a memory size of this process in MB: VmRSS (resident) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
