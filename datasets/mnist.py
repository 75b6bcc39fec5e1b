"""MNIST: 70,000 handwritten digits of 28 px, padded with 2 px of black to 32 px.

The networks for digits take 32 px. The released code for transfer from MNIST to SVHN pads too, without
resizing. It trains its source on all 60,000 images; here 5,000 of them are drawn as the holdout.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from .. import InputError
from .about import About, Archive, Listing, Torchvision
from .reading.arrays import split_arrays

BASE = "https://storage.googleapis.com/cvdf-datasets/mnist"
ABOUT = About(
    title="MNIST (LeCun et al. 1998)",
    homepage="http://yann.lecun.com/exdb/mnist/",
    license="CC BY-SA 3.0",
    num_classes=10,
    sizes={"train": 55_000, "holdout": 5_000, "test": 10_000},
    probes=("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"),
    folders=("MNIST/raw", "MNIST", "raw"),
    archives=(
        Archive(
            f"{BASE}/train-images-idx3-ubyte.gz",
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            9_912_422,
            unpack=False,
        ),
        Archive(
            f"{BASE}/train-labels-idx1-ubyte.gz",
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            28_881,
            unpack=False,
        ),
        Archive(
            f"{BASE}/t10k-images-idx3-ubyte.gz",
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            1_648_877,
            unpack=False,
        ),
        Archive(
            f"{BASE}/t10k-labels-idx1-ubyte.gz",
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            4_542,
            unpack=False,
        ),
    ),
    torchvision=Torchvision("MNIST"),
    source="glyphs",
    preset="small",
    hflip=False,
    in_arrays=True,
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BORDER = 2


def read(root: Path) -> Listing:
    """Read the four IDX files, compressed or not."""
    pairs = (
        (_read_idx(root / f"{part}-images-idx3-ubyte"), _read_idx(root / f"{part}-labels-idx1-ubyte"))
        for part in ("train", "t10k")
    )
    border = (0, 0), (BORDER, BORDER), (BORDER, BORDER)
    train, test = ((np.pad(images, border), labels.astype(np.int64)) for images, labels in pairs)
    return Listing(DIGITS, split_arrays("mnist", train, test, ABOUT.sizes))


def _read_idx(path: Path) -> np.ndarray:
    """Read a uint8 array: a magic number that ends in the number of axes, axis lengths, and values."""
    packed = path.with_name(f"{path.name}.gz")
    try:
        content = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
        shape = np.frombuffer(content, ">i4", content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, IndexError) as error:
        raise InputError(f"{packed}: cut or damaged; expected an IDX file; download it again") from error
