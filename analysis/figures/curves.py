"""Holdout scores during training."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import wording
from ..records.comparison import Comparison
from ..records.load import curve_frame, score_name
from ..records.suites import Suite
from ..statistics.percent import NARROWEST, percent_range
from .drawing import Drawing
from .style import (
    BESIDE,
    INK,
    WIDTH,
    Style,
    add_legend,
    freeze_layout,
    legend_height,
    legend_line,
    new_figure,
    num_columns,
    present,
    step_axis,
    style_axes,
    styles,
)

CURVE_COLUMNS = ["target", "label", "seed", "step", "score"]
UNINTERESTING = 0.3  # of the steps: before, curves may leave the axes below


def curves_figure(curve: pd.DataFrame, look: dict[str, Style], score_name: str, columns: int = 1) -> Figure:
    """Return the holdout score against the step: one panel per target, one line per method (mean over seeds).

    Thin lines are seeds. The axis shows the scores of the later steps; before, curves may come from below it.

    Args:
        curve: one row per run and step, with target, label, seed, step and score (a share).
        look: the style of each label, from `styles`.
        score_name: name of the score, for the axis.
        columns: number of targets side by side.
    """
    means = curve_means(curve)
    targets = list(curve["target"].unique())
    labels = present(look, curve)
    columns = min(columns, len(targets))
    rows = -(-len(targets) // columns)
    width = WIDTH if columns == 1 else BESIDE * columns
    figure = new_figure(width, 2.6 * rows + 0.2 + legend_height(labels, width))
    for place, target in enumerate(targets):
        axes = style_axes(figure.add_subplot(rows, columns, place + 1), target)
        own = means[means["target"] == target]
        seeds = curve[curve["target"] == target].sort_values("step", kind="stable")
        for label in labels:
            found = own[own["label"] == label]
            color, _, dash = look[label]
            for _, seed in seeds[seeds["label"] == label].groupby("seed"):
                axes.plot(seed["step"], 100 * seed["score"], color=color, alpha=0.35, linewidth=0.7)
            axes.plot(found["step"], found["score"], color=color, linestyle=dash, linewidth=1.9, zorder=3)
        axes.set_ylim(*_late_range(seeds))
        axes.grid(color=INK, alpha=0.12)
        step_axis(axes)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        if place % columns == 0:
            axes.set_ylabel(f"{score_name}, %")
        if place + columns >= len(targets):
            axes.set_xlabel("step")
    add_legend(figure, {label: legend_line(look[label]) for label in labels})
    return freeze_layout(figure)


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
    return percent_range(low - room, high + room)


def curves_alternative(curve: pd.DataFrame, score_name: str) -> str:
    """Return the alternative text: the two highest means at the last step."""
    means = curve_means(curve)
    ends = means.sort_values("step").groupby(["target", "label"], sort=False).last()["score"].reset_index()
    parts = []
    for target in curve["target"].unique():
        own = ends[ends["target"] == target].sort_values("score", ascending=False, kind="stable")
        found = [f"{row['label']} {wording.number(row['score'])}" for _, row in own.iterrows()]
        parts.append(f"{target}: {found[0]}" + (f", then {found[1]}" if len(found) > 1 else ""))
    methods = wording.counted(curve["label"].nunique(), "method")
    return (
        f"{score_name} on the holdout part during training, {methods} on"
        f" {wording.counted(len(parts), 'target')}. Highest means at the last step, in percent:"
        f" {'; '.join(parts)}."
    )


def curve_figure(curve: pd.DataFrame, look: dict[str, Style], score_name: str) -> Figure:
    """Return the holdout score against the step: one line per method (mean), one thin line per seed.

    Args:
        curve: one row per run and step, with label, seed, step and score (a share).
        look: the style of each label, from `styles`.
        score_name: name of the score, for the axis.
    """
    labels = [label for label in look if label in set(curve["label"].unique())]
    figure = new_figure(WIDTH, 3.0 + legend_height(labels, WIDTH))
    axes = style_axes(figure.add_subplot())
    for label in labels:
        color, _, dash = look[label]
        own = curve[curve["label"] == label].pivot_table(index="step", columns="seed", values="score") * 100
        for seed in own:
            axes.plot(own[seed].dropna(), color=color, linewidth=0.8, alpha=0.4)
        axes.plot(own.mean(axis=1), color=color, linewidth=2.2, linestyle=dash, zorder=3)
    axes.set_xlabel("step")
    axes.set_ylabel(f"{score_name} on the holdout part, %")
    axes.grid(color=INK, alpha=0.12)
    step_axis(axes)
    add_legend(figure, {label: legend_line(look[label]) for label in labels})
    return freeze_layout(figure)


def suite_drawings(suite: Suite, results: Path) -> Iterator[Drawing]:
    """Yield the curves of a suite, one panel per target."""
    frame = suite_curves(suite)
    if not frame.empty:
        name = score_name(suite.runs[0].metric)
        yield Drawing(
            curves_figure(frame, styles(suite.rows), name, num_columns(frame)),
            frame,
            "Thick lines are means, thin lines are seeds. Scores below those of the later steps are cut off.",
            curves_alternative(frame, name),
        )


def suite_curves(suite: Suite) -> pd.DataFrame:
    """Return one row per run and step of every cell: target, label, seed, step and score."""
    frames = [
        curve_frame(cell.runs).assign(target=cell.column, label=cell.row) for cell in suite.cells if cell.runs
    ]
    if not frames:
        return pd.DataFrame(columns=CURVE_COLUMNS)
    return pd.concat(frames, ignore_index=True)[CURVE_COLUMNS]


def comparison_drawing(comparison: Comparison, look: dict[str, Style]) -> Drawing | None:
    """Return the curves of a comparison; None if the holdout part was never scored."""
    curve = curve_frame(comparison.runs)
    if curve.empty:
        return None
    return Drawing(curve_figure(curve, look, score_name(comparison.metric)), curve)
