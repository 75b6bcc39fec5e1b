"""A larger source for the embedded pair: four times as many glyphs, like JFT compared with ImageNet."""

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
    """Draw the glyphs; every call returns the same. See `glyphs.images`."""
    return glyphs.images(PER_CLASS)
