"""What a data-set file says of its set: what it is, where its images come from, and how it is split.

A file of an official data set offers `ABOUT: About` and `read(root) -> Listing`, which may raise
FileNotFoundError for a list that the copy lacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Archive:
    """A file to fetch: `checksum` is "sha256:…" or "md5:…", or empty where none is published."""

    url: str
    checksum: str
    num_bytes: int  # 0: not known
    into: str = "."  # folder of the set that it is unpacked into
    unpack: bool = True
    name: str = ""  # where the address does not end in one

    @property
    def file_name(self) -> str:
        """Name of the file, as official lists and users have it."""
        return self.name or PurePosixPath(unquote(urlsplit(self.url).path)).name


@dataclass(frozen=True)
class Torchvision:
    """A class of torchvision.datasets, and the options of each call that fetches a part of the set."""

    cls: str
    options: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub that holds the set as parquet files.

    Attributes:
        repo: owner/name.
        parts: our part to the hub's split.
        label: column with the class numbers; class names come with the column's type.
        image: column with the encoded images.
        config: the configuration, a folder or file prefix of the repository; empty for the only one.
    """

    repo: str
    parts: Mapping[str, str]
    label: str = "label"
    image: str = "image"
    config: str = ""


@dataclass(frozen=True)
class About:
    """What is known of a data set without its images.

    Attributes:
        title: name, authors, year.
        homepage: where people read about it.
        license: the terms in a few words.
        num_classes: classes, or labels of a multi-label set.
        sizes: published images of each part, `train`, `holdout`, `test`.
        probes: files or folders of which any shows where the official layout begins.
        archives: the files at the official addresses.
        torchvision: the class that fetches it too.
        hub: the repository that holds it too.
        folders: names that its folder has in its archive, or with torchvision, beside its own.
        by_hand: what to do where nothing can be fetched: a registration, dead addresses.
        source: the source that a bench on this target takes when none is given.
        preset: the preset that it is met with.
        score: what it is judged by.
        notes: what every table on it has to say.
        mirror: whether a mirror image keeps its label.
        in_arrays: `read` gives parts in memory, anew at each start, and no rows to be indexed.
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
        """Whether anybody can be asked for the images."""
        return bool(self.archives or self.torchvision or self.hub)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files to fetch; 0 where not all are known."""
        sizes = [a.num_bytes for a in self.archives]
        return sum(sizes) if all(sizes) else 0


@dataclass(frozen=True)
class Listing:
    """What the official lists say: classes by label, and the images of each part.

    A part is rows (path below the root, label), or encoded images with labels [N] or [N,L].
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Any]  # Iterable[Row] or Part
    scored: tuple[int, ...] = ()  # labels of a multi-label set that are scored; none: all
    notes: tuple[str, ...] = ()  # of this copy
