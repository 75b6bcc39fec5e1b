"""Images of the target and of the source classes with the highest and lowest weights."""

import base64
import binascii
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from ... import InputError
from .. import wording
from ..records.suites import Suite, SuiteCell
from ..statistics.ranking import extremes, ranking, weights_frame
from .class_weights import format_weight, listed_weights
from .drawing import Drawing
from .style import INK, MOST_COLUMNS, WIDTH, escape_dollars, new_figure, wrap_label

CELL = 0.7  # inches that an image takes
HEADING, GAP, MARGIN = 0.32, 0.25, 0.06  # inches
IMAGE_DPI = 200  # of images in the page; text and lines are vectors
NUM_IMAGES = 4  # of a class, side by side


@dataclass(frozen=True)
class Pictures:
    """Images of a target, and of the source classes that weigh most and least; rows x columns (x RGB)."""

    source: str
    target: str
    classes: Mapping[str, Sequence[np.ndarray]]
    target_images: Sequence[np.ndarray]


def read_pictures(path: Path) -> Pictures:
    """Return the images that a suite has left for the figure.

    Raises:
        InputError: if the file is not one that `transferbench suite` writes, or an image is no PNG.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8-sig"))
        return Pictures(
            source=written["source"],
            target=written["target"],
            classes={name: [_image(one) for one in images] for name, images in written["classes"].items()},
            target_images=[_image(one) for one in written["target_images"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SyntaxError) as error:
        raise InputError(
            f"{path}: no valid file of images ({type(error).__name__}: {error}); delete it, and"
            " `transferbench suite` writes it again"
        ) from error


def _image(text: str) -> np.ndarray:
    """Return the pixels of a PNG in base64; raises ValueError if it is none."""
    try:
        return imread(BytesIO(base64.b64decode(text, validate=True)), format="png")
    except (binascii.Error, OSError, SyntaxError) as error:
        raise ValueError("an image is no PNG in base64") from error


def class_pictures_figure(
    pictures: Pictures, weights: pd.DataFrame, count: int = 5, columns: int = 1
) -> Figure:
    """Return images of the target, and of the classes of the highest and lowest weight with these.

    Args:
        pictures: from `read_pictures`; a class without images is a row without them.
        weights: one row per source class and one column per seed.
        count: how many classes from each end.
        columns: 1 for the three parts below each other, 3 for side by side.
    """
    highest, lowest = extremes(weights, count)
    parts = [("Highest", highest), ("Lowest", lowest)]
    below = columns == 1
    across, cell = (4, 1.1) if below else (2, CELL)
    target_rows = -(-len(pictures.target_images) // across)
    heights = [HEADING + cell * target_rows, *[HEADING + CELL * len(ranked) for _, ranked in parts]]
    if below:
        lefts, tops = [0.0] * 3, [0.0, heights[0] + GAP, heights[0] + heights[1] + 2 * GAP]
        figure, axes = _sheet(WIDTH, tops[-1] + heights[-1])
    else:
        lefts, tops = [0.0, 2 * CELL + GAP, 2 * CELL + WIDTH + 2 * GAP], [0.0] * 3
        figure, axes = _sheet(lefts[-1] + WIDTH, max(heights))
    _write(axes, 0, 0.1, f"Target: {escape_dollars(pictures.target)}", size=11, weight="bold")
    for place, image in enumerate(pictures.target_images):
        row, column = divmod(place, across)
        _show(axes, image, column * cell, HEADING + row * cell, cell)
    for (name, ranked), left, top in zip(parts, lefts[1:], tops[1:], strict=True):
        _write(
            axes,
            left,
            top + 0.1,
            f"{name} weights in {escape_dollars(pictures.source)}",
            size=11,
            weight="bold",
        )
        for place, found in enumerate(ranked.to_dict("records")):
            images = pictures.classes.get(found["class"], ())
            _show_class(axes, found, images, left, top + HEADING + place * CELL)
    return figure


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure and axes whose coordinates are inches from the upper left."""
    figure = new_figure(width + 2 * MARGIN, height + 2 * MARGIN)
    figure.set_layout_engine("none")
    figure.set_dpi(IMAGE_DPI)
    figure.suppressComposite = True
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-MARGIN, width + MARGIN), ylim=(height + MARGIN, -MARGIN), autoscale_on=False)
    return figure, axes


def _show_class(
    axes: Axes, row: Mapping[Hashable, Any], images: Sequence[np.ndarray], left: float, top: float
) -> None:
    """Draw one class: its name, its weight and its images."""
    name = wrap_label(row["class"], 20)
    _write(axes, left, top + CELL / 2, f"{name}\n{format_weight(row)}", size=10)
    start = left + WIDTH - NUM_IMAGES * CELL
    for place, image in enumerate(images[:NUM_IMAGES]):
        _show(axes, image, start + place * CELL, top, CELL)
    if not images:
        _write(axes, start, top + CELL / 2, "no image", size=9, alpha=0.7)


def _write(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Write text whose middle lies at `y`."""
    style: dict[str, Any] = {"color": INK, "va": "center", "linespacing": 1.25}
    axes.text(x, y, text, **(style | look))


def _show(axes: Axes, image: np.ndarray, left: float, top: float, cell: float) -> None:
    """Draw an image into a square cell, whole and in its own proportions."""
    height, width = image.shape[:2]
    scale = (cell - 0.05) / max(height, width)
    left += (cell - width * scale) / 2
    top += (cell - height * scale) / 2
    extent = (left, left + width * scale, top + height * scale, top)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")


def class_pictures_alternative(pictures: Pictures, weights: pd.DataFrame, count: int = 5) -> str:
    """Return the alternative text: the classes that the figure shows."""
    highest, lowest = extremes(weights, count)
    images = wording.counted(len(pictures.target_images), "image")
    return (
        f"{images} of the target {pictures.target} next to images of classes of {pictures.source}."
        f" Highest weights: {listed_weights(highest, count)}; lowest:"
        f" {listed_weights(lowest[::-1], count)}."
    )


def _pair(cell: SuiteCell) -> str:
    """Return the folder of the runs, below the results folder, by source and target."""
    return cell.runs[0].path.parents[2].name if cell.runs else f"{cell.source}-{cell.target}"


def suite_drawings(suite: Suite, results: Path) -> Iterator[Drawing]:
    """Yield images of the target and of the source classes for each cell with weights and images.

    Raises:
        InputError: if a file of images is broken.
    """
    for cell in suite.cells:
        weights = weights_frame(cell.runs)
        path = results / "suites" / "pictures" / f"{_pair(cell)}.json"
        if len(weights) > 1 and path.exists():
            pictures = read_pictures(path)
            yield Drawing(
                class_pictures_figure(pictures, weights, columns=MOST_COLUMNS),
                ranking(weights),
                f"Images of {cell.column}, and of the source classes of the highest and lowest weight.",
                class_pictures_alternative(pictures, weights),
            )
