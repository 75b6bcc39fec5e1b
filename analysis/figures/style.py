"""What all figures share, and the two figures of one comparison.

A figure is a function from a table to a matplotlib Figure; nothing global is touched. It is drawn with INK
for text and PAPER for what lies behind, so that a web page can replace the two by its own colours. Beside
each figure stands a function from the same table to its text alternative.
"""

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
from ..records.comparison import REFERENCE, in_order
from ..statistics.paired import mean_interval

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
WIDTH = 4.6  # inches of one column: letters of 10 points are 9 pixels high on a page of 360
LETTERS = 12.2  # of 10 points in an inch
HANDLE = 6  # letters that a line or marker takes in a key, with the space around it
ROW, TWO_LINES = 0.21, 1.7  # inches of a row with one line, rows that two lines take
BUTT: dict[str, Any] = {"solid_capstyle": "butt", "zorder": 2}  # a bar ends where its interval does
BROKEN: dict[str, Any] = {"color": INK, "alpha": 0.45, "linewidth": 1, "linestyle": (0, (4, 3))}


class Style(NamedTuple):
    """How a label looks in every figure."""

    colour: str
    marker: str
    dash: Any  # a line style, as matplotlib takes it


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Return a style for each label, fine-tuning first, told apart by colour-blind readers.

    From one label to the next colour, marker and dash all change; 40 labels pass before a style comes
    back. Call it once with all labels there are, so that a label looks the same in every figure.
    """
    palette = sns.color_palette("colorblind").as_hex()
    return {
        label: Style(palette[HUES[i % len(HUES)]], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, label in enumerate(in_order(labels))
    }


def accuracy_figure(runs: pd.DataFrame, look: dict[str, Style], score_name: str) -> Figure:
    """Return the score of every seed, and each method's mean with its 95 % interval.

    A score far below the others is an arrow at the edge, with its number.

    Args:
        runs: one row a run, with label, seed and score (a share).
        look: the style of each label, from `styles`.
        score_name: what the score is, for the axis.
    """
    means = accuracy_means(runs)
    figure = blank(WIDTH, 0.9 + 0.42 * len(means))
    axes = dressed(figure.add_subplot())
    if REFERENCE in set(means["label"]):
        centre = means.loc[means["label"] == REFERENCE, "score"].item()
        axes.axvline(centre, zorder=1, **BROKEN)
    lowest = lowest_shown(means["score"])
    for place, mean in enumerate(means.to_dict("records")):
        colour, marker, _ = look[mean["label"]]
        if mean["score"] < lowest:
            continue
        scores = 100 * runs.loc[runs["label"] == mean["label"]].sort_values("seed")["score"].to_numpy()
        axes.scatter(
            scores, place + 0.24 + apart(scores), s=17, color=colour, alpha=0.6, linewidths=0, zorder=3
        )
        axes.plot([mean["low"], mean["high"]], [place] * 2, color=colour, linewidth=2.6, **BUTT)
        axes.plot(mean["score"], place, marker, color=colour, markeredgecolor=PAPER, markersize=9, zorder=4)
    _widen(axes)
    edge = axes.get_xlim()[0]
    axes.set_xlim(left=edge)
    for label, score in means.loc[means["score"] < lowest, ["label", "score"]].to_numpy():
        place = list(means["label"]).index(label)
        point_out(axes, (edge, place), "<", wording.number(score), look[label].colour)
    axes.tick_params(axis="y", pad=8)
    axes.set_yticks(range(len(means)), [folded(label) for label in means["label"]])
    axes.set_ylim(len(means) - 0.45, -0.55)
    axes.set_xlabel(f"{score_name} on the test part, %")
    axes.grid(axis="x", color=INK, alpha=0.12)
    axes.spines["left"].set_visible(False)
    return settled(figure)


def accuracy_alternative(runs: pd.DataFrame, score_name: str) -> str:
    """Return the accuracy figure in words."""
    means = accuracy_means(runs)
    parts = [
        f"{mean['label']} {wording.estimate(mean['score'], mean['low'], mean['high'])}"
        for _, mean in means.iterrows()
    ]
    several = f"highest {parts[0]}, lowest {parts[-1]}" if len(parts) > 1 else parts[0]
    reference = "".join(f"; {part}" for part in parts[1:-1] if part.startswith(f"{REFERENCE} "))
    return f"{score_name} on the test part in percent, {counted(parts, 'method')}: {several}{reference}."


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
    labels = [label for label in look if label in set(curve["label"].unique())]
    figure = blank(WIDTH, 3.0 + key_height(labels, WIDTH))
    axes = dressed(figure.add_subplot())
    for label in labels:
        colour, _, dash = look[label]
        own = curve[curve["label"] == label].pivot_table(index="step", columns="seed", values="score") * 100
        for seed in own:
            axes.plot(own[seed].dropna(), color=colour, linewidth=0.8, alpha=0.4)
        axes.plot(own.mean(axis=1), color=colour, linewidth=2.2, linestyle=dash, zorder=3)
    axes.set_xlabel("step")
    axes.set_ylabel(f"{score_name} on the holdout part, %")
    axes.grid(color=INK, alpha=0.12)
    step_axis(axes)
    key(figure, {label: line(look[label]) for label in labels})
    return settled(figure)


def curve_alternative(curve: pd.DataFrame, score_name: str) -> str:
    """Return the figure of curves in words: where they end."""
    last = curve.sort_values("step").groupby(["label", "seed"])["score"].last().groupby("label").mean()
    ends = last.sort_values(ascending=False, kind="stable")
    said = [f"{label} {wording.number(100 * score)}" for label, score in ends.items()]
    found = said[0] if len(said) == 1 else f"from {said[0]} down to {said[-1]}"
    return (
        f"{score_name} on the holdout part while training, {counted(said, 'method')}. Means at the end, in"
        f" percent: {found}."
    )


def counted(things: Iterable[Any], name: str, names: str = "") -> str:
    """Return "1 seed" or "3 seeds"."""
    number = len(list(things))
    return f"{number} {name if number == 1 else names or name + 's'}"


def blank(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def settled(figure: Figure) -> Figure:
    """Return the figure with everything in its final place: it is drawn for several formats."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def dressed(axes: Axes, title: str = "") -> Axes:
    """Return the axes in our style."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.5)
    axes.tick_params(colors=INK, length=0, labelsize=10)
    axes.xaxis.label.set(color=INK, size=10)
    axes.yaxis.label.set(color=INK, size=10)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(plain(title), loc="left", color=INK, size=11, weight="bold")
    return axes


def step_axis(axes: Axes) -> None:
    """Label an axis of steps."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: wording.count(step)))


