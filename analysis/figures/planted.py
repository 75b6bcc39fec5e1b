"""Planted sources as a figure: whether methods find the helpful classes, and the gain in score.

python -m transferbench.analysis.figures.planted planted.png results ../other-results
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .. import wording
from ..records.load import load
from ..records.suites import Suite, load_suites
from ..tables.planted_table import finding, weights_setting
from .drawing import Drawing
from .style import (
    BAR,
    DASHED,
    INK,
    PAPER,
    ROW,
    Style,
    freeze_layout,
    new_figure,
    row_places,
    style_axes,
    styles,
    wrap_label,
)

CHANCE = 0.5  # the AUC of random weights
COLUMNS = [
    "target",
    "label",
    "auc",
    "auc_low",
    "auc_high",
    "points",
    "points_low",
    "points_high",
    "is_oracle",
]


def planted_frame(suite: Suite) -> pd.DataFrame:
    """Return one row per cell: the AUC of its weights (nan without), and points above uniform weights."""
    rows = []
    for cell in suite.cells:
        kind = weights_setting(cell)
        if cell.runs and kind != "uniform":
            found = finding(suite, cell)
            auc = (float("nan"),) * 3 if kind == "oracle" else found.auc
            rows.append((cell.column, cell.row, *auc, *found.from_uniform, kind == "oracle"))
    return pd.DataFrame(rows, columns=COLUMNS)


def planted_figure(frame: pd.DataFrame, look: dict[str, Style], columns: int = 1) -> Figure:
    """Return two panels per target, one row per method: AUC of the weights, and points above uniform weights.

    Rows are ordered by their mean points, in all panels alike. The dashed lines are chance and the oracle.

    Args:
        frame: as `planted_frame` gives it, of one suite or of several.
        look: the style of each label, from `styles`.
        columns: number of targets side by side.
    """
    means = frame[~frame["is_oracle"]].groupby("label")["points"].mean()
    labels = list(means.sort_values(ascending=False, kind="stable").index)
    names = [wrap_label(label) for label in labels]
    places, ends = row_places(names)
    by_label = dict(zip(labels, places, strict=True))
    targets = list(frame["target"].unique())
    columns = min(columns, len(targets))
    rows = -(-len(targets) // columns)
    figure = new_figure(1.7 + 2.9 * columns, rows * (0.9 + ROW * ends[-1]))
    for place, target in enumerate(targets):
        row, column = divmod(place, columns)
        own = frame[frame["target"] == target]
        oracle = own.loc[own["is_oracle"], "points"]
        first, second = (
            style_axes(figure.add_subplot(rows, 2 * columns, 2 * columns * row + 2 * column + k))
            for k in (1, 2)
        )
        first.set_title(target, loc="left", color=INK, size=11, weight="bold")
        _draw(first, own, "auc", by_label, look)
        first.axvline(CHANCE, zorder=1, **DASHED)
        first.set(xlim=(-0.04, 1.04), xlabel="AUC")
        first.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        _draw(second, own, "points", by_label, look)
        second.axvline(0, zorder=1, **(DASHED | {"linestyle": "-"}))
        for points in oracle:
            second.axvline(points, zorder=1, **DASHED)
        second.set(xlabel="points from uniform")
        second.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        second.xaxis.set_major_formatter(FuncFormatter(lambda x, _: wording.number(x, 0, sign=True)))
        for axes, shown in ((first, column == 0), (second, False)):
            for low, high in zip(ends[:-1:2], ends[1::2], strict=False):
                axes.axhspan(low, high, color=INK, alpha=0.045, linewidth=0, zorder=0)
            axes.set(ylim=(ends[-1] + 0.1, -0.1))
            axes.set_yticks(places, names if shown else [""] * len(names))
            axes.tick_params(axis="y", pad=8)
            axes.spines["left"].set_visible(False)
    return freeze_layout(figure)


def _draw(
    axes: Axes, frame: pd.DataFrame, what: str, places: dict[str, float], look: dict[str, Style]
) -> None:
    """Draw one number of each method with its interval."""
    shown = frame[~frame["is_oracle"]].dropna(subset=[what])
    for label, value, low, high in shown[["label", what, f"{what}_low", f"{what}_high"]].to_numpy():
        color, marker, _ = look[label]
        axes.plot([low, high], [places[label]] * 2, color=color, linewidth=2.2, **BAR)
        axes.plot(value, places[label], marker, color=color, markeredgecolor=PAPER, markersize=7, zorder=3)


def planted_alternative(frame: pd.DataFrame) -> str:
    """Return the alternative text: the best method on each target, and the oracle."""
    parts = []
    for target, own in frame.groupby("target", sort=False):
        methods = own[~own["is_oracle"]].dropna(subset=["points"])
        if methods.empty:
            continue
        best = methods.sort_values("points").to_dict("records")[-1]
        auc = "" if pd.isna(best["auc"]) else f" at an AUC of {wording.number(best['auc'], 2)}"
        end = "".join(
            f", the oracle {wording.number(p, sign=True)}" for p in own.loc[own["is_oracle"], "points"]
        )
        parts.append(f"{target}: {best['label']} {wording.number(best['points'], sign=True)}{auc}{end}")
    labels = frame.loc[~frame["is_oracle"], "label"].unique()
    return (
        f"AUC of the weights against the truth, and points above uniform weights, of"
        f" {wording.counted(len(labels), 'method')}. Highest: {'; '.join(parts)}."
    )


def suite_drawings(suite: Suite, results: Path) -> Iterator[Drawing]:
    """Yield the planted truth found by each method, if uniform weights have runs to measure from."""
    frame = planted_frame(suite)
    if frame["points"].notna().any():
        yield Drawing(
            planted_figure(frame, styles(suite.rows)),
            frame,
            "Bars are 95\N{NO-BREAK SPACE}% intervals over seeds. Dashed lines: chance and oracle.",
            planted_alternative(frame),
        )


def main(argv: Sequence[str]) -> None:
    """Draw the planted suites of several results folders side by side."""
    frames = []
    for folder in map(Path, argv[1:]):
        suites = load_suites(folder, load(folder))
        frames += [planted_frame(suite) for suite in suites if suite.runs]
    frames = [frame for frame in frames if frame["points"].notna().any()]
    frame = pd.concat(frames, ignore_index=True)
    figure = planted_figure(frame, styles(frame["label"].unique()), len(frames))
    figure.savefig(argv[0], dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1:])
