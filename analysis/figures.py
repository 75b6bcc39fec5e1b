"""Figures: each a function from a table to a matplotlib Figure; nothing global is touched.

A figure is drawn with INK for text and PAPER for what lies behind, so that a web page can
replace the two by its own colours.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .comparison import REFERENCE
from .stats import mean_interval

INK, PAPER = "#1d2330", "#fefefe"
HUES = (
    0,
    1,
    2,
    3,
    4,
    9,
    5,
    7,
)  # of seaborn's colour-blind palette, without its yellow and its pink: too pale
MARKERS = "osD^v"
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
NARROWEST = 4  # points: a range of scores below this is not blown up to the whole width


class Style(NamedTuple):
    """How a label looks in every figure."""

    colour: str
    marker: str
    dash: Any  # a line style, as matplotlib takes it


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Return a style for each label, fine-tuning first, told apart by colour-blind readers.

    Markers and dashes change after each round of the colours. Call it once with all labels there
    are, so that a label looks the same in every figure.
    """
    palette = sns.color_palette("colorblind").as_hex()
    rounds = list(zip(MARKERS, DASHES, strict=True))
    ordered = sorted(set(labels), key=lambda label: (label != REFERENCE, label))
    return {
        label: Style(palette[HUES[i % len(HUES)]], *rounds[i // len(HUES) % len(rounds)])
        for i, label in enumerate(ordered)
    }


def accuracy_figure(runs: pd.DataFrame, look: dict[str, Style], score_name: str) -> Figure:
    """Return the score of every seed, and each method's mean with its 95 % interval.

    Args:
        runs: one row a run, with label, seed and score (a share).
        look: the style of each label, from `styles`.
        score_name: what the score is, for the axis.
    """
    means = accuracy_means(runs)
    figure, axes = _blank(height=1.0 + 0.44 * len(means))
    if REFERENCE in set(means["label"]):
        centre = means.loc[means["label"] == REFERENCE, "score"].item()
        axes.axvline(centre, color=INK, alpha=0.45, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for place, mean in enumerate(means.to_dict("records")):
        colour, marker, _ = look[mean["label"]]
        scores = 100 * runs.loc[runs["label"] == mean["label"]].sort_values("seed")["score"].to_numpy()
        spread = place + 0.24 + 0.05 * (np.arange(len(scores)) % 3 - 1)
        axes.scatter(scores, spread, s=17, color=colour, alpha=0.6, linewidths=0, zorder=3)
        axes.plot([mean["low"], mean["high"]], [place] * 2, color=colour, linewidth=2.6, zorder=2)
        axes.plot(mean["score"], place, marker, color=colour, markeredgecolor=PAPER, markersize=9, zorder=4)
    _widen(axes)
    axes.set_yticks(range(len(means)), [str(label) for label in means["label"]])
    axes.set_ylim(len(means) - 0.45, -0.55)
    axes.set_xlabel(f"{score_name} on the test part, %")
    axes.grid(axis="x", color=INK, alpha=0.12)
    axes.spines["left"].set_visible(False)
    return figure


def accuracy_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Return label, mean score in percent and its interval, best first: what the accuracy figure draws."""
    rows = []
    for label, group in runs.groupby("label"):
        score, low, high = mean_interval(100 * group["score"].to_numpy())
        rows.append({"label": label, "score": score, "low": low, "high": high, "num_seeds": len(group)})
    return pd.DataFrame(rows).sort_values(["score", "label"], ascending=[False, True], ignore_index=True)


def curve_figure(curve: pd.DataFrame, look: dict[str, Style], score_name: str) -> Figure:
    """Return the holdout score against the step: a line a method (mean), a thin line a seed.

    Args:
        curve: one row a run and step, with label, seed, step and score (a share).
        look: the style of each label, from `styles`.
        score_name: what the score is, for the axis.
    """
    labels = [label for label in look if label in set(curve["label"])]
    percent = curve.assign(score=100 * curve["score"])
    ncols = max(1, 68 // (7 + max(map(len, labels))))  # what fits above the axes, in letters
    figure, axes = _blank(height=3.3 + 0.2 * -(-len(labels) // ncols))
    lines = []
    for label in labels:
        own = percent[percent["label"] == label]
        shared: dict[str, Any] = {"x": "step", "y": "score", "color": look[label].colour, "ax": axes}
        sns.lineplot(own, units="seed", estimator=None, linewidth=0.8, alpha=0.4, **shared)
        mean = own.groupby("step", as_index=False)["score"].mean()
        sns.lineplot(mean, linewidth=2.2, linestyle=look[label].dash, zorder=3, **shared)
        lines.append(Line2D([], [], color=look[label].colour, linestyle=look[label].dash, label=label))
    axes.set_xlabel("step")
    axes.set_ylabel(f"{score_name} on the holdout part, %")
    axes.grid(color=INK, alpha=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    legend = figure.legend(handles=lines, loc="outside upper left", ncols=ncols, frameon=False, fontsize=10)
    for text in legend.get_texts():
        text.set_color(INK)
    return figure


def _widen(axes: Axes) -> None:
    """Let the axis of scores span NARROWEST points at least."""
    low, high = axes.get_xlim()
    if high - low < NARROWEST:
        centre = (low + high) / 2
        axes.set_xlim(centre - NARROWEST / 2, centre + NARROWEST / 2)


def _blank(height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of one width, `height` inches high, and its axes."""
    figure = Figure(figsize=(5.6, height), layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
        axes.spines[side].set_alpha(0.5)
    axes.tick_params(colors=INK, length=0, labelsize=10)
    axes.xaxis.label.set(color=INK, size=10)
    axes.yaxis.label.set(color=INK, size=10)
    axes.set_axisbelow(True)
    return figure, axes
