"""Colors, sizes, axes and legends that all figures share.

A figure is a function from a table to a matplotlib Figure; nothing global is touched. It is drawn with INK
for text and PAPER for the background; a web page replaces the two by its own colors.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .. import wording
from ..records.comparison import in_order
from ..statistics.percent import NARROWEST

INK, PAPER = "#1d2330", "#fefefe"
# of seaborn's color-blind palette, without its yellow and its pink: too pale
HUES = (0, 1, 2, 3, 4, 9, 5, 7)
MARKERS = "osD^v"
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
BESIDE = 3.3  # inches of a column next to others
MOST_COLUMNS = 3  # targets side by side
WIDTH = 4.6  # inches of one column: letters of 10 points are 9 pixels high on a page of 360
LETTERS = 12.2  # of 10 points in an inch
HANDLE = 6  # letters that a line or marker takes in a legend, with the space around it
ROW, TWO_LINES = 0.21, 1.7  # inches of a row with one line, rows that two lines take
BAR: dict[str, Any] = {"solid_capstyle": "butt", "zorder": 2}  # a bar ends where its interval does
DASHED: dict[str, Any] = {"color": INK, "alpha": 0.45, "linewidth": 1, "linestyle": (0, (4, 3))}


class Style(NamedTuple):
    """How a label looks in every figure."""

    color: str
    marker: str
    dash: Any  # a line style, as matplotlib takes it


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Return a style for each label, fine-tuning first, distinct for color-blind readers.

    From one label to the next color, marker and dash all change; 40 labels pass before a style comes
    back. Call it once with all labels: then a label looks the same in every figure.
    """
    palette = sns.color_palette("colorblind").as_hex()
    return {
        label: Style(palette[HUES[i % len(HUES)]], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, label in enumerate(in_order(labels))
    }


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def freeze_layout(figure: Figure) -> Figure:
    """Return the figure with everything in its final place: it is drawn for several formats."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def style_axes(axes: Axes, title: str = "") -> Axes:
    """Return the axes in our style."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.5)
    axes.tick_params(colors=INK, length=0, labelsize=10)
    axes.xaxis.label.set(color=INK, size=10)
    axes.yaxis.label.set(color=INK, size=10)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(escape_dollars(title), loc="left", color=INK, size=11, weight="bold")
    return axes


def step_axis(axes: Axes) -> None:
    """Label an axis of steps."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: wording.count(step)))


def signed(points: float) -> str:
    """Return points as a tick shows them."""
    return wording.number(points, 0 if float(points).is_integer() else 1, sign=True)


def legend_line(style: Style, marker: bool = False) -> Line2D:
    """Return the legend entry of a label."""
    return Line2D(
        [], [], color=style.color, linestyle=style.dash, linewidth=2, marker=style.marker if marker else ""
    )


def add_legend(figure: Figure, handles: Mapping[str, Artist], above: bool = True) -> None:
    """Put the names of lines or markers above or below all axes."""
    ncols, names = _legend_columns(list(handles), figure.get_figwidth())
    legend = figure.legend(
        list(handles.values()),
        names,
        loc="outside upper left" if above else "outside lower left",
        ncols=ncols,
        frameon=False,
        fontsize=10,
    )
    for text in legend.get_texts():
        text.set_color(INK)


def legend_height(names: Sequence[str], width: float) -> float:
    """Return the inches that the legend of these names takes in a figure of this width."""
    ncols, folds = _legend_columns(names, width)
    lines = sum(1 + fold.count("\n") for fold in folds)
    return 0.15 + 0.21 * -(-lines // ncols)


def _legend_columns(names: Sequence[str], width: float) -> tuple[int, list[str]]:
    """Return the number of columns of a legend, and the names broken into lines that fit."""
    letters = int(LETTERS * width)
    fit = letters // (HANDLE + max(map(len, names)))
    ncols = min(len(names), max(1, fit, 2 if len(names) > 8 else 1))
    return ncols, [wrap_label(name, letters // ncols - HANDLE) for name in names]


def wrap_label(name: object, letters: int = 22) -> str:
    """Return a name broken into at most two lines, to leave room for the drawing."""
    return escape_dollars(
        textwrap.fill(str(name), letters, max_lines=2, placeholder=" …", break_on_hyphens=False)
    )


def escape_dollars(text: object) -> str:
    """Return the text as matplotlib shows it letter by letter: no formula begins at a dollar."""
    return str(text).replace("$", r"\$")


def mark_off_scale(axes: Axes, edge: tuple[float, float], toward: str, value: str, color: str) -> None:
    """Draw an arrow ("<", ">" or "v") at the edge of the axes, with the value beyond it."""
    right = -1 if toward == ">" else 1
    axes.plot(*edge, toward, color=color, markersize=7, clip_on=False, zorder=3)
    axes.annotate(
        value,
        edge,
        (8 * right, 3 if toward == "v" else 0),
        textcoords="offset points",
        ha="left" if right > 0 else "right",
        va="bottom" if toward == "v" else "center_baseline",
        size=9,
        color=INK,
    )


def lowest_shown(scores: pd.Series) -> float:
    """Return the lowest of the scores in percent that is not far below the others."""
    middle, highest = scores.median(), scores.max()
    return float(scores[scores >= middle - 3 * max(highest - middle, NARROWEST / 2)].min())


def row_places(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of each row and the ends of all rows; a row of two lines is higher than 1."""
    ends = np.cumsum([0.0] + [TWO_LINES if "\n" in name else 1.0 for name in names])
    return (ends[1:] + ends[:-1]) / 2, ends


def jitter(values: Sequence[float] | np.ndarray, by: float = 0.05) -> np.ndarray:
    """Return offsets that keep the points of seeds from hiding one another."""
    return by * ((np.arange(len(values)) + 1) % 3 - 1)


def present(look: dict[str, Style], frame: pd.DataFrame) -> list[str]:
    """Return the labels of a table, in the order of their styles."""
    labels = set(frame["label"].unique())
    return [label for label in look if label in labels]


def num_columns(frame: pd.DataFrame) -> int:
    """Return the number of targets per row that makes the rows of panels equally long."""
    num_targets = frame["target"].nunique()
    return math.ceil(num_targets / math.ceil(num_targets / MOST_COLUMNS))
