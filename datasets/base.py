"""Labelled images and the batches without end that methods draw from them.

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
from .device import moved
from .pixels import Images, JoinedPixels, MemoryPixels, Pixels, Raw, batch_to_device

LARGE = 1_000_000  # images of a split, from which on few epochs' orders are kept
Batch = tuple[Tensor, Tensor]  # network input [B,3,H,W] and labels [B], both on the device


def derive_seed(*parts: object) -> int:
    """Derive a seed from a seed and names or numbers, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


@dataclass(frozen=True)
class Part:
    """Encoded images and their labels [N]: what a data set file hands over."""

    images: Images
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set with its parts: `train`, and `holdout` and `test` where it has them."""

    name: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    fingerprint: str
    side: int  # shorter side of a typical image in pixels
    hflip: bool = True  # whether a mirror image keeps its label
    scored: tuple[int, ...] = ()  # labels that a score takes in, where an image has several; (): all
    notes: tuple[str, ...] = ()  # what every table on it has to say
    truth: tuple[float, ...] = ()  # of a planted source, what each class should weigh

    def __post_init__(self) -> None:
        """See that its names can be written. Raises: InputError."""
        for name in (self.name, *self.classes):
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{ascii(self.name)[1:-1]}: the name {ascii(name)} is not UTF-8; rename its folder"
                ) from error

    def part(self, name: str) -> Part:
        """Get a part by name. Raises: InputError when the data set has no such part."""
        if name not in self.parts:
            raise InputError(
                f"{self.name}: no '{name}' images; it has {', '.join(self.parts)}. "
                f"Put class folders into {self.name}/{name}/"
            )
        return self.parts[name]


@dataclass(frozen=True)
class Split:
    """Labelled images of one part of one data set, ready to be drawn from.

    Labels are class numbers [N]; or, where an image has several labels, float 0 or 1 [N,L], and
    `classes` are the names of the labels.
    """

    name: str
    classes: tuple[str, ...]
    pixels: Pixels
    labels: Tensor  # [N] or [N,L], on the device
    index: Tensor  # [N] rows of `pixels`, on the CPU
    augment: Augment
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    scored: tuple[int, ...] = ()  # labels that a score takes in; (): all
    truth: tuple[float, ...] = ()  # of a planted source, what each class should weigh; only an oracle looks

    def __len__(self) -> int:
        return len(self.index)

    @property
    def num_classes(self) -> int:
        """Number of classes, those without an image counted too."""
        return len(self.classes)

    @property
    def multi_label(self) -> bool:
        """Whether an image has several labels, and no class."""
        return self.labels.ndim == 2

    @property
    def scored_labels(self) -> list[int]:
        """Numbers of the labels that a score takes in."""
        return list(self.scored or range(self.num_classes))

    def fingerprint(self) -> str:
        """Hash which images it holds, and their labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.index.numpy()).data)
        digest.update(np.ascontiguousarray(self.labels.cpu().numpy()).data)
        return digest.hexdigest()[:16]

    def places(self, rows: Tensor) -> Tensor:
        """Look up where rows [B] lie in `pixels` [B], on the device where the rows are."""
        return (self.index if rows.device.type == "cpu" else self._index_there)[rows]

    @cached_property
    def _index_there(self) -> Tensor:
        return moved(self.index, self.device)

    def subset(self, rows: Tensor) -> "Split":
        """Keep these rows [M]."""
        return replace(self, labels=self.labels[rows.to(self.labels.device)], index=self.index[rows.cpu()])

    def shots(self, k: int, seed: int) -> "Split":
        """Keep `k` images of each class; for one seed, few shots lie inside many.

        Raises: InputError when a class has fewer images, or images have several labels.
        """
        if self.multi_label:
            raise InputError(
                f"shots={k}: the images of {self.name} have several labels and no class; expected no shots"
            )
        rows = []
        labels = self.labels.cpu()
        by_class = torch.argsort(labels, stable=True).split(
            labels.bincount(minlength=len(self.classes)).tolist()
        )
        for c, (name, of_class) in enumerate(zip(self.classes, by_class, strict=True)):
            if len(of_class) < k:
                raise InputError(f"shots={k}: class '{name}' of {self.name} has only {len(of_class)} images")
            rows.append(of_class[_permutation(len(of_class), derive_seed(seed, "shots", c))[:k]])
        return self.subset(torch.cat(rows).sort().values)

    def halves(self, seed: int) -> tuple["Split", "Split"]:
        """Cut into two halves at random, class by class where images have a class."""
        order = _permutation(len(self), derive_seed(seed, "halves"))
        if not self.multi_label:
            order = order[torch.argsort(self.labels.cpu()[order], stable=True)]
        return self.subset(order[::2].sort().values), self.subset(order[1::2].sort().values)

    def joined(self, other: "Split") -> "Split":
        """Put the images of another part of the same data set behind these."""
        return replace(
            self,
            name=f"{self.name}+{other.name}",
            pixels=JoinedPixels(self.pixels, other.pixels),
            labels=torch.cat((self.labels, other.labels)),
            index=torch.cat((self.index, other.index + len(self.pixels))),
        )

    def stream(self, batch_size: int, seed: int, **options: Any) -> "Stream":
        """Open batches without end: by epochs, or by `weights` with replacement."""
        return Stream(self, batch_size, seed, **options)

    def batches(self, batch_size: int, ten_crops: bool = False) -> Iterator[Batch]:
        """Go once through the split in order, as central crops; the last batch may be smaller.

        With `ten_crops` a batch has a tenth of the images, and all crops of each (`Augment.ten`).
        """
        crops = self.augment.ten if ten_crops else self.augment.central
        for rows in torch.arange(len(self)).split(max(1, batch_size // 10) if ten_crops else batch_size):
            raw, aspect = batch_to_device(self.pixels.take(self.index[rows])(), self.device)
            yield crops(raw, aspect), self.labels[rows.to(self.labels.device)]


class Stream:
    """Batches without end: batch k depends on the seed and on k alone, so its state is k.

    Where several processes share a run, each draws whole batches and gets the images of its own slice.

    Args:
        split: the images.
        batch_size: images a batch.
        seed: equal seeds draw equal batches.
        weights: chance of each image [N], not normalised; then images are drawn with
            replacement. Without it every epoch is a full shuffle.
        augmented: random crops and mirror images, or else the central crop.

    Raises: ValueError when all weights are zero.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        *,
        weights: Tensor | None = None,
        augmented: bool = True,
    ) -> None:
        distributed.check_divisible(batch_size, distributed.size())
        self.split, self.batch_size, self.augmented = split, batch_size, augmented
        self.seed = derive_seed(seed, split.name)
        self.drawn = 0
        self.num_images = 0
        if weights is not None and not weights.sum() > 0:
            raise ValueError(f"weights of {split.name}: all zero, so there is nothing to draw")
        self._cumulative = None if weights is None else weights.cpu().double().cumsum(0)
        self._next: tuple[int, Pending] | None = None

    def state_dict(self) -> dict[str, int]:
        """Give the whole state: how many batches and images were drawn."""
        return {"drawn": self.drawn, "num_images": self.num_images}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a saved place."""
        self.drawn, self.num_images = state["drawn"], state["num_images"]
        self._next = None

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw candidates: rows of the split [B] and their labels [B], no pixels."""
        rows = self._rows(self.drawn)
        self.drawn += 1
        return rows, self.split.labels[moved(rows, self.split.labels.device)]

    def fetch(self, rows: Tensor, kept: Tensor | None = None) -> "Pending":
        """Start to decode rows [B] of the batch that was drawn last, or only those at the places `kept`.

        Where these and the pixels lie on the device, nothing waits for them to be known.
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
        if not isinstance(self.split.pixels, MemoryPixels):  # decoding takes time: be one batch ahead
            self._next = (self.drawn, self._pending(self._rows(self.drawn), self.drawn))
        return batch.result()

    def _pending(self, rows: Tensor, k: int) -> "Pending":
        seed = derive_seed(self.seed, "augment", k) if self.augmented else None
        rows = distributed.shard(rows)
        return Pending(self.split, rows, self.split.pixels.take(self.split.places(rows)), seed)

    def _rows(self, k: int) -> Tensor:
        """Rows of batch k [B]: a function of the seed and k."""
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
    """A batch on its way: labels are known, pixels are being decoded."""

    split: Split
    rows: Tensor
    wait: Callable[[], Raw]
    augment_seed: int | None

    def result(self) -> Batch:
        """Wait for the pixels and augment them on the device."""
        device = self.split.device
        raw, aspect = batch_to_device(self.wait(), device)
        augment = self.split.augment
        x = (
            augment.central(raw, aspect)
            if self.augment_seed is None
            else augment.train(raw, aspect, self.augment_seed)
        )
        return x, self.split.labels[moved(self.rows, self.split.labels.device)]


def _permutation(size: int, seed: int) -> Tensor:
    return (_large_order if size > LARGE else _order)(size, seed)


def _random_order(size: int, seed: int) -> Tensor:
    dtype = torch.int32 if size < 2**31 else torch.int64  # half the memory, and the same order
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


_order = lru_cache(maxsize=8)(_random_order)
_large_order = lru_cache(maxsize=2)(_random_order)  # 56 MB each for 14 million images
