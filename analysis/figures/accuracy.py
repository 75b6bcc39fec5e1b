"""Test scores of one comparison, seed by seed."""

import pandas as pd
from matplotlib.figure import Figure

from .. import wording
from ..records.comparison import REFERENCE, Comparison
from ..records.load import runs_frame, score_name
from ..statistics.paired import percent_interval
from ..statistics.percent import percent_range
from .drawing import Drawing
from .style import (
    BAR,
    DASHED,
    INK,
    PAPER,
    WIDTH,
    Style,
    freeze_layout,
    jitter,
    lowest_shown,
    mark_off_scale,
    new_figure,
    style_axes,
    wrap_label,
)


def accuracy_figure(runs: pd.DataFrame, look: dict[str, Style], score_name: str) -> Figure:
    """Return the score of every seed, and each method's mean with its 95 % interval.

    The dashed line is at the mean of fine-tuning. A score far below the others is an arrow at the edge, with
    its number and interval; there is no line if it is fine-tuning's.

    Args:
        runs: one row per run, with label, seed and score (a share).
        look: the style of each label, from `styles`.
        score_name: name of the score, for the axis.
    """
    means = accuracy_means(runs)
    figure = new_figure(WIDTH, 0.9 + 0.42 * len(means))
    axes = style_axes(figure.add_subplot())
    lowest = lowest_shown(means["score"])
    for center in means.loc[(means["label"] == REFERENCE) & (means["score"] >= lowest), "score"]:
        axes.axvline(center, zorder=1, **DASHED)
    for place, mean in enumerate(means.to_dict("records")):
        color, marker, _ = look[mean["label"]]
        if mean["score"] < lowest:
            continue
        scores = 100 * runs.loc[runs["label"] == mean["label"]].sort_values("seed")["score"].to_numpy()
        axes.scatter(
            scores, place + 0.24 + jitter(scores), s=17, color=color, alpha=0.6, linewidths=0, zorder=3
        )
        axes.plot([mean["low"], mean["high"]], [place] * 2, color=color, linewidth=2.6, **BAR)
        axes.plot(
            mean["score"],
            place,
            marker,
            color=color,
            markeredgecolor=PAPER,
            markersize=9,
            zorder=4,
            clip_on=False,
        )
    axes.set_xlim(*percent_range(*axes.get_xlim()))
    edge = axes.get_xlim()[0]
    for place, mean in enumerate(means.to_dict("records")):
        if mean["score"] < lowest:
            text = wording.estimate(mean["score"], mean["low"], mean["high"])
            mark_off_scale(axes, (edge, place), "<", text, look[mean["label"]].color)
    axes.tick_params(axis="y", pad=12)
    axes.set_yticks(range(len(means)), [wrap_label(label) for label in means["label"]])
    axes.set_ylim(len(means) - 0.45, -0.55)
    axes.set_xlabel(f"{score_name} on the test part, %")
    axes.grid(axis="x", color=INK, alpha=0.12)
    axes.spines["left"].set_visible(False)
    return freeze_layout(figure)


def accuracy_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the data of the accuracy figure: label, mean score in percent, interval; best first."""
    rows = []
    for label, group in runs.groupby("label"):
        score, low, high = percent_interval(group["score"])
        rows.append({"label": label, "score": score, "low": low, "high": high, "num_seeds": len(group)})
    return pd.DataFrame(rows).sort_values(["score", "label"], ascending=[False, True], ignore_index=True)


def comparison_drawing(comparison: Comparison, look: dict[str, Style]) -> Drawing:
    """Return the scores of a comparison."""
    frame = runs_frame(comparison.runs)
    figure = accuracy_figure(frame, look, score_name(comparison.metric))
    return Drawing(figure, frame[["label", "seed", "score"]])
