"""USPS: 9,298 handwritten digits of 16 px from envelopes, with an official test set; the holdout is drawn."""

import bz2
from pathlib import Path

import numpy as np

from .. import InputError
from .about import About, Archive, Listing, Torchvision
from .mnist import DIGITS
from .reading.arrays import Arrays, split_arrays

BASE = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass"
ABOUT = About(
    title="USPS handwritten digits (Hull 1994)",
    homepage="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html",
    license="none stated",
    num_classes=10,
    sizes={"train": 6_562, "holdout": 729, "test": 2_007},
    probes=("usps.bz2", "usps.t"),
    archives=(
        Archive(
            f"{BASE}/usps.bz2",
            "sha256:3771e9dd6ba685185f89867b6e249233dd74652389f263963b3b741e994b034f",
            0,
            unpack=False,
        ),
        Archive(
            f"{BASE}/usps.t.bz2",
            "sha256:a9c0164e797d60142a50604917f0baa604f326e9a689698763793fa5d12ffc4e",
            0,
            unpack=False,
        ),
    ),
    torchvision=Torchvision("USPS", ({"train": True}, {"train": False})),
    source="mnist",
    preset="small",
    hflip=False,
    in_arrays=True,
)
SIDE = 16


def read(root: Path) -> Listing:
    """Read the two LIBSVM files, compressed or not."""
    train, test = (_read_libsvm(root / name) for name in ("usps", "usps.t"))
    return Listing(DIGITS, split_arrays("usps", train, test, ABOUT.sizes))


def _read_libsvm(path: Path) -> Arrays:
    """Read `label 1:value … 256:value`: labels 1 to 10 are the digits 0 to 9, values are -1 to 1."""
    packed = path.with_name(f"{path.name}.bz2")
    try:
        text = path.read_bytes() if path.is_file() else bz2.decompress(packed.read_bytes())
        numbers = np.array(text.replace(b":", b" ").split(), np.float32).reshape(-1, 1 + 2 * SIDE**2)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{packed}: cut or damaged; expected lines of {SIDE**2} values") from error
    images = np.rint((numbers[:, 2::2] + 1) * 127.5).astype(np.uint8)
    return images.reshape(-1, SIDE, SIDE), numbers[:, 0].astype(np.int64) - 1
