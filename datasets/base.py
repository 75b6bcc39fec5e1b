"""Labeled images, and the endless batches that methods draw from them.

Shape letters: N images of a split, B images of a batch, S side of the cached pixels.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import InputError
from . import distributed
from .augment import Augment
from .augmentation.mixing import Mixing
from .device import moved
from .pixels import BICUBIC, Images, JoinedPixels, MemoryPixels, Pixels, Raw, batch_to_device

LARGE = 1_000_000  # for splits with more images, fewer epoch orders are cached
Batch = tuple[Tensor, Tensor]  # network input [B,3,H,W] and labels [B], both on the device; see `Stream`


def derive_seed(*parts: object) -> int:
    """Derive a seed from a seed and names or numbers, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


@dataclass(frozen=True)
class Part:
    """Encoded images of one part, and their labels [N] or [N,L]; further columns of a list, each [N]."""

    images: Images
    labels: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A data set with its parts: `train`, and optionally `holdout` and `test`."""

    name: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    fingerprint: str
    side: int  # shorter side of a typical image in pixels
    hflip: bool = True  # whether a flipped image keeps its label
    scored: tuple[int, ...] = ()  # the scored labels of a multi-label set; (): all
    notes: tuple[str, ...] = ()  # remarks that every table with this set prints
    truth: tuple[float, ...] = ()  # of a planted source: the right weight of each class
    left_out: tuple[str, ...] = ()  # lines on files that are not read; a command prints them once
    drawn: tuple[str, ...] = ()  # the parts that were drawn from the training images

    def __post_init__(self) -> None:
        """Check that all names can be encoded. Raises InputError if one is not UTF-8."""
        for name in (self.name, *self.classes):
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{ascii(self.name)[1:-1]}: the name {ascii(name)} is not UTF-8; rename its folder"
                ) from error

    def part(self, name: str) -> Part:
        """Return a part by name. Raises InputError if the data set has no such part."""
        if name not in self.parts:
            raise InputError(
                f"{self.name}: no '{name}' images; it has {', '.join(self.parts)}. "
                f"Put class folders into {self.name}/{name}/"
            )
        return self.parts[name]


@dataclass(frozen=True)
class Split:
    """Labeled images of one part of one data set, ready to draw from.

    Labels are class numbers [N]. In a multi-label set they are float 0 or 1 [N,L], and `classes` are the
    names of the labels.
    """

    name: str
    classes: tuple[str, ...]
    pixels: Pixels
    labels: Tensor  # [N] or [N,L], on the device
    index: Tensor  # [N] rows of `pixels`, on the CPU
    augment: Augment
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    scored: tuple[int, ...] = ()  # the scored labels; (): all
    truth: tuple[float, ...] = ()  # of a planted source: the right weight of each class; only for an oracle
    images: str = ""  # fingerprint of the data set
    interpolation: str = BICUBIC  # by which its pixels were decoded
    weight_C: Tensor | None = None  # weight of each class in a training loss [C]; None: all are equal
    mixing: Mixing | None = None  # how training batches are mixed; then `weight_C` is given

    def __len__(self) -> int:
        return len(self.index)

    @property
    def num_classes(self) -> int:
        """Return the number of classes, including classes without images."""
        return len(self.classes)

    @property
    def multi_label(self) -> bool:
        """Return whether images have several labels instead of one class."""
        return self.labels.ndim == 2

    @property
    def scored_labels(self) -> list[int]:
        """Return the numbers of the scored labels."""
        return list(self.scored or range(self.num_classes))

    def fingerprint(self) -> str:
        """Return a hash of the images' row numbers and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.index.numpy()).data)
        digest.update(np.ascontiguousarray(self.labels.cpu().numpy()).data)
        return digest.hexdigest()[:16]

    def places(self, rows: Tensor) -> Tensor:
        """Return the rows of `pixels` [B] for rows of this split [B], on the same device."""
        return (self.index if rows.device.type == "cpu" else self._index_there)[rows]

    @cached_property
    def _index_there(self) -> Tensor:
        return moved(self.index, self.device)

    def subset(self, rows: Tensor) -> "Split":
        """Return a split of these rows [M] only."""
        return replace(self, labels=self.labels[rows.to(self.labels.device)], index=self.index[rows.cpu()])

    def shots(self, k: int, seed: int, asked: str = "") -> "Split":
        """Keep `k` images of each class. With one seed, a smaller `k` selects a subset of a larger one.

        Args:
            k: number of images of each class.
            seed: seed of the choice.
            asked: setting that asks for them, for errors.

        Raises:
            InputError: if a class has fewer images, or images have several labels.
        """
        asked = asked or f"shots={k}"
        if self.multi_label:
            raise InputError(
                f"{asked}: the images of {self.name} have several labels and no class; expected no shots"
            )
        rows = []
        labels = self.labels.cpu()
        by_class = torch.argsort(labels, stable=True).split(
            labels.bincount(minlength=len(self.classes)).tolist()
        )
        for c, (name, of_class) in enumerate(zip(self.classes, by_class, strict=True)):
            if len(of_class) < k:
                raise InputError(f"{asked}: class '{name}' of {self.name} has only {len(of_class)} images")
            rows.append(of_class[_permutation(len(of_class), derive_seed(seed, "shots", c))[:k]])
        return self.subset(torch.cat(rows).sort().values)

    def halves(self, seed: int) -> tuple["Split", "Split"]:
        """Split into two random halves, stratified by class if images have one class."""
        order = self._stratified(derive_seed(seed, "halves"))
        return self.subset(order[::2].sort().values), self.subset(order[1::2].sort().values)

    def fold(self, number: int, num_folds: int, seed: int) -> tuple["Split", "Split"]:
        """Return all but one of some random folds, and that fold; stratified as `halves`."""
        order = self._stratified(derive_seed(seed, "folds"))
        is_held = torch.arange(len(order)) % num_folds == number
        return self.subset(order[~is_held].sort().values), self.subset(order[is_held].sort().values)

    def _stratified(self, seed: int) -> Tensor:
        """Return all rows in a random order, class by class if images have one class."""
        order = _permutation(len(self), seed)
        return order if self.multi_label else order[torch.argsort(self.labels.cpu()[order], stable=True)]

    def joined(self, other: "Split") -> "Split":
        """Append the images of another part of the same data set."""
        return replace(
            self,
            name=f"{self.name}+{other.name}",
            pixels=JoinedPixels(self.pixels, other.pixels),
            labels=torch.cat((self.labels, other.labels)),
            index=torch.cat((self.index, other.index + len(self.pixels))),
        )

    def stream(self, batch_size: int, seed: int, **options: Any) -> "Stream":
        """Return endless batches: by epochs, or drawn with replacement if `weights` are given."""
        return Stream(self, batch_size, seed, **options)

    def batches(self, batch_size: int, ten_crops: bool = False) -> Iterator[Batch]:
        """Yield the split once, in order, as central crops; the last batch may be smaller.

        With `ten_crops`, a batch has a tenth of the images, each with all its crops (`Augment.ten`).
        """
        crops = self.augment.ten if ten_crops else self.augment.central
        for rows in torch.arange(len(self)).split(max(1, batch_size // 10) if ten_crops else batch_size):
            raw, aspect = batch_to_device(self.pixels.take(self.index[rows])(), self.device)
            yield crops(raw, aspect), self.labels[rows.to(self.labels.device)]


class Stream:
    """Endless batches. Batch k depends only on the seed and on k, so the state is k.

    If several processes share a run, each draws whole batches and loads the images of its own slice.

    Args:
        split: the images.
        batch_size: images per batch.
        seed: equal seeds draw equal batches.
        weights: unnormalized probability of each image [N]; images are then drawn with
            replacement. Without weights, every epoch is a full shuffle.
        augmented: use random crops and flips; otherwise the central crop.
        mixed: mix augmented batches as the split says: labels are then class probabilities [B,C].

    Raises:
        ValueError: if all weights are zero.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        *,
        weights: Tensor | None = None,
        augmented: bool = True,
        mixed: bool = True,
    ) -> None:
        distributed.check_divisible(batch_size, distributed.size())
        self.split = split if mixed else replace(split, mixing=None)
        self.batch_size, self.augmented = batch_size, augmented
        self.seed = derive_seed(seed, split.name)
        self.drawn = 0
        self.num_images = 0
        if weights is not None and not weights.sum() > 0:
            raise ValueError(f"weights of {split.name}: all zero; expected some greater than 0")
        self._cumulative = None if weights is None else weights.cpu().double().cumsum(0)
        self._next: tuple[int, Pending] | None = None

    @property
    def weight_C(self) -> Tensor | None:
        """Return the weight of each class in a training loss [C]; None: all are equal."""
        return self.split.weight_C

    def state_dict(self) -> dict[str, int]:
        """Return the state: the numbers of batches and images drawn so far."""
        return {"drawn": self.drawn, "num_images": self.num_images}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a saved state."""
        self.drawn, self.num_images = state["drawn"], state["num_images"]
        self._next = None

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Yield the split once, in order, as central crops, and count its images."""
        for x, y in self.split.batches(batch_size):
            self.num_images += len(y)
            yield x, y

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw candidates: rows of the split [B] and their labels [B], without pixels."""
        rows = self._rows(self.drawn)
        self.drawn += 1
        return rows, self.split.labels[moved(rows, self.split.labels.device)]

    def fetch(self, rows: Tensor, kept: Tensor | None = None) -> "Pending":
        """Start decoding rows [B] of the last drawn batch, or only those at positions `kept`.

        If `kept` and the pixels are on the device, this needs no synchronization.
        """
        if kept is not None:
            place = kept.device if self.split.pixels.device == kept.device else torch.device("cpu")
            rows = moved(rows, place)[kept.to(place)]
        self.num_images += len(rows)
        return self._pending(rows, self.drawn - 1)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Batch:
        ahead, self._next = self._next, None
        rows, _ = self.draw()
        batch = ahead[1] if ahead and ahead[0] == self.drawn - 1 else self._pending(rows, self.drawn - 1)
        self.num_images += len(rows)
        if not isinstance(self.split.pixels, MemoryPixels):  # decoding takes time: stay one batch ahead
            self._next = (self.drawn, self._pending(self._rows(self.drawn), self.drawn))
        return batch.result()

    def _pending(self, rows: Tensor, k: int) -> "Pending":
        seed = derive_seed(self.seed, "augment", k) if self.augmented else None
        rows = distributed.shard(rows)
        return Pending(self.split, rows, self.split.pixels.take(self.split.places(rows)), seed)

    def _rows(self, k: int) -> Tensor:
        """Return the rows of batch k [B], a function of the seed and k."""
        if self._cumulative is not None:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "weighted", k))
            u = torch.rand(self.batch_size, generator=generator, dtype=torch.double)
            return torch.searchsorted(self._cumulative, u * self._cumulative[-1], right=True).clamp(
                max=len(self.split) - 1
            )
        place = torch.arange(k * self.batch_size, (k + 1) * self.batch_size)
        epoch = place // len(self.split)
        rows = [
            _permutation(len(self.split), derive_seed(self.seed, e))[place[epoch == e] % len(self.split)]
            for e in epoch.unique().tolist()
        ]
        return torch.cat(rows).long()


@dataclass(frozen=True)
class Pending:
    """A batch in progress: labels are known, pixels are being decoded."""

    split: Split
    rows: Tensor
    wait: Callable[[], Raw]
    augment_seed: int | None

    def result(self) -> Batch:
        """Wait for the pixels and augment them on the device."""
        device = self.split.device
        raw, aspect = batch_to_device(self.wait(), device)
        augment = self.split.augment
        y = self.split.labels[moved(self.rows, self.split.labels.device)]
        if self.augment_seed is None:
            return augment.central(raw, aspect), y
        x = augment.train(raw, aspect, self.augment_seed)
        if self.split.mixing is None:
            return x, y
        return self.split.mixing(x, y, self.split.num_classes, self.augment_seed)


def _permutation(size: int, seed: int) -> Tensor:
    return (_large_order if size > LARGE else _order)(size, seed)


def _random_order(size: int, seed: int) -> Tensor:
    dtype = torch.int32 if size < 2**31 else torch.int64  # half the memory, same order
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


_order = lru_cache(maxsize=8)(_random_order)
_large_order = lru_cache(maxsize=2)(_random_order)  # 56 MB each for 14 million images
