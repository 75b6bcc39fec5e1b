"""Figures over several targets: differences from fine-tuning, scores by number of images, and curves.

`columns` is how many targets stand beside each other: one suits a phone, more a wide page or print.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .. import wording
from ..records.comparison import REFERENCE
from .style import BROKEN, INK, NARROWEST, PAPER, ROW, Style, WIDTH, apart, blank, counted, dressed, folded, key, key_height, line, point_out, row_places, settled, step_axis
from ..statistics.paired import mean_interval

ALL = "all"  # as a number of images a class
UNINTERESTING = 0.3  # of the steps: before, curves may leave the axes below
BESIDE = 3.3  # inches of a column that stands beside others


def difference_figure(differences: pd.DataFrame, look: dict[str, Style], columns: int = 1) -> Figure:
    """Return the difference of each method from fine-tuning: one row a method, one panel a target.

    Rows are ordered by their mean over the targets, in all panels alike. The scale is the same in all;
    what lies far outside of the rest is an arrow at the edge with its number.

    Args:
        differences: one row a target and label, with target, label, points, low, high (nan without an
            interval) and claimed (whether it holds after Holm's correction: a filled marker).
        look: the style of each label, from `styles`.
        columns: how many panels stand beside each other.
    """
    means = differences.groupby("label")["points"].mean()
    labels = list(means.sort_values(ascending=False, kind="stable").index)
    targets = list(differences["target"].unique())
    columns = min(columns, len(targets))
    rows = -(-len(targets) // columns)
    width = WIDTH if columns == 1 else 1.7 + 1.5 * columns
    names = [folded(label) for label in labels]
    places, ends = row_places(names)
    by_label = dict(zip(labels, places, strict=True))
    left, right = _common_range(differences)
    figure = blank(width, 0.2 + rows * (0.8 + ROW * ends[-1]))
    for number, target in enumerate(targets):
        axes = dressed(figure.add_subplot(rows, columns, number + 1), target)
        axes.axvline(0, zorder=1, **(BROKEN | {"linestyle": "-"}))
        for low, high in zip(ends[:-1:2], ends[1::2], strict=False):
            axes.axhspan(low, high, color=INK, alpha=0.045, linewidth=0, zorder=0)
        axes.set(xlim=(left, right), ylim=(ends[-1] + 0.1, -0.1))
        _draw_differences(axes, differences[differences["target"] == target], by_label, look)
        axes.set_yticks(places, names if number % columns == 0 else [""] * len(names))
        axes.xaxis.set_major_locator(MaxNLocator(6 if columns == 1 else 4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _signed(x)))
        axes.tick_params(axis="y", pad=8)
        axes.spines["left"].set_visible(False)
    figure.supxlabel("points from fine-tuning; filled: holds after Holm", color=INK, size=10)
    return settled(figure)


def _draw_differences(
    axes: Axes, differences: pd.DataFrame, places: Mapping[str, float], look: dict[str, Style]
) -> None:
    """Draw the differences of one target with their intervals; outside of the axes, arrows with numbers."""
    left, right = axes.get_xlim()
    inside = differences["points"].between(left, right)
    shown, beyond = differences[inside], differences[~inside].dropna(subset=["points"])
    colours = [look[label].colour for label in shown["label"]]
    axes.hlines(shown["label"].map(places), shown["low"], shown["high"], colours, linewidth=2)
    for label, points, claimed in shown[["label", "points", "claimed"]].to_numpy():
        colour, marker, _ = look[label]
        face = colour if claimed else PAPER
        axes.plot(points, places[label], marker, color=colour, markerfacecolor=face, markersize=6.5, zorder=3)
    for label, points in beyond[["label", "points"]].to_numpy():
        edge, toward = (left, "<") if points < left else (right, ">")
        value = wording.number(points, sign=True)
        point_out(axes, (edge, places[label]), toward, value, look[label].colour)


def _signed(points: float) -> str:
    """Return points as a tick shows them."""
    return wording.number(points, 0 if float(points).is_integer() else 1, sign=True)


def _common_range(differences: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the scale: all there is, but not far beyond what most rows need."""
    far = max(4 * float(differences["points"].abs().quantile(0.75)), NARROWEST / 2)
    ends = differences[["points", "low", "high"]].to_numpy(dtype=float)
    low = min(max(float(np.nanmin(ends)), -far), -NARROWEST / 4)
    high = max(min(float(np.nanmax(ends)), far), NARROWEST / 4)
    room = 0.05 * (high - low)
    return low - room, high + room


def difference_alternative(differences: pd.DataFrame) -> str:
    """Return the figure of differences in words."""
    known = differences.dropna(subset=["points"])
    means = known.groupby("label")["points"].mean().sort_values(ascending=False, kind="stable")
    claimed = known[known["claimed"].astype(bool)]
    above, below = (claimed["points"] > 0).sum(), (claimed["points"] < 0).sum()
    best, worst = (f"{means.index[i]} {wording.number(means.iloc[i], sign=True)}" for i in (0, -1))
    ends = f"{best} (highest) to {worst} (lowest)" if len(means) > 1 else best
    return (
        f"Difference from fine-tuning in points, {counted(means, 'method')} on"
        f" {counted(known['target'].unique(), 'target')}; means over targets: {ends}. After Holm's correction"
        f" {above} of {counted(known.index, 'difference')} lie above zero and {below} below."
    )


def shots_figure(
    runs: pd.DataFrame,
    differences: pd.DataFrame,
    look: dict[str, Style],
    score_name: str,
    columns: int = 1,
) -> Figure:
    """Return the score against the images a class, and below it the difference from fine-tuning.

    Numbers of images stand at equal distances. Small points are seeds, large ones means, bars 95 %
    intervals.

    Args:
        runs: one row a run, with target, label, at (images a class, or "all"), seed and score (a share).
        differences: one row a target, label and at, with points, low and high; without rows the scores
            stand alone.
        look: the style of each label, from `styles`.
        score_name: what the score is, for the axis.
        columns: how many targets stand beside each other.
    """
    targets = list(runs["target"].unique())
    labels = _present(look, runs)
    shots = sorted(set(runs["at"].unique()), key=_shots_order)
    columns = min(columns, len(targets))
    rows = -(-len(targets) // columns)
    heights = [2.1, 1.35][: 1 if differences.empty else 2]
    width = WIDTH if columns == 1 else BESIDE * columns
    figure = blank(width, rows * (sum(heights) + 0.3) + key_height(labels, width))
    grid = figure.add_gridspec(len(heights) * rows, columns, height_ratios=heights * rows)
    for place, target in enumerate(targets):
        row, column = divmod(place, columns)
        scores = dressed(figure.add_subplot(grid[len(heights) * row, column]), target)
        _score_lines(scores, runs[runs["target"] == target], labels, shots, look)
        below = [scores]
        if len(heights) > 1:
            below.append(dressed(figure.add_subplot(grid[2 * row + 1, column])))
            own = differences[differences["target"] == target]
            _difference_lines(below[1], own, labels, shots, look)
        for axes, name in zip(below, (f"{score_name}, %", "from fine-tuning,\npoints"), strict=False):
            axes.set_xlim(-0.4, len(shots) - 0.6)
            axes.set_xticks(
                range(len(shots)), [str(at) for at in shots] if axes is below[-1] else [""] * len(shots)
            )
            axes.grid(color=INK, alpha=0.12)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            if column == 0:
                axes.set_ylabel(name)
        if place + columns >= len(targets):
            below[-1].set_xlabel("images a class")
    key(figure, {label: line(look[label], marker=True) for label in labels})
    return settled(figure)


def _present(look: dict[str, Style], frame: pd.DataFrame) -> list[str]:
    """Return the labels of a table, in the order of their styles."""
    labels = set(frame["label"].unique())
    return [label for label in look if label in labels]


def _shots_order(at: object) -> float:
    """Return what numbers of images are sorted by; all of them come last."""
    return math.inf if at == ALL else float(str(at))


def _score_lines(
    axes: Axes, runs: pd.DataFrame, labels: Sequence[str], shots: Sequence[object], look: dict[str, Style]
) -> None:
    """Draw the scores of one target, a line a label."""
    for label, shift in _shifts(labels):
        own = runs[runs["label"] == label]
        found = [100 * own.loc[own["at"] == at].sort_values("seed")["score"].to_numpy() for at in shots]
        where = np.concatenate([place + shift + apart(scores, 0.03) for place, scores in enumerate(found)])
        axes.scatter(where, np.concatenate(found), s=9, color=look[label].colour, alpha=0.5, linewidths=0)
        _line(axes, np.arange(len(shots)) + shift, [mean_interval(scores) for scores in found], look[label])


def _difference_lines(
    axes: Axes,
    differences: pd.DataFrame,
    labels: Sequence[str],
    shots: Sequence[object],
    look: dict[str, Style],
) -> None:
    """Draw the differences of one target, a line a label."""
    axes.axhline(0, zorder=1, **BROKEN)
    others = [label for label in labels if label != REFERENCE]
    for label, shift in _shifts(others):
        own = differences[differences["label"] == label].set_index("at")[["points", "low", "high"]]
        _line(axes, np.arange(len(shots)) + shift, own.reindex(list(shots)).to_numpy(), look[label])


def _shifts(labels: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield labels with how far each is moved to the side, so that bars do not cover one another."""
    step = min(0.12, 0.6 / max(len(labels), 1))
    for place, label in enumerate(labels):
        yield label, step * (place - (len(labels) - 1) / 2)


def _line(axes: Axes, where: np.ndarray, estimates: Any, style: Style) -> None:
    """Draw estimates (value, low, high) with their bars and a thin line through them."""
    value, low, high = np.asarray(estimates, dtype=float).T
    known = ~np.isnan(value)
    axes.plot(where[known], value[known], color=style.colour, linestyle=style.dash, linewidth=1.3)
    axes.vlines(where, low, high, color=style.colour, linewidth=2)
    axes.plot(where, value, style.marker, color=style.colour, markeredgecolor=PAPER, markersize=6.5, zorder=3)


def shots_alternative(runs: pd.DataFrame, differences: pd.DataFrame, score_name: str) -> str:
    """Return the figure of low-shot scores in words."""
    shots = sorted(set(runs["at"].unique()), key=_shots_order)
    text = (
        f"{score_name} on the test part against {shots[0]} to {shots[-1]} images a class,"
        f" {counted(runs['label'].unique(), 'method')} on {counted(runs['target'].unique(), 'target')}."
    )
    known = differences.dropna(subset=["points"])
    if known.empty:
        return text
    most = known.iloc[known["points"].abs().argmax()]
    apart_from_zero = ((known["low"] > 0) | (known["high"] < 0)).sum()
    number = wording.estimate(most["points"], most["low"], most["high"], sign=True)
    return (
        f"{text} Largest difference from fine-tuning: {most['label']} on {most['target']} at {most['at']}"
        f" a class, {number} points; {apart_from_zero} of {counted(known.index, 'interval')}"
        " leave out zero, uncorrected."
    )


def curves_figure(curve: pd.DataFrame, look: dict[str, Style], score_name: str, columns: int = 1) -> Figure:
    """Return the holdout score against the step: one panel a target, a line a method (mean over seeds).

    Thin lines are seeds. The axis shows the scores of the later steps; before, curves may come from below it.

    Args:
        curve: one row a run and step, with target, label, seed, step and score (a share).
        look: the style of each label, from `styles`.
        score_name: what the score is, for the axis.
        columns: how many targets stand beside each other.
    """
    means = curve_means(curve)
    targets = list(curve["target"].unique())
    labels = _present(look, curve)
    columns = min(columns, len(targets))
    rows = -(-len(targets) // columns)
    width = WIDTH if columns == 1 else BESIDE * columns
    figure = blank(width, 2.6 * rows + 0.2 + key_height(labels, width))
    for place, target in enumerate(targets):
        axes = dressed(figure.add_subplot(rows, columns, place + 1), target)
        own = means[means["target"] == target]
        seeds = curve[curve["target"] == target].sort_values("step", kind="stable")
        for label in labels:
            found = own[own["label"] == label]
            colour, _, dash = look[label]
            for _, seed in seeds[seeds["label"] == label].groupby("seed"):
                axes.plot(seed["step"], 100 * seed["score"], color=colour, alpha=0.35, linewidth=0.7)
            axes.plot(found["step"], found["score"], color=colour, linestyle=dash, linewidth=1.9, zorder=3)
        axes.set_ylim(*_late_range(seeds))
        axes.grid(color=INK, alpha=0.12)
        step_axis(axes)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        if place % columns == 0:
            axes.set_ylabel(f"{score_name}, %")
        if place + columns >= len(targets):
            axes.set_xlabel("step")
    key(figure, {label: line(look[label]) for label in labels})
    return settled(figure)


def curve_means(curve: pd.DataFrame) -> pd.DataFrame:
    """Return target, label, step and mean score in percent: the thick lines of the figure of curves.

    A step that not all seeds of a label reached is left out: there the mean would be of other seeds.
    """
    by_step = curve.groupby(["target", "label", "step"], sort=False)["score"].agg(["mean", "size"])
    whole = by_step.groupby(["target", "label"], sort=False)["size"].transform("max")
    kept = (
        by_step[by_step["size"] == whole].reset_index().sort_values("step", kind="stable", ignore_index=True)
    )
    return kept[["target", "label", "step"]].assign(score=100 * kept["mean"])


def _late_range(curve: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the axis, in percent: the scores of all seeds after the first steps."""
    late = 100 * curve.loc[curve["step"] >= UNINTERESTING * curve["step"].max(), "score"]
    low, high = late.min(), late.max()
    room = max((high - low) / 20, NARROWEST / 4)
    return max(low - room, 0), min(high + room, 100.5)


def curves_alternative(curve: pd.DataFrame, score_name: str) -> str:
    """Return the figure of curves in words: which mean is highest at the end, and which comes next."""
    means = curve_means(curve)
    ends = means.sort_values("step").groupby(["target", "label"], sort=False).last()["score"].reset_index()
    parts = []
    for target in curve["target"].unique():
        own = ends[ends["target"] == target].sort_values("score", ascending=False, kind="stable")
        found = [f"{row['label']} {wording.number(row['score'])}" for _, row in own.iterrows()]
        parts.append(f"{target}: {found[0]}" + (f", then {found[1]}" if len(found) > 1 else ""))
    return (
        f"{score_name} on the holdout part while training, {counted(curve['label'].unique(), 'method')} on"
        f" {counted(parts, 'target')}. Highest means at the last step, in percent: {'; '.join(parts)}."
    )
