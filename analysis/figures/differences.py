"""Differences from fine-tuning over several targets."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .. import wording
from ..statistics.percent import NARROWEST
from .style import (
    DASHED,
    INK,
    PAPER,
    ROW,
    WIDTH,
    Style,
    freeze_layout,
    mark_off_scale,
    new_figure,
    row_places,
    signed,
    style_axes,
    wrap_label,
)


def difference_figure(differences: pd.DataFrame, look: dict[str, Style], columns: int = 1) -> Figure:
    """Return the difference of each method from fine-tuning: one row per method, one panel per target.

    Rows are ordered by their mean over the targets, in all panels alike. The scale is the same in all;
    a value far outside of the rest is an arrow at the edge with its number.

    Args:
        differences: one row per target and label, with target, label, points, low, high (nan without an
            interval) and significant (after Holm correction: a filled marker).
        look: the style of each label, from `styles`.
        columns: number of panels side by side.
    """
    means = differences.groupby("label")["points"].mean()
    labels = list(means.sort_values(ascending=False, kind="stable").index)
    targets = list(differences["target"].unique())
    columns = min(columns, len(targets))
    rows = -(-len(targets) // columns)
    width = WIDTH if columns == 1 else 1.7 + 1.5 * columns
    names = [wrap_label(label) for label in labels]
    places, ends = row_places(names)
    by_label = dict(zip(labels, places, strict=True))
    left, right = _common_range(differences)
    figure = new_figure(width, 0.2 + rows * (0.8 + ROW * ends[-1]))
    for number, target in enumerate(targets):
        axes = style_axes(figure.add_subplot(rows, columns, number + 1), target)
        axes.axvline(0, zorder=1, **(DASHED | {"linestyle": "-"}))
        for low, high in zip(ends[:-1:2], ends[1::2], strict=False):
            axes.axhspan(low, high, color=INK, alpha=0.045, linewidth=0, zorder=0)
        axes.set(xlim=(left, right), ylim=(ends[-1] + 0.1, -0.1))
        _draw_differences(axes, differences[differences["target"] == target], by_label, look)
        axes.set_yticks(places, names if number % columns == 0 else [""] * len(names))
        axes.xaxis.set_major_locator(MaxNLocator(6 if columns == 1 else 4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: signed(x)))
        axes.tick_params(axis="y", pad=8)
        axes.spines["left"].set_visible(False)
    figure.supxlabel("points from fine-tuning (filled: significant)", color=INK, size=10)
    return freeze_layout(figure)


def _draw_differences(
    axes: Axes, differences: pd.DataFrame, places: Mapping[str, float], look: dict[str, Style]
) -> None:
    """Draw the differences of one target with their intervals; outside of the axes, arrows with numbers."""
    left, right = axes.get_xlim()
    inside = differences["points"].between(left, right)
    shown, beyond = differences[inside], differences[~inside].dropna(subset=["points"])
    colors = [look[label].color for label in shown["label"]]
    axes.hlines(shown["label"].map(places), shown["low"], shown["high"], colors, linewidth=2)
    for label, points, significant in shown[["label", "points", "significant"]].to_numpy():
        color, marker, _ = look[label]
        face = color if significant else PAPER
        axes.plot(points, places[label], marker, color=color, markerfacecolor=face, markersize=6.5, zorder=3)
    for label, points in beyond[["label", "points"]].to_numpy():
        edge, toward = (left, "<") if points < left else (right, ">")
        value = wording.number(points, sign=True)
        mark_off_scale(axes, (edge, places[label]), toward, value, look[label].color)


def _common_range(differences: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the scale: all values, but not far beyond those of most rows."""
    far = max(4 * float(differences["points"].abs().quantile(0.75)), NARROWEST / 2)
    ends = differences[["points", "low", "high"]].to_numpy(dtype=float)
    low = min(max(float(np.nanmin(ends)), -far), -NARROWEST / 4)
    high = max(min(float(np.nanmax(ends)), far), NARROWEST / 4)
    room = 0.05 * (high - low)
    return low - room, high + room
