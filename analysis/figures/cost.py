"""Scores against seconds of training, with the accuracy-time Pareto front."""

import itertools
import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from .. import wording
from ..records.comparison import REFERENCE, Comparison
from ..records.load import runs_frame, score_name
from ..statistics.paired import percent_interval
from ..statistics.pareto import pareto_front
from ..statistics.percent import NARROWEST, percent_range
from .drawing import Drawing
from .style import (
    BAR,
    INK,
    PAPER,
    WIDTH,
    Style,
    add_legend,
    freeze_layout,
    legend_height,
    lowest_shown,
    mark_off_scale,
    new_figure,
    style_axes,
    wrap_label,
)

PLACES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1.4), (0, -1.4))  # of a name about its point
NEAR = 4  # points between a name and its point that need no line
DISTANCES = (NEAR, 12, 22, 34, 48, 64, 84)
FAR = 8  # square pixels that may be hidden to be a point nearer


def cost_figure(runs: pd.DataFrame, look: dict[str, Style], score_name: str) -> Figure:
    """Return the score against the seconds of training, with the Pareto front and the names on it.

    Bars are the score's 95 % interval over seeds, and the shortest and the longest run. A score far
    below the others is an arrow at the lower edge, with its number.

    Args:
        runs: one row per run of one comparison, as `runs_frame` gives them: label, seed, score (a share),
            train_seconds, pretraining_own_seconds and device.
        look: the style of each label, from `styles`.
        score_name: name of the score, for the axis.
    """
    means = cost_means(runs)
    handles = {label: _dot(style) for label, style in look.items() if label in set(means["label"])}
    figure = new_figure(WIDTH, 3.5 + legend_height(list(handles), WIDTH))
    axes = style_axes(figure.add_subplot())
    _set_ends(axes, means)
    front = means[means["on_front"]]
    axes.step(front["seconds"], front["score"], where="post", color=INK, alpha=0.5, linewidth=1.2, zorder=1)
    for mean in means.to_dict("records"):
        _draw_point(axes, mean, look[mean["label"]])
    axes.set_xlabel(f"{_whose(runs)}-seconds of training and own pre-training")
    axes.set_ylabel(f"{score_name} on the test part, %")
    axes.grid(color=INK, alpha=0.12)
    add_legend(figure, handles, above=False)
    freeze_layout(figure)
    _name_points(figure, axes, means, set(front["label"]) | {REFERENCE})
    return figure


