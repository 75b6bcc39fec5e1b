"""SVHN: 99,289 digits of house numbers, cropped to 32 px, with an official test set; the holdout is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .about import About, Archive, Listing, Torchvision
from .base import Part
from .mnist import DIGITS
from .pixels import ArrayImages
from .reading import matlab
from .reading.arrays import Arrays, split_arrays

BASE = "http://ufldl.stanford.edu/housenumbers"
ABOUT = About(
    title="SVHN, cropped digits (Netzer et al. 2011)",
    homepage="http://ufldl.stanford.edu/housenumbers/",
    license="non-commercial use",
    num_classes=10,
    sizes={"train": 65_931, "holdout": 7_326, "test": 26_032},
    probes=("train_32x32.mat",),
    folders=("svhn5", "svhn10", "SVHN"),
    archives=(
        Archive(
            f"{BASE}/train_32x32.mat",
            "sha256:435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            182_040_794,
            unpack=False,
        ),
        Archive(
            f"{BASE}/test_32x32.mat",
            "sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            64_275_384,
            unpack=False,
        ),
    ),
    torchvision=Torchvision("SVHN", ({"split": "train"}, {"split": "test"})),
    source="mnist",
    preset="small",
    hflip=False,
    in_arrays=True,
)
RECIPE_SEED = 0
GRAY = np.array((0.2989, 0.587, 0.114), np.float32)  # weights of red, green, blue


def read(root: Path) -> Listing:
    """Read the two .mat files. The 531,131 easier images of `extra` are not used."""
    return Listing(DIGITS, split_arrays("svhn", arrays(root, "train"), arrays(root, "test"), ABOUT.sizes))


def arrays(root: Path, part: str) -> Arrays:
    """Read uint8 images [N,32,32,3] and their digits int64 [N]; the file has 10 for the digit 0."""
    with matlab.variables(root / f"{part}_32x32.mat", "X and y of SVHN") as content:
        images, digits = content["X"].transpose(3, 0, 1, 2), content["y"].ravel()
        if images.shape != (len(digits), 32, 32, 3) or images.dtype != np.uint8:
            raise ValueError(f"images {images.dtype}{images.shape} of {len(digits)} digits")
        return images, digits.astype(np.int64) % 10


def draw_small_set(root: Path, digits: Sequence[int], sizes: Mapping[str, int]) -> dict[str, Part]:
    """Draw the small sets of L2TL's released code, in gray; a label is the digit modulo the number of digits.

    One generator shuffles the positions of each digit in turn, first in the training file, then in the
    test file. The first training positions of a digit are `train`. Its first test positions are `holdout`,
    and the next ones are `test`.
    """
    random = np.random.RandomState(RECIPE_SEED)
    found = {}
    for file, names in (("train", ("train",)), ("test", ("holdout", "test"))):
        images, labels = arrays(root, file)
        cuts = np.cumsum([sizes[name] // len(digits) for name in names])
        shuffled = [random.permutation(np.flatnonzero(labels == digit)) for digit in digits]
        cut = zip(*(np.split(positions, cuts)[:-1] for positions in shuffled), strict=True)
        for name, positions in zip(names, map(np.concatenate, cut), strict=True):
            found[name] = Part(ArrayImages(to_gray(images[positions])), labels[positions] % len(digits))
    return found


def to_gray(images: np.ndarray) -> np.ndarray:
    """Convert uint8 colors [N,H,W,3] to gray [N,H,W], exactly as `tf.image.rgb_to_grayscale` does.

    Values are scaled to 0..1 and weighted; then they are multiplied by 255.5 and truncated.
    """
    shares = images.astype(np.float32) * np.float32(1 / 255)
    return (shares @ GRAY * np.float32(255.5)).astype(np.uint8)