def line(style: Style, marker: bool = False) -> Line2D:
    """Return what stands for a label in a key."""
    return Line2D(
        [], [], color=style.colour, linestyle=style.dash, linewidth=2, marker=style.marker if marker else ""
    )


def key(figure: Figure, handles: Mapping[str, Artist], above: bool = True) -> None:
    """Put the names of lines or markers above or below all axes."""
    ncols, names = _key_columns(list(handles), figure.get_figwidth())
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


def key_height(names: Sequence[str], width: float) -> float:
    """Return the inches that the key of these names takes in a figure of this width."""
    ncols, folds = _key_columns(names, width)
    lines = sum(1 + fold.count("\n") for fold in folds)
    return 0.15 + 0.21 * -(-lines // ncols)


def _key_columns(names: Sequence[str], width: float) -> tuple[int, list[str]]:
    """Return in how many columns the names stand, and the names broken into lines that fit there."""
    letters = int(LETTERS * width)
    fit = letters // (HANDLE + max(map(len, names)))
    ncols = min(len(names), max(1, fit, 2 if len(names) > 8 else 1))
    return ncols, [folded(name, letters // ncols - HANDLE) for name in names]


def folded(name: object, letters: int = 22) -> str:
    """Return a name broken into two lines at most, so that it leaves room for what is drawn."""
    return plain(textwrap.fill(str(name), letters, max_lines=2, placeholder=" …", break_on_hyphens=False))


def plain(text: object) -> str:
    """Return the text as matplotlib shows it letter by letter: no formula begins at a dollar."""
    return str(text).replace("$", r"\$")


def point_out(axes: Axes, edge: tuple[float, float], toward: str, value: str, colour: str) -> None:
    """Draw an arrow ("<", ">" or "v") at the edge of the axes, with the value that lies beyond."""
    right = -1 if toward == ">" else 1
    axes.plot(*edge, toward, color=colour, markersize=7, clip_on=False, zorder=3)
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


def apart(values: Sequence[float] | np.ndarray, by: float = 0.05) -> np.ndarray:
    """Return offsets that keep the points of seeds from hiding one another."""
    return by * ((np.arange(len(values)) + 1) % 3 - 1)


def _widen(axes: Axes) -> None:
    """Let the axis of scores span NARROWEST points at least."""
    low, high = axes.get_xlim()
    if high - low < NARROWEST:
        centre = (low + high) / 2
        axes.set_xlim(centre - NARROWEST / 2, centre + NARROWEST / 2)