def cost_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per label, the fastest first: the data of the cost figure.

    Columns: label, mean score in percent with low and high, mean seconds with seconds_low and
    seconds_high (the shortest and the longest run), num_seeds, on_front.
    """
    rows = []
    for label, group in runs.groupby("label"):
        score, low, high = percent_interval(group["score"])
        seconds = group["train_seconds"] + group["pretraining_own_seconds"]
        rows.append(
            {
                "label": label,
                "score": score,
                "low": low,
                "high": high,
                "seconds": seconds.mean(),
                "seconds_low": seconds.min(),
                "seconds_high": seconds.max(),
                "num_seeds": len(group),
            }
        )
    means = pd.DataFrame(rows).sort_values(["seconds", "label"], ignore_index=True)
    return means.assign(on_front=means.index.isin(pareto_front(means).index))


def _whose(runs: pd.DataFrame) -> str:
    """Return whose seconds they are: "CPU", "GPU" or both."""
    return " and ".join(sorted({"CPU" if device.startswith("cpu") else "GPU" for device in runs["device"]}))


def _dot(style: Style) -> Line2D:
    """Return the legend entry of a point."""
    return Line2D([], [], color=style.color, marker=style.marker, linestyle="", markersize=7)


def _set_ends(axes: Axes, means: pd.DataFrame) -> None:
    """Set the ends of the axes: all seconds, and all scores with intervals but those far below the others."""
    shortest, longest = means["seconds_low"].min(), means["seconds_high"].max()
    room = max(1.3, math.sqrt(6 * shortest / longest))  # two ticks at least
    axes.set_xscale("log")
    axes.set_xlim(shortest / room, longest * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if longest > 100 * shortest else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    shown = means[means["score"] >= lowest_shown(means["score"])]
    lowest, highest = np.nanmin(shown[["score", "low"]]), np.nanmax(shown[["score", "high"]])
    above = max((highest - lowest) / 12, NARROWEST / 8)
    axes.set_ylim(*percent_range(lowest - above, highest + above))


def _draw_point(axes: Axes, mean: dict[Hashable, Any], style: Style) -> None:
    """Draw one method; below the lower edge it is an arrow with its score."""
    seconds, score, color = mean["seconds"], mean["score"], style.color
    edge = axes.get_ylim()[0]
    if score < edge:
        mark_off_scale(axes, (seconds, edge), "v", wording.number(score), color)
        return
    bar: dict[str, Any] = {"color": color, "linewidth": 1.3, "alpha": 0.65, **BAR}
    axes.plot([seconds] * 2, [mean["low"], mean["high"]], **bar)
    axes.plot([mean["seconds_low"], mean["seconds_high"]], [score] * 2, **bar)
    axes.plot(
        seconds,
        score,
        style.marker,
        color=color,
        markeredgecolor=PAPER,
        markersize=8,
        zorder=3,
        clip_on=False,
    )


def _name_points(figure: Figure, axes: Axes, means: pd.DataFrame, named: set[str]) -> None:
    """Write names next to their points, where each covers little of points and of other names.

    From a name that is further off a thin line leads to its point.
    """
    inside, pixels = axes.get_window_extent(), figure.dpi / 72  # of a point of type
    middles = axes.transData.transform(means[["seconds", "score"]].to_numpy())
    taken = [Bbox.from_extents(x - 7, y - 7, x + 7, y + 7) for x, y in middles]
    shown = means["label"].isin(named) & (means["score"] >= axes.get_ylim()[0])
    for label, middle in zip(means.loc[shown, "label"], middles[shown], strict=True):
        text = axes.annotate(
            wrap_label(label),
            tuple(axes.transData.inverted().transform(middle)),
            (0, 0),
            textcoords="offset points",
            va="bottom",
            size=10,
            color=INK,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.7},
        )
        text.get_window_extent()  # brings it to its place
        extent = Text.get_window_extent(text)
        width, height = extent.width / pixels, extent.height / pixels
        tried = [
            (distance, distance * right - width * (1 - right) / 2, distance * up - height * (up < 0))
            for distance, (right, up) in itertools.product(DISTANCES, PLACES)
        ]
        boxes = [
            Bbox.from_bounds(middle[0] + pixels * x, middle[1] + pixels * y, extent.width, extent.height)
            for _, x, y in tried
        ]
        costs = [
            _hidden(box, taken, inside) + FAR * place[0] for box, place in zip(boxes, tried, strict=True)
        ]
        best = int(np.argmin(costs))
        distance, x, y = tried[best]
        text.xyann = (x, y)
        if text.arrow_patch is not None:
            text.arrow_patch.set_visible(distance > NEAR)
        taken.append(boxes[best])


def _hidden(box: Bbox, taken: list[Bbox], inside: Bbox) -> float:
    """Return the area, in pixels, that a box covers of others, and four times the area outside."""
    covered = [Bbox.intersection(box, other) for other in taken]
    area = sum(both.width * both.height for both in covered if both is not None)
    kept = Bbox.intersection(box, inside)
    return area + 4 * (box.width * box.height - (0 if kept is None else kept.width * kept.height))


def comparison_drawing(comparison: Comparison, look: dict[str, Style]) -> Drawing:
    """Return score against training time for the methods of a comparison."""
    frame = runs_frame(comparison.runs)
    return Drawing(cost_figure(frame, look, score_name(comparison.metric)), cost_means(frame))
