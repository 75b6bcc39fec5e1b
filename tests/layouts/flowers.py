"""102flowers.tgz with numbered images; setid.mat has the numbers of each part, imagelabels.mat all labels."""

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from .pictures import archive, encoded

SMALL = {"train": 4, "holdout": 4, "test": 8}
SETS = {"train": "trnid", "holdout": "valid", "test": "tstid"}
PUBLISHED = {"train": 1_020, "holdout": 1_020, "test": 6_149}


def saved(**content: np.ndarray) -> bytes:
    file = io.BytesIO()
    savemat(file, content)
    return file.getvalue()


def files(sizes: dict[str, int], num_classes: int) -> tuple[dict[str, bytes], dict[int, tuple[int, str]]]:
    """Give the lists, and each image's label and part by its number; the parts are mixed."""
    order = np.random.default_rng(0).permutation(sum(sizes.values())) + 1
    cuts = np.split(order, np.cumsum(list(sizes.values()))[:-1])
    parts = dict(zip(sizes, cuts, strict=True))
    labels = np.arange(len(order)) * 5 % num_classes
    texts = {
        "setid.mat": saved(**{SETS[part]: own[None].astype(np.uint16) for part, own in parts.items()}),
        "imagelabels.mat": saved(labels=(labels[None] + 1).astype(np.uint8)),
    }
    return texts, {int(n): (int(labels[n - 1]), part) for part, own in parts.items() for n in own}


def write(folder: Path) -> None:
    texts, images = files(SMALL, 97)
    content = {f"jpg/image_{n:05}.jpg": encoded(label, part) for n, (label, part) in images.items()}
    archive(folder / "102flowers.tgz", content)
    for name, own in texts.items():
        (folder / name).write_bytes(own)


def lists(root: Path) -> None:
    for name, content in files(PUBLISHED, 102)[0].items():
        (root / name).write_bytes(content)
