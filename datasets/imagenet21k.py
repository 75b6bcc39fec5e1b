"""ImageNet-21k, a source: the release of 2021 or of 2011, or its subset 21K-P.

Supported layouts are a tar for each class, one tar of these, class folders, and webdataset shards. Only 21K-P
has an official split; otherwise, the holdout is evenly spaced images of each class.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from .. import InputError
from .about import About, Listing
from .base import derive_seed
from .files.folder_names import part_of
from .reading import wordnet
from .reading.holdout import SEED
from .storage import nested_tar, tar_shards
from .storage.nested_tar import Images, Place
from .storage.table import Row
from .storage.tar_shards import Member

ABOUT = About(
    title="ImageNet-21k, winter 2021 or fall 2011 (Deng et al. 2009)",
    homepage="https://image-net.org/download-images.php",
    license="non-commercial research and education, by registration",
    num_classes=19_167,
    sizes={"train": 13_115_166, "holdout": 38_334},  # of 2021, split here
    probes=(".",),
    folders=("winter21_whole", "fall11_whole", "imagenet21k_resized", "imagenet-21k"),
    by_hand="register at image-net.org, download winter21_whole.tar.gz, gunzip it (the tars inside may stay)",
    notes=("ImageNet-21k stands in for JFT-300M, which is not public",),
)
PLACES = (
    "imagenet21k_resized/imagenet21k_train", "imagenet21k_train", "winter21_whole.tar", "fall11_whole.tar",
    "winter21_whole", "fall11_whole", "train", ".",
)  # fmt: skip
WNID = re.compile(r"n\d{8}")
ONE_IN, MOST = 100, 50_000  # holdout: one in 100 images of a class, at most 50,000 in total


def read(root: Path) -> Listing:
    """List the classes of this copy by sorted id, and their images; tar headers are read lazily."""
    path, places = _classes(root)
    if not places:
        return _of_shards(root)
    names = wordnet.class_names(list(places))
    val = path.removesuffix("train") + "val"
    if not path.endswith("imagenet21k_train") or not (root / val).is_dir():
        return Listing(names, _drawn_parts(root, places))
    held = {wnid: place for wnid, place in nested_tar.find_classes(root, val).items() if wnid in places}
    label_of = {wnid: label for label, wnid in enumerate(places)}
    parts = {
        "train": nested_tar.rows(root, places, label_of, "imagenet21k train"),
        "holdout": nested_tar.rows(root, held, label_of, "imagenet21k holdout"),
    }
    return Listing(names, parts)


def _classes(root: Path) -> tuple[str, dict[str, Place]]:
    """Find the first path that contains classes."""
    for path in filter(lambda path: (root / path).exists(), PLACES):
        found = {w: p for w, p in nested_tar.find_classes(root, path).items() if WNID.fullmatch(w)}
        if found:
            return path, found
    return "", {}


def _drawn_parts(root: Path, places: Mapping[str, Place]) -> dict[str, nested_tar.Rows]:
    """Split each class; tar headers are read once for both parts."""

    @cache
    def listed() -> list[Images]:
        return list(nested_tar.list_images(root, places, "imagenet21k"))

    def rows(held: bool) -> Iterator[Row]:
        for label, (wnid, images) in enumerate(zip(places, listed(), strict=True)):
            chosen = choose_holdout(wnid, len(images.offsets), MOST // len(places))
            yield from images.rows(label, chosen if held else ~chosen)

    return {"train": nested_tar.Rows(lambda: rows(False)), "holdout": nested_tar.Rows(lambda: rows(True))}


def choose_holdout(wnid: str, num_images: int, most: int) -> np.ndarray:
    """Select holdout images of a class, [N] bool in order of names: evenly spaced, from an id-based start.

    Select one in a hundred, at least one if the class has several, and at most `most`.
    """
    chosen = np.zeros(num_images, bool)
    count = min(max(num_images // ONE_IN, 1), most, num_images - 1)
    if count > 0:
        chosen[(derive_seed(SEED, wnid) + np.arange(count) * (num_images // count)) % num_images] = True
    return chosen


def _of_shards(root: Path) -> Listing:
    """Read webdataset shards, all at once, since only their content gives the labels.

    Shards called `validation` are the holdout. Class names are in `classnames.txt`, or are numbers.
    """
    found = [_shard(*shard) for shard in tar_shards.samples(root, sorted(root.glob("*.tar")))]
    if not any(len(labels) for _, labels, _ in found):
        raise nested_tar.missing(root / "nXXXXXXXX.tar")
    labels, held = (np.concatenate([shard[i] for shard in found]) for i in (1, 2))
    count = np.bincount(labels)
    if not held.any():
        order = np.argsort(labels, kind="stable")
        for label, own in enumerate(np.split(order, np.cumsum(count)[:-1])):
            held[own] = choose_holdout(str(label), len(own), MOST // len(count))
    bounds = np.cumsum([len(own) for _, own, _ in found])[:-1]

    def rows(wanted: np.ndarray) -> Iterator[Row]:
        for (images, own, _), chosen in zip(found, np.split(wanted, bounds), strict=True):
            for row, label in zip(images.rows(-1, chosen), own[chosen].tolist(), strict=True):
                yield row._replace(label=label)

    parts = {"train": nested_tar.Rows(lambda: rows(~held)), "holdout": nested_tar.Rows(lambda: rows(held))}
    return Listing(wordnet.class_names(tar_shards.class_names(root, len(count))), parts)


def _shard(tar: str, samples: Iterable[tar_shards.Sample]) -> tuple[Images, np.ndarray, np.ndarray]:
    """Return the images of a shard, their labels [n], and whether each is in the holdout [n]."""
    found = list(samples)
    if strange := [sample.path for sample in found if not sample.numbered]:
        raise InputError(f"{tar}:{strange[0]}: no label; expected a .cls or a .json of the same name")
    images = nested_tar.compact("", tar, [Member(s.path, s.offset, s.num_bytes) for s in found])
    labels = np.array([int(s.folder.rpartition("/")[2]) for s in found], np.int64)
    return images, labels, np.array([part_of(s.folder.partition("/")[0]) == "holdout" for s in found], bool)
