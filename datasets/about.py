"""Describe a data set: its title, its license, where its images come from, and how it is split.

The file of an official data set defines `ABOUT: About` and `read(root) -> Listing`. `read` may raise
FileNotFoundError if the copy lacks a list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Archive:
    """A file to download. `checksum` is "sha256:…" or "md5:…", or empty if none is published."""

    url: str
    checksum: str
    num_bytes: int  # 0: unknown
    into: str = "."  # the folder of the set into which it is unpacked
    unpack: bool = True
    name: str = ""  # if the URL does not end in a file name

    @property
    def file_name(self) -> str:
        """Return the official name of the file."""
        return self.name or PurePosixPath(unquote(urlsplit(self.url).path)).name


@dataclass(frozen=True)
class Torchvision:
    """A class of torchvision.datasets, with the options of each call that downloads a part of the set."""

    cls: str
    options: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub with the set as parquet files.

    Attributes:
        repo: owner/name.
        parts: maps our parts to the hub's splits; empty: by their names.
        label: column with the class numbers; its type holds the class names; empty: the first such column.
        image: column with the encoded images; empty: the first such column.
        config: the configuration, a folder or file prefix of the repository; empty if there is only one.
    """

    repo: str
    parts: Mapping[str, str]
    label: str = "label"
    image: str = "image"
    config: str = ""


@dataclass(frozen=True)
class About:
    """Facts about a data set that need no images.

    Attributes:
        title: name, authors, year.
        homepage: URL of its home page.
        license: its terms, in a few words.
        num_classes: number of classes, or of labels in a multi-label set.
        sizes: published number of images of each part: `train`, `holdout`, `test`.
        probes: files or folders; a folder that contains any of these is the root of the official layout.
        archives: the files at the official URLs.
        torchvision: the torchvision class that can download it.
        hub: the Hugging Face repository that has it.
        folders: other names of its folder, for example in its archive or with torchvision.
        by_hand: instructions if it cannot be downloaded (it needs a registration, or its URLs are dead).
        source: the default source for this target.
        preset: the default preset.
        score: the metric.
        notes: remarks that every table with this set prints.
        hflip: whether a horizontally flipped image keeps its label.
        in_arrays: whether `read` returns parts in memory, at each start, instead of rows for an index.
    """

    title: str
    homepage: str
    license: str
    num_classes: int
    sizes: Mapping[str, int]
    probes: tuple[str, ...] = ()
    archives: tuple[Archive, ...] = ()
    torchvision: Torchvision | None = None
    hub: Hub | None = None
    folders: tuple[str, ...] = ()
    by_hand: str = ""
    source: str = "imagenet"
    preset: str = "paper"
    score: str = "top1"
    notes: tuple[str, ...] = ()
    hflip: bool = True
    in_arrays: bool = False

    @property
    def fetchable(self) -> bool:
        """Return whether the images can be downloaded."""
        return bool(self.archives or self.torchvision or self.hub)

    @property
    def num_bytes(self) -> int:
        """Return the total bytes to download; 0 if some sizes are unknown."""
        sizes = [a.num_bytes for a in self.archives]
        return sum(sizes) if all(sizes) else 0


@dataclass(frozen=True)
class Listing:
    """The content of the official lists: class names by label, and the images of each part.

    A part is rows (path below the root, label), or encoded images with labels [N] or [N,L].
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Any]  # Iterable[Row] or Part
    scored: tuple[int, ...] = ()  # the scored labels of a multi-label set; (): all
    notes: tuple[str, ...] = ()  # on this copy
