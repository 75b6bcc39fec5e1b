"""Figures of what was learned about the source classes: their weights by seed, and how they look."""

import base64
import binascii
import json
import math
from collections.abc import Hashable, Mapping, Sequence
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
from .style import BROKEN, INK, PAPER, WIDTH, apart, blank, counted, dressed, folded, plain, row_places, settled
from ..statistics.ranking import extremes, rank_correlation

HIGHEST, LOWEST = "#0173b2", "#d55e00"  # blue and vermilion of the colour-blind palette
CELL = 0.7  # inches that an image takes
HEADING, GAP, MARGIN = 0.32, 0.25, 0.06  # inches
IMAGE_DPI = 200  # of images in a page; letters and lines have none there
NUM_IMAGES = 4  # of a class, beside each other


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
        InputError: if the file is not what `transferbench suite` writes, or an image is no PNG.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return Pictures(
            source=written["source"],
            target=written["target"],
            classes={name: [_image(one) for one in images] for name, images in written["classes"].items()},
            target_images=[_image(one) for one in written["target_images"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SyntaxError) as error:
        raise InputError(
            f"{path}: no whole file of pictures ({type(error).__name__}: {error}); delete it, and"
            " `transferbench suite` writes it again"
        ) from error


def _image(text: str) -> np.ndarray:
    """Return the pixels of a PNG in base64; raises a ValueError where it is none."""
    try:
        return imread(BytesIO(base64.b64decode(text, validate=True)), format="png")
    except (binascii.Error, OSError, SyntaxError) as error:
        raise ValueError("an image is no PNG in base64") from error


def weights_figure(weights: pd.DataFrame, count: int = 10) -> Figure:
    """Return the weights of the highest and lowest classes, a point a seed: what is stable, and what noise.

    Args:
        weights: one row a source class and one column a seed.
        count: how many classes from each end.
    """
    highest, lowest = extremes(weights, count)
    shown = pd.concat([highest, lowest], ignore_index=True)
    names = [folded(name, 24) for name in shown["class"]]
    middle = len(highest)
    places, ends = row_places([*names[:middle], "", *names[middle:]])
    figure = blank(WIDTH, 0.8 + 0.25 * ends[-1])
    axes = dressed(figure.add_subplot())
    axes.axvline(weights.to_numpy().mean(), zorder=1, **BROKEN)
    for rank, row in enumerate(shown.to_dict("records")):
        place, colour = (places[rank], HIGHEST) if rank < middle else (places[rank + 1], LOWEST)
        found = weights.loc[row["class"]].to_numpy()
        axes.plot([row["mean"]] * 2, [place - 0.34, place + 0.34], color=colour, linewidth=2.4, zorder=2)
        axes.scatter(
            found, place + apart(found, 0.17), s=22, color=colour, alpha=0.7, edgecolors=PAPER, linewidths=0.5
        )
    axes.set_yticks(np.delete(places, middle), names)
    axes.set_ylim(ends[-1] + 0.1, -0.1)
    between = range(len(weights) - len(shown))
    axes.text(
        weights.to_numpy().mean(),
        places[middle],
        f"{counted(between, 'class', 'classes')} between",
        ha="center",
        va="center",
        size=9,
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
    )
    axes.set_xlabel("policy weight (broken line: mean of all classes)", loc="right")
    axes.grid(axis="x", color=INK, alpha=0.12)
    axes.spines["left"].set_visible(False)
    return settled(figure)


def weights_alternative(weights: pd.DataFrame, count: int = 10) -> str:
    """Return the figure of weights in words, with how much the ranking depends on the seed."""
    highest, lowest = extremes(weights, count)
    correlation = rank_correlation(weights)
    stable = (
        "One seed alone does not show how stable the ranking is."
        if math.isnan(correlation)
        else f"Rank correlation between seeds, on average: {wording.number(correlation, 2)}."
    )
    return (
        f"Weights of {counted(weights.index, 'source class', 'source classes')} from"
        f" {counted(weights.columns, 'seed')}. Highest: {_listed(highest)}; lowest:"
        f" {_listed(lowest[::-1])}. {stable}"
    )


def _listed(ranked: pd.DataFrame, most: int = 3) -> str:
    """Return the first classes with their weights."""
    return ", ".join(f"{row['class']} {_weight(row)}" for row in ranked.head(most).to_dict("records"))


def _weight(row: Mapping[Hashable, Any]) -> str:
    """Return the mean weight and its spread over seeds."""
    spread = "" if math.isnan(row["deviation"]) else f" ± {wording.number(row['deviation'], 2)}"
    return f"{wording.number(row['mean'], 2)}{spread}"


def class_pictures_figure(
    pictures: Pictures, weights: pd.DataFrame, count: int = 5, columns: int = 1
) -> Figure:
    """Return images of the target, and of the classes of the highest and lowest weight with these.

    Args:
        pictures: from `read_pictures`; a class without images is a row without them.
        weights: one row a source class and one column a seed.
        count: how many classes from each end.
        columns: 1 for the three parts below each other, 3 for beside each other.
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
    _write(axes, 0, 0.1, f"Target: {plain(pictures.target)}", size=11, weight="bold")
    for place, image in enumerate(pictures.target_images):
        row, column = divmod(place, across)
        _show(axes, image, column * cell, HEADING + row * cell, cell)
    for (name, ranked), left, top in zip(parts, lefts[1:], tops[1:], strict=True):
        _write(axes, left, top + 0.1, f"{name} weights in {plain(pictures.source)}", size=11, weight="bold")
        for place, found in enumerate(ranked.to_dict("records")):
            images = pictures.classes.get(found["class"], ())
            _show_class(axes, found, images, left, top + HEADING + place * CELL)
    return figure


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure and axes whose coordinates are inches from the upper left."""
    figure = blank(width + 2 * MARGIN, height + 2 * MARGIN)
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
    name = folded(row["class"], 20)
    _write(axes, left, top + CELL / 2, f"{name}\n{_weight(row)}", size=10)
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
    """Return the figure of images in words: which classes it shows, and how many images of each."""
    highest, lowest = extremes(weights, count)
    return (
        f"{counted(pictures.target_images, 'image')} of the target {pictures.target} beside images of classes"
        f" of {pictures.source}. Highest weights: {_listed(highest, count)}; lowest:"
        f" {_listed(lowest[::-1], count)}."
    )
