"""Build a source with known truth: some classes are the target's own, the others are harmful.

Its name is `source=planted:KIND:SHARE:SOURCE:TARGET[:SEED]`, for example
`planted:conflicting:0.9:glyphs:digits`; the default seed is 0. The near classes are the target's, with its
training images (a few-shot run trains on some of them). A fraction SHARE of all classes is harmful, drawn
from SOURCE. With a SHARE of 1 there are no near classes, and all classes of SOURCE are taken:

- `shuffled`: their labels are shuffled among their images.
- `conflicting`: their images are those of the near classes, with random harmful labels.
- `foreign`: rows and columns of their images are permuted, in the same way for all images.
- `noisy`: as `conflicting`, and a third of the near images have a random label of the near classes.
- `turned`: as `conflicting`, and all images are turned by 180 degrees, so that none is one of the target's.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum, auto

import numpy as np

from .. import InputError
from ..user_text import path_name
from .base import Dataset, Part, derive_seed
from .pixels import BICUBIC, Images

PREFIX = "planted:"
NOISE = 1 / 3  # share of near images with a random label, in a `noisy` source


class Kind(StrEnum):
    """The type of harmful classes."""

    shuffled = auto()
    conflicting = auto()
    foreign = auto()
    noisy = auto()
    turned = auto()


@dataclass(frozen=True)
class Plan:
    """The parsed name of a planted source."""

    kind: Kind
    share: float  # fraction of harmful classes, up to 1
    source: str
    target: str
    seed: int

    @property
    def name(self) -> str:
        """Return a short name, without paths."""
        source, target = short_name(self.source), short_name(self.target)
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{target}+{self.kind}-{self.share:g}-{source}{seed}"


def short_name(name: str) -> str:
    """Return a short name of any data set, without paths; never `.` or `..`."""
    plan = parse(name)
    return plan.name if plan else path_name(name)


def parse(name: str) -> Plan | None:
    """Parse the name of a planted source; return None for any other data set.

    Raises:
        InputError: if a part of the name is missing or wrong.
    """
    if not name.startswith(PREFIX):
        return None
    parts = name.split(":")[1:]
    seed = parts.pop() if len(parts) == 5 else "0"
    kinds = ", ".join(Kind)
    if len(parts) != 4 or not seed.isdigit():
        raise InputError(f"source={name}: expected planted:KIND:SHARE:SOURCE:TARGET[:SEED], KIND of {kinds}")
    kind, share, source, target = parts
    if kind not in list(Kind):
        raise InputError(f"source={name}: no kind '{kind}'; expected one of {kinds}")
    try:
        number = float(share)
    except ValueError:
        number = -1.0
    if not 0 < number <= 1:
        raise InputError(
            f"source={name}: share '{share}' of harmful classes; expected a number above 0 and up to 1"
        )
    return Plan(Kind(kind), number, source, target, int(seed))


def plant(plan: Plan, source: Dataset, target: Dataset) -> Dataset:
    """Combine the target's training images with harmful classes; `truth` marks which is which.

    Raises:
        InputError: if the source has too few classes for the share, or images have several labels.
    """
    num_near = len(target.classes) if plan.share < 1 else 0
    num_bad = round(num_near * plan.share / (1 - plan.share)) if num_near else len(source.classes)
    if not 0 < num_bad <= len(source.classes):
        raise InputError(
            f"source={PREFIX}…: a share of {plan.share:g} with {num_near} classes of {target.name} needs "
            f"{num_bad} harmful ones; expected 1 to {len(source.classes)}, the classes of {source.name}"
        )
    random = np.random.default_rng(derive_seed(plan.seed, "classes"))
    bad = np.sort(random.choice(len(source.classes), num_bad, replace=False))
    near, far = (_part(dataset, "train") for dataset in (target, source))
    part = _join(plan, near, far, bad, num_near)
    text = f"{plan.name} {source.fingerprint} {target.fingerprint}"
    return Dataset(
        name=plan.name,
        classes=(
            *(f"near {c}" for c in target.classes[:num_near]),
            *(f"harmful {source.classes[c]}" for c in bad),
        ),
        parts={"train": part},
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
        side=max(source.side, target.side),
        hflip=source.hflip and target.hflip,
        notes=(f"{plan.name}: {num_near} classes are the target's, {num_bad} are harmful ({plan.kind})",),
        truth=(1.0,) * num_near + (0.0,) * num_bad,
        left_out=(*source.left_out, *target.left_out),
    )


def _part(dataset: Dataset, name: str) -> Part:
    part = dataset.part(name)
    if part.labels.ndim != 1:
        raise InputError(f"source={PREFIX}…: images of {dataset.name} have several labels; expected one each")
    return part


def _join(plan: Plan, near: Part, far: Part, bad: np.ndarray, num_near: int) -> Part:
    """Join the near and the harmful images; harmful classes keep their number of images."""
    random = np.random.default_rng(derive_seed(plan.seed, "images"))
    rows = np.flatnonzero(np.isin(far.labels, bad))
    labels = num_near + np.searchsorted(bad, far.labels[rows])
    if plan.kind is Kind.shuffled:
        labels = random.permutation(labels)
    images, image = far.images, rows
    if plan.kind in (Kind.conflicting, Kind.noisy, Kind.turned):
        images, image = near.images, random.integers(len(near.labels), size=len(rows))
    near_labels = near.labels if num_near else near.labels[:0]
    if plan.kind is Kind.noisy and num_near:
        noisy = random.random(len(near_labels)) < NOISE
        near_labels = np.where(noisy, random.integers(num_near, size=len(near_labels)), near_labels)
    kept, moved = plan.kind if plan.kind is Kind.turned else None, derive_seed(plan.seed, "order")
    all_near = _Images(near.images, np.arange(len(near_labels)), kept, moved)
    return Part(
        _Joined(all_near, _Images(images, image, plan.kind, moved)), np.concatenate((near_labels, labels))
    )


@dataclass(frozen=True)
class _Images:
    """Selected images [N] of a part, changed as the kind says: permuted, turned, or as they are."""

    images: Images
    image: np.ndarray
    kind: Kind | None
    order_seed: int

    def __len__(self) -> int:
        return len(self.image)

    def decode(self, i: int, side: int, interpolation: str = BICUBIC) -> tuple[np.ndarray, float]:
        """Return image `i` as uint8 [side,side,3] and its aspect ratio."""
        pixels, aspect = self.images.decode(int(self.image[i]), side, interpolation)
        if self.kind is Kind.foreign:
            random = np.random.default_rng(self.order_seed)
            pixels = pixels[random.permutation(side)][:, random.permutation(side)]
        if self.kind is Kind.turned:
            pixels = np.ascontiguousarray(pixels[::-1, ::-1])
        return pixels, aspect


@dataclass(frozen=True)
class _Joined:
    """The images of two parts, one after the other."""

    first: Images
    second: Images

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def decode(self, i: int, side: int, interpolation: str = BICUBIC) -> tuple[np.ndarray, float]:
        """Return image `i` as uint8 [side,side,3] and its aspect ratio."""
        late = i - len(self.first)
        images, place = (self.second, late) if late >= 0 else (self.first, i)
        return images.decode(place, side, interpolation)
