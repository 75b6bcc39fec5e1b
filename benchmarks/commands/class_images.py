"""Images of the source classes with the largest and smallest weights, and of the target, for the report."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...datasets import catalog
from ...datasets.base import Part
from ..training.record import write_json

NUM_CLASSES, PER_CLASS, NUM_TARGET = 5, 4, 8
SIDE = 96  # pixels


def write_class_images(
    source: str, target: str, weights: Mapping[str, float], results: Path, pair: str
) -> Path:
    """Write images of the top and bottom classes as PNG in base64; the choice of images is deterministic.

    Args:
        source: name or path of the source.
        target: name or path of the target.
        weights: weight of each source class.
        results: the results folder.
        pair: name of the file: that of the folder of the runs.

    Returns:
        The JSON file.
    """
    names = sorted(weights, key=lambda name: (-weights[name], name))
    shown = [*names[:NUM_CLASSES], *names[NUM_CLASSES:][-NUM_CLASSES:]]
    found, aim = catalog.load(source, as_source=True), catalog.load(target)
    part = found.part("train")
    content: dict[str, Any] = {
        "source": found.name,
        "target": aim.name,
        "classes": {name: _of_class(part, found.classes.index(name)) for name in shown},
        "target_images": _across(aim.part("train"), NUM_TARGET),
    }
    path = results / "suites" / "pictures" / f"{pair}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    return path


def _of_class(part: Part, label: int) -> list[str]:
    """Return the first images of a class."""
    has = part.labels == label if part.labels.ndim == 1 else part.labels[:, label] > 0
    return [_png(part, int(i)) for i in np.flatnonzero(has)[:PER_CLASS]]


def _across(part: Part, count: int) -> list[str]:
    """Return images of a part, at equal distances in the order of labels."""
    order = np.argsort(part.labels, kind="stable") if part.labels.ndim == 1 else np.arange(len(part.labels))
    return [
        _png(part, int(i)) for i in order[np.linspace(0, len(order) - 1, min(count, len(order)), dtype=int)]
    ]


def _png(part: Part, i: int) -> str:
    """Return image i as PNG in base64, with its original aspect ratio."""
    pixels, aspect = part.images.decode(i, SIDE)
    wide, high = (SIDE, round(SIDE / aspect)) if aspect > 1 else (round(SIDE * aspect), SIDE)
    packed = io.BytesIO()
    Image.fromarray(pixels).resize((max(1, wide), max(1, high))).save(packed, "PNG")
    return base64.b64encode(packed.getvalue()).decode()
