"""Scores against the number of images per class."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import wording
from ..records.comparison import REFERENCE
from ..records.load import score_name
from ..records.suites import Suite, SuiteCell
from ..statistics.paired import paired_difference, percent_interval
from .drawing import Drawing
from .style import (
    BESIDE,
    DASHED,
    INK,
    PAPER,
    WIDTH,
    Style,
    add_legend,
    freeze_layout,
    jitter,
    legend_height,
    legend_line,
    new_figure,
    num_columns,
    present,
    style_axes,
    styles,
)

ALL = "all"  # as a number of images per class


def shots_figure(
    runs: pd.DataFrame,
    differences: pd.DataFrame,
    look: dict[str, Style],
    score_name: str,
    columns: int = 1,
) -> Figure:
    """Return the score against the images per class, and below it the difference from fine-tuning.

    Numbers of images are at equal distances. Small points are seeds, large points are means, bars 95 %
    intervals.

    Args:
        runs: one row per run, with target, label, at (images per class, or "all"), seed and score (a share).
        differences: one row per target, label and at, with points, low and high; if empty, only the scores
            are drawn.
        look: the style of each label, from `styles`.
        score_name: name of the score, for the axis.
        columns: number of targets side by side.
    """
    targets = list(runs["target"].unique())
    labels = present(look, runs)
    shots = sorted(set(runs["at"].unique()), key=_shots_order)
    columns = min(columns, len(targets))
    rows = -(-len(targets) // columns)
    heights = [2.1, 1.35][: 1 if differences.empty else 2]
    width = WIDTH if columns == 1 else BESIDE * columns
    figure = new_figure(width, rows * (sum(heights) + 0.3) + legend_height(labels, width))
    grid = figure.add_gridspec(len(heights) * rows, columns, height_ratios=heights * rows)
    for place, target in enumerate(targets):
        row, column = divmod(place, columns)
        scores = style_axes(figure.add_subplot(grid[len(heights) * row, column]), target)
        _score_lines(scores, runs[runs["target"] == target], labels, shots, look)
        below = [scores]
        if len(heights) > 1:
            below.append(style_axes(figure.add_subplot(grid[2 * row + 1, column])))
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
            below[-1].set_xlabel("images per class")
    add_legend(figure, {label: legend_line(look[label], marker=True) for label in labels})
    return freeze_layout(figure)


def _shots_order(at: object) -> float:
    """Return the sort key of a number of images; "all" comes last."""
    return math.inf if at == ALL else float(str(at))


def _score_lines(
    axes: Axes, runs: pd.DataFrame, labels: Sequence[str], shots: Sequence[object], look: dict[str, Style]
) -> None:
    """Draw the scores of one target, one line per label."""
    for label, shift in _shifts(labels):
        own = runs[runs["label"] == label]
        found = [100 * own.loc[own["at"] == at].sort_values("seed")["score"].to_numpy() for at in shots]
        where = np.concatenate([place + shift + jitter(scores, 0.03) for place, scores in enumerate(found)])
        axes.scatter(where, np.concatenate(found), s=9, color=look[label].color, alpha=0.5, linewidths=0)
        _line(
            axes,
            np.arange(len(shots)) + shift,
            [percent_interval(scores / 100) for scores in found],
            look[label],
        )


def _difference_lines(
    axes: Axes,
    differences: pd.DataFrame,
    labels: Sequence[str],
    shots: Sequence[object],
    look: dict[str, Style],
) -> None:
    """Draw the differences of one target, one line per label."""
    axes.axhline(0, zorder=1, **DASHED)
    others = [label for label in labels if label != REFERENCE]
    for label, shift in _shifts(others):
        own = differences[differences["label"] == label].set_index("at")[["points", "low", "high"]]
        _line(axes, np.arange(len(shots)) + shift, own.reindex(list(shots)).to_numpy(), look[label])


def _shifts(labels: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield labels, each with a shift to the side that keeps bars from covering each other."""
    step = min(0.12, 0.6 / max(len(labels), 1))
    for place, label in enumerate(labels):
        yield label, step * (place - (len(labels) - 1) / 2)


def _line(axes: Axes, where: np.ndarray, estimates: Any, style: Style) -> None:
    """Draw estimates (value, low, high) with their bars and a thin line through them."""
    value, low, high = np.asarray(estimates, dtype=float).T
    known = ~np.isnan(value)
    axes.plot(where[known], value[known], color=style.color, linestyle=style.dash, linewidth=1.3)
    axes.vlines(where, low, high, color=style.color, linewidth=2)
    axes.plot(where, value, style.marker, color=style.color, markeredgecolor=PAPER, markersize=6.5, zorder=3)


def shots_alternative(runs: pd.DataFrame, differences: pd.DataFrame, score_name: str) -> str:
    """Return the alternative text of the figure."""
    shots = sorted(set(runs["at"].unique()), key=_shots_order)
    methods = wording.counted(runs["label"].nunique(), "method")
    text = (
        f"{score_name} on the test part against {shots[0]} to {shots[-1]} images per class, {methods} on"
        f" {wording.counted(runs['target'].nunique(), 'target')}."
    )
    known = differences.dropna(subset=["points"])
    if known.empty:
        return text
    most = known.iloc[known["points"].abs().argmax()]
    num_excluding = ((known["low"] > 0) | (known["high"] < 0)).sum()
    number = wording.estimate(most["points"], most["low"], most["high"], sign=True)
    return (
        f"{text} Largest difference from fine-tuning: {most['label']} on {most['target']} at {most['at']}"
        f" per class, {number} points; {num_excluding} of {wording.counted(len(known.index), 'interval')}"
        " exclude zero (not corrected)."
    )


def suite_drawings(suite: Suite, results: Path) -> Iterator[Drawing]:
    """Yield the scores of a suite by the number of images per class."""
    frame, differences = suite_scores(suite), suite_differences(suite)
    if not frame.empty:
        name = score_name(suite.runs[0].metric)
        yield Drawing(
            shots_figure(frame, differences, styles(suite.rows), name, num_columns(frame)),
            frame,
            "Small points are seeds, large points are means, bars are 95\N{NO-BREAK SPACE}% intervals.",
            shots_alternative(frame, differences, name),
        )


def suite_scores(suite: Suite) -> pd.DataFrame:
    """Return one row per run: target, label, at, seed and score."""
    rows = [
        {"target": cell.column, "label": cell.row, "at": _at(cell), "seed": run.seed, "score": run.score}
        for cell in suite.cells
        for run in cell.runs
    ]
    return pd.DataFrame(rows, columns=["target", "label", "at", "seed", "score"])


def suite_differences(suite: Suite) -> pd.DataFrame:
    """Return one row per cell with runs of fine-tuning to compare with: points and their interval."""
    rows = []
    for cell in suite.cells:
        if cell.runs and cell.reference and not cell.is_reference:
            found = paired_difference(cell.runs, cell.reference)
            rows.append((cell.column, cell.row, _at(cell), found.points, found.low, found.high))
    return pd.DataFrame(rows, columns=["target", "label", "at", "points", "low", "high"])


def _at(cell: SuiteCell) -> int | str:
    """Return the number of images per class, or "all"."""
    return ALL if cell.at in (None, ALL) else int(float(cell.at))
