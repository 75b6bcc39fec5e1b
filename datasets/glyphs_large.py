"""A larger source beside the embedded pair: four times as many glyphs, as JFT stands beside ImageNet."""

from dataclasses import replace

import numpy as np

from . import glyphs

CLASSES = glyphs.CLASSES
PER_CLASS = {"train": 200, "holdout": 10}
ABOUT = replace(
    glyphs.ABOUT,
    title="Printed letters, digits and signs, four times as many",
    sizes={part: count * len(CLASSES) for part, count in PER_CLASS.items()},
)


def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw the glyphs, the same ones at every call. Returns: as `glyphs.images`."""
    return glyphs.images(PER_CLASS)
