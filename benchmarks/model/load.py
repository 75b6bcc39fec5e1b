"""Load a kept model, and predict the classes of images with it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ... import InputError
from ...datasets.augment import Augment, statistics
from ...datasets.pixels import (
    INTERPOLATIONS,
    Unreadable,
    batch_to_device,
    collated,
    open_image,
    resize_square,
)
from ...methods.networks.predictor import Predictor
from ...methods.recipe import TestCrops
from ..training.misfit import is_out_of_memory
from ..training.problem import device_of
from .files import ABOUT, again, read_about, read_predictor

T = TypeVar("T")
BATCH = 32  # images of a forward pass
MOST_SIDE = 8192  # pixels
AUTOCAST = ("", "bfloat16")  # of recipe.precision
Picture = Image.Image | np.ndarray | str | PathLike[str] | bytes  # bytes: those of a file
Decoded = tuple[np.ndarray, float]  # pixels [side,side,3] and the aspect ratio


@dataclass(frozen=True)
class Prediction:
    """The probabilities of the classes of one image.

    Attributes:
        classes: all class names, in the model's order.
        probabilities: their probabilities [C]; of a multi-label model each by itself.
    """

    classes: Sequence[str]
    probabilities: np.ndarray

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.top(1)[0][1]

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the k most probable classes with their probabilities, the most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]


class Model:
    """A kept model.

    Args:
        about: the content of `model.json`.
        net: the network, on the device.
        device: the device.
    """

    def __init__(self, about: dict[str, Any], net: Predictor, device: torch.device) -> None:
        self.about, self.net, self.device = about, net, device
        self.classes: tuple[str, ...] = tuple(about["classes"])
        given = about["preprocessing"]
        self.side: int = given["side"]
        self.interpolation: str = given["interpolation"]
        self.ten_crops = given["test_crops"] == TestCrops.ten
        own = {name: given[name] for name in ("image_size", "crop_pct", "hflip")}
        self.augment = Augment(mean_std=statistics(given["mean"], given["std"]), **own)

    def decoded(self, picture: Picture) -> Decoded:
        """Return an image at the size that the model's own images were decoded to.

        Raises:
            Unreadable: it is not an image.
            OSError: a file cannot be read.
        """
        if isinstance(picture, Image.Image):
            return self._resized(picture)
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or not (picture.ndim == 2 or picture.shape[2:] in ((3,), (4,))):
                raise Unreadable(f"{picture.dtype} {list(picture.shape)}; expected uint8 [H,W,3] or [H,W]")
            return self._resized(Image.fromarray(picture))
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        with open_image(data) as opened:
            return self._resized(opened)

    def _resized(self, image: Image.Image) -> Decoded:
        return resize_square(image, self.side, interpolation=self.interpolation)

    def batch(self, decoded: Sequence[Decoded]) -> Tensor:
        """Return the network's input of images [B,3,H,W]; with ten test crops those of an image in a row."""
        raw, aspect = batch_to_device(collated(decoded, self.side), self.device)
        return self.augment.ten(raw, aspect) if self.ten_crops else self.augment.central(raw, aspect)

    @torch.no_grad()
    def logits(self, batch: Tensor) -> Tensor:
        """Return the logits [B,C] of normalized images [B,3,H,W]."""
        return self.net(batch.to(self.device))

    def predictions(self, decoded: Sequence[Decoded]) -> list[Prediction]:
        """Return the predictions of decoded images: by the mean logits over the crops of each.

        Where memory is short, fewer images are taken at a time.

        Raises:
            InputError: it is too short for one image.
        """
        try:
            return self._predictions(decoded)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(decoded) == 1:
                raise InputError(
                    f"device={self.device}: out of memory for one image of {self.about['backbone']} at "
                    f"{self.augment.image_size} px; expected device=cpu, or a machine with more memory"
                ) from error
        half = len(decoded) // 2
        return [*self.predictions(decoded[:half]), *self.predictions(decoded[half:])]

    def _predictions(self, decoded: Sequence[Decoded]) -> list[Prediction]:
        logits_BC = self.logits(self.batch(decoded)).unflatten(0, (len(decoded), -1)).mean(1)
        share_BC = logits_BC.sigmoid() if self.about["multi_label"] else logits_BC.softmax(1)
        return [Prediction(self.classes, share_C) for share_C in share_BC.cpu().numpy()]

    def predict(self, images: Iterable[Picture]) -> list[Prediction]:
        """Return a prediction for each image: a path, a Pillow image, or pixels uint8 [H,W,3] or [H,W].

        Raises:
            InputError: an image cannot be read.
        """
        found = []
        for chunk in chunks(images, BATCH):
            with ThreadPoolExecutor() as threads:
                found += self.predictions(list(threads.map(self._checked, chunk)))
        return found

    def _checked(self, picture: Picture) -> Decoded:
        name = picture if isinstance(picture, str | PathLike) else f"a {type(picture).__name__}"
        try:
            return self.decoded(picture)
        except Unreadable as error:
            raise InputError(f"{name}: not read as an image: {error}") from error
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror}); expected an image file") from error


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_SIDE


def _is_triple(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) in (int, float) for v in value)


PREPROCESSING: dict[str, tuple[Callable[[Any], bool], str]] = {  # a check of each value, and what is right
    "side": (_is_size, f"a whole number from 1 to {MOST_SIDE}"),
    "image_size": (_is_size, f"a whole number from 1 to {MOST_SIDE}"),
    "crop_pct": (lambda v: type(v) in (int, float) and 0 < v <= 1, "a number above 0, at most 1"),
    "interpolation": (
        lambda v: isinstance(v, str) and v in INTERPOLATIONS,
        f"one of {', '.join(INTERPOLATIONS)}",
    ),
    "mean": (_is_triple, "three numbers"),
    "std": (lambda v: _is_triple(v) and min(v) > 0, "three numbers above zero"),
    "test_crops": (lambda v: v in list(TestCrops), f"one of {', '.join(TestCrops)}"),
    "hflip": (lambda v: type(v) is bool, "true or false"),
}


def _check(folder: Path, about: Mapping[str, Any]) -> None:
    """Check the values of `model.json` that are used with images. Raises InputError for a wrong one."""
    given = about["preprocessing"]
    for name, (is_right, expected) in PREPROCESSING.items():
        if not is_right(given.get(name)):
            raise InputError(
                f"{folder / ABOUT}: preprocessing.{name}={given.get(name)!r:.40}: expected {expected}; "
                f"{again(folder)}"
            )
    precision = about["predictor"].get("autocast", "")
    if precision not in list(AUTOCAST):
        raise InputError(
            f"{folder / ABOUT}: predictor.autocast={precision!r:.40}: expected "
            f"{' or '.join(map(repr, AUTOCAST))}; {again(folder)}"
        )


def load_model(path: str | PathLike[str], device: str = "auto") -> Model:
    """Load the model of a run.

    Args:
        path: the run's folder.
        device: auto, cpu, cuda or cuda:<number>.

    Raises:
        InputError: there is no model, it is damaged, or of another version.
    """
    folder, place = Path(path), device_of(device)
    about = read_about(folder)
    _check(folder, about)
    return Model(about, read_predictor(folder, about).to(place), place)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` items."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
