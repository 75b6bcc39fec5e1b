"""Learned weights of the source classes, seed by seed."""

import math
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import wording
from ..records.suites import Suite
from ..statistics.ranking import extremes, rank_correlation, weights_frame
from .drawing import Drawing
from .style import (
    DASHED,
    INK,
    PAPER,
    WIDTH,
    freeze_layout,
    jitter,
    new_figure,
    row_places,
    style_axes,
    wrap_label,
)

HIGHEST, LOWEST = "#0173b2", "#d55e00"  # blue and vermilion of the color-blind palette


def weights_figure(weights: pd.DataFrame, count: int = 10) -> Figure:
    """Return the weights of the highest and lowest classes, one point per seed.

    Args:
        weights: one row per source class and one column per seed.
        count: how many classes from each end.
    """
    highest, lowest = extremes(weights, count)
    shown = pd.concat([highest, lowest], ignore_index=True)
    names = [wrap_label(name, 24) for name in shown["class"]]
    middle = len(highest)
    places, ends = row_places([*names[:middle], "", *names[middle:]])
    figure = new_figure(WIDTH, 0.8 + 0.25 * ends[-1])
    axes = style_axes(figure.add_subplot())
    axes.axvline(weights.to_numpy().mean(), zorder=1, **DASHED)
    for rank, row in enumerate(shown.to_dict("records")):
        place, color = (places[rank], HIGHEST) if rank < middle else (places[rank + 1], LOWEST)
        found = weights.loc[row["class"]].to_numpy()
        axes.plot([row["mean"]] * 2, [place - 0.34, place + 0.34], color=color, linewidth=2.4, zorder=2)
        axes.scatter(
            found, place + jitter(found, 0.17), s=22, color=color, alpha=0.7, edgecolors=PAPER, linewidths=0.5
        )
    axes.set_yticks(np.delete(places, middle), names)
    axes.set_ylim(ends[-1] + 0.1, -0.1)
    between = range(len(weights) - len(shown))
    axes.text(
        weights.to_numpy().mean(),
        places[middle],
        f"{wording.counted(len(between), 'class', 'classes')} between",
        ha="center",
        va="center",
        size=9,
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
    )
    axes.set_xlabel("policy weight (dashed line: mean of all classes)", loc="right")
    axes.grid(axis="x", color=INK, alpha=0.12)
    axes.spines["left"].set_visible(False)
    return freeze_layout(figure)


def weights_alternative(weights: pd.DataFrame, count: int = 10) -> str:
    """Return the alternative text, with how much the ranking depends on the seed."""
    highest, lowest = extremes(weights, count)
    correlation = rank_correlation(weights)
    stable = (
        "One seed alone does not show how stable the ranking is."
        if math.isnan(correlation)
        else f"Rank correlation between seeds, on average: {wording.number(correlation, 2)}."
    )
    return (
        f"Weights of {wording.counted(len(weights.index), 'source class', 'source classes')} from"
        f" {wording.counted(len(weights.columns), 'seed')}. Highest: {listed_weights(highest)}; lowest:"
        f" {listed_weights(lowest[::-1])}. {stable}"
    )


def listed_weights(ranked: pd.DataFrame, most: int = 3) -> str:
    """Return the first classes with their weights."""
    return ", ".join(f"{row['class']} {format_weight(row)}" for row in ranked.head(most).to_dict("records"))


def format_weight(row: Mapping[Hashable, Any]) -> str:
    """Return the mean weight and its spread over seeds."""
    spread = "" if math.isnan(row["deviation"]) else f" ± {wording.number(row['deviation'], 2)}"
    return f"{wording.number(row['mean'], 2)}{spread}"


def suite_drawings(suite: Suite, results: Path) -> Iterator[Drawing]:
    """Yield the learned weights of each cell whose runs have two or more source classes."""
    for cell in suite.cells:
        weights = weights_frame(cell.runs)
        if len(weights) > 1:
            yield Drawing(
                weights_figure(weights),
                weights.reset_index().melt("class", value_name="weight"),
                f"{cell.row} on {cell.column}: source classes of the highest and lowest weight, one point"
                " per seed.",
                weights_alternative(weights),
            )
