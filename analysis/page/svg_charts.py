"""The page's small charts as SVG text, with alternative text; the page's style sheet sets their colors.

matplotlib would take too long for a page of a hundred comparisons.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from .. import wording
from ..records.comparison import REFERENCE, in_order
from ..statistics.pareto import pareto_front
from ..statistics.percent import NARROWEST, percent_range

NUM_COLORS = 8  # of page.css: .s0 to .s7
STRIP, STRIP_HEIGHT = 180, 26  # px
WIDTH, LEFT, TOP, BOTTOM = 430, 46, 12, 42  # of the figures, in units of about a pixel
LETTER = 6.6  # mean width of a letter
MOST_LETTERS = 24  # of a name in a figure
MOST_NAMES = 12  # of points in the cost figure
DURATIONS = (
    *(unit * step for unit in (0.001, 0.01, 0.1, 1, 10) for step in (1, 2, 5)),
    *(60 * step for step in (1, 2, 5, 10, 20, 30)),
    *(3600 * step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)


Box = tuple[float, float, float, float]  # left, top, right, bottom


class Scale(NamedTuple):
    """From values to places along an axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value, kept inside the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)


def series(labels: Iterable[str]) -> dict[str, str]:
    """Return the CSS class of each label, fine-tuning first; after eight colors, dashes vary."""
    return {label: f"s{i % NUM_COLORS} d{i // NUM_COLORS % 4}" for i, label in enumerate(in_order(labels))}


def limits(scores: Sequence[float], intervals: Sequence[tuple[float, float]] = ()) -> tuple[float, float]:
    """Return the ends of an axis of scores, within 0 to 100; scores far below the best are cut off.

    Args:
        scores: in percent.
        intervals: of each score, which are inside if the score is; nan where there is none.
    """
    ordered = sorted(scores)
    best, middle = ordered[-1], ordered[len(ordered) // 2]
    floor = best - max(NARROWEST, 4 * (best - middle))
    low = max(ordered[0], floor)
    shown = [ends for score, ends in zip(scores, intervals, strict=True) if score >= low] if intervals else []
    known = [low, best, *(end for ends in shown for end in ends if not math.isnan(end))]
    low, high = min(known), max(known)
    pad = max(0.06 * (high - low), 0.1)
    return percent_range(low - pad, high + pad)


def row_limits(rows: Sequence[Mapping[Any, Any]]) -> tuple[float, float]:
    """Return the ends of an axis of rows with score, score_low and score_high."""
    return limits([row["score"] for row in rows], [(row["score_low"], row["score_high"]) for row in rows])


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step)
    return [round(i * step, 10) for i in range(first, math.floor(high / step) + 1)]


def strip_axis(low: float, high: float) -> str:
    """Return the axis that the strips of a table share: its numbers."""
    place = Scale(low, high, 6, STRIP - 6)
    marks = "".join(
        f'<text x="{min(place(tick), STRIP - 10)}" y="11" text-anchor="middle">{_plain(tick)}</text>'
        for tick in ticks(low, high, 3)
        if place(tick) > 12
    )
    size = f'viewBox="0 0 {STRIP} 14" width="{STRIP}" height="14"'
    return f'<svg class="axis" {size} aria-hidden="true">{marks}</svg>'


def strip(row: dict[str, float], scores: Sequence[float], ends: tuple[float, float], base: float) -> str:
    """Return the scores of one row: one point per seed, their mean, its interval, and where fine-tuning is.

    Args:
        row: score, score_low and score_high, in percent.
        scores: of each seed, in percent.
        ends: of the axis.
        base: fine-tuning's mean; nan without one.
    """
    place, middle = Scale(*ends, 6, STRIP - 6), STRIP_HEIGHT / 2
    parts = [_line(place(tick), 0, place(tick), STRIP_HEIGHT, "grid") for tick in ticks(*ends, 3)]
    if not math.isnan(base):
        parts.append(_line(place(base), 0, place(base), STRIP_HEIGHT, "base"))
    if row["score"] < ends[0]:
        parts.append(f'<path class="mark" d="M8 {middle - 4}L2 {middle}L8 {middle + 4}Z"/>')
    else:
        if not math.isnan(row["score_low"]):
            parts.append(_line(place(row["score_low"]), middle, place(row["score_high"]), middle, "range"))
        parts += [f'<circle class="seed" cx="{place(score)}" cy="{middle}" r="2.2"/>' for score in scores]
        parts.append(f'<circle class="mark" cx="{place(row["score"])}" cy="{middle}" r="4"/>')
    each = ", ".join(wording.number(score) for score in scores)
    estimate = wording.score(row["score"], row["score_low"], row["score_high"], len(scores))
    alternative = f"mean {estimate}; seeds: {each}"
    return (
        f'<svg class="strip" viewBox="0 0 {STRIP} {STRIP_HEIGHT}" width="{STRIP}" height="{STRIP_HEIGHT}"'
        f' role="img" aria-label="{escape(alternative)}">{"".join(parts)}</svg>'
    )


def curves(curve: pd.DataFrame, look: dict[str, str], score_name: str) -> str:
    """Return the holdout score against the step: one thin line per seed, one thick line for their mean.

    Args:
        curve: one row per run and step, with label, seed, step and score (a share).
        look: the CSS class of each label, from `series`.
        score_name: name of the score, for the axis.
    """
    mean = 100 * curve.pivot_table(index="step", columns="label", values="score")
    last = {str(label): float(line.dropna().iloc[-1]) for label, line in mean.items()}
    late = mean[mean.index >= 0.2 * mean.index.max()].stack().dropna()  # seeds may differ in steps
    low, high = limits([*late, *last.values()])
    gutter = 14 + LETTER * max(len(_short(label)) for label in last)
    height = max(270, 16 * len(last) + TOP + BOTTOM)
    y = Scale(low, high, height - BOTTOM, TOP)
    x = Scale(0, max(float(mean.index.max()), 1.0), LEFT, WIDTH - gutter)
    places = _spread_out({label: y(score) for label, score in last.items()}, 15, TOP + 4, height - BOTTOM)
    lines = []
    for label in sorted(last, key=lambda label: last[label]):
        own = curve[curve["label"] == label]
        seeds = [zip(seed["step"], 100 * seed["score"], strict=True) for _, seed in own.groupby("seed")]
        thin = "".join(f'<path class="thin" d="{_path(points, x, y, low)}"/>' for points in seeds)
        means = mean[label].dropna()
        thick = f'<path class="thick" d="{_path(zip(means.index, means, strict=True), x, y, low)}"/>'
        lead = f'<path class="lead" d="M{x.end:.1f} {y(last[label])}L{x.end + 9:.1f} {places[label]:.1f}"/>'
        name = f'<text x="{x.end + 12:.1f}" y="{places[label] + 4:.1f}">{escape(_short(label))}</text>'
        lines.append(f'<g class="line {look[label]}">{thin}{thick}{lead}{name}</g>')
    axes = _axes(height, y, f"{score_name} on the holdout part, %", WIDTH - gutter)
    steps = "".join(_below(x(tick), _plain(tick), height) for tick in ticks(0, x.high, 4))
    below = _caption("step", height, (LEFT + WIDTH - gutter) / 2)
    ends = [
        f"{label} {wording.number(last[label])}" for label in sorted(last, key=lambda label: -last[label])
    ]
    alternative = (
        f"{score_name} on the holdout part during training, percent after the last step: {', '.join(ends)}."
    )
    return _figure(height, alternative, f"{axes}{steps}{below}{''.join(lines)}")


def cost(table: pd.DataFrame, look: dict[str, str], score_name: str) -> str:
    """Return the score against the seconds of training, with the Pareto front as a dashed line.

    With many methods, only the Pareto front, fine-tuning and methods below the axis are named; every point
    has its name as a tooltip.

    Args:
        table: one row per label, with label, score, score_low, score_high (percent) and seconds.
        look: the CSS class of each label, from `series`.
        score_name: name of the score, for the axis.
    """
    rows = table.sort_values(["seconds", "score"], ascending=[True, False]).to_dict("records")
    low, high = row_limits(rows)
    height = 270
    y = Scale(low, high, height - BOTTOM, TOP)
    first, last = math.log10(rows[0]["seconds"]), math.log10(rows[-1]["seconds"])
    pad = max(0.12, 0.12 * (last - first))
    x = Scale(first - pad, last + pad, LEFT, WIDTH - 8)
    times = _durations(10**x.low, 10**x.high)
    marks = [_below(x(math.log10(time)), wording.duration(time), height) for time in times]
    front = pareto_front(table).to_dict("records")
    places = [(x(math.log10(row["seconds"])), y(row["score"])) for row in front]
    steps = [f"H{px}V{py}" for px, py in places[1:]]
    marks.append(f'<path class="front" d="M{places[0][0]} {places[0][1]}{"".join(steps)}H{x.end}"/>')
    taken = _along([*places, (x.end, places[-1][1])])
    for row in sorted(rows, key=lambda row: -row["score"]):
        px, py = x(math.log10(row["seconds"])), y(row["score"])
        taken.append((px - 5, py - 5, px + 5, py + 5))
        if row["score"] >= low and not math.isnan(row["score_low"]):
            taken.append((px - 1.5, y(row["score_high"]), px + 1.5, y(row["score_low"])))
    few = len(rows) <= MOST_NAMES
    for row in sorted(rows, key=lambda row: -row["score"]):
        is_named = few or row in front or row["label"] == REFERENCE or row["score"] < low
        marks.append(_point(row, x(math.log10(row["seconds"])), y, look[row["label"]], taken, is_named))
    axes = _axes(height, y, f"{score_name} on the test part, %", WIDTH - 8)
    below = _caption("training and own pre-training, log scale", height, (LEFT + WIDTH) / 2)
    best = ", ".join(
        f"{row['label']} {wording.number(row['score'])} in {wording.duration(row['seconds'])}"
        for row in front
    )
    alternative = f"{score_name} in percent against the time of training; Pareto front: {best}."
    return _figure(height, alternative, f"{axes}{below}{''.join(marks)}")


def _point(row: dict, px: float, y: Scale, look: str, taken: list[Box], is_named: bool) -> str:
    """Return one method of the cost figure, with its name, if wanted, where it covers least."""
    py, label = y(row["score"]), row["label"]
    below = row["score"] < y.low
    text = f"{_short(label)} {wording.number(row['score'])}" if below else _short(label)
    width = LETTER * len(text)
    sides = px + 8, px - 8 - width
    spots = [(side, py + 4) for side in sides] + [(px - width / 2, py - 9), (px - width / 2, py + 18)]
    spots += [(side, py + 4 + shift) for shift in (-14, 14, -28, 28, -42, 42) for side in sides]
    boxes = [(left, base - 11, left + width, base + 3) for left, base in spots]
    best = min(range(len(spots)), key=lambda i: (_overlap(boxes[i], taken, y), i))
    left, base = spots[best]
    name = ""
    if is_named:
        taken.append(boxes[best])
        name = f'<text x="{left:.1f}" y="{base:.1f}">{escape(text)}</text>'
    bar = ""
    if not (below or math.isnan(row["score_low"])):
        bar = _line(px, y(row["score_low"]), px, y(row["score_high"]), "range")
    mark = f'<circle class="mark" cx="{px}" cy="{py}" r="4.5"/>'
    if below:
        mark = f'<path class="mark" d="M{px - 4} {py - 6}L{px} {py}L{px + 4} {py - 6}Z"/>'
    title = escape(f"{label} {wording.number(row['score'])} % in {wording.duration(row['seconds'])}")
    return f'<g class="dot {look}"><title>{title}</title>{bar}{mark}{name}</g>'


def _along(corners: Sequence[tuple[float, float]]) -> list[Box]:
    """Return what a line covers that goes right, then up or down, to each corner."""
    found = []
    for (left, base), (right, top) in pairwise(corners):
        found.append((left, base - 1.5, right, base + 1.5))
        found.append((right - 1.5, min(base, top), right + 1.5, max(base, top)))
    return found


def _overlap(box: Box, taken: Sequence[Box], y: Scale) -> float:
    """Return the area of a box that is covered or outside of the axes."""
    left, top, right, bottom = box
    area = sum(
        max(0.0, min(right, other[2]) - max(left, other[0]))
        * max(0.0, min(bottom, other[3]) - max(top, other[1]))
        for other in taken
    )
    beyond = (LEFT - left, right - WIDTH, y.end - 8 - top, bottom - y.start)
    return area + 99 * sum(max(0.0, length) for length in beyond)


def _short(label: str) -> str:
    """Return a label, shortened to leave room for the chart."""
    return label if len(label) <= MOST_LETTERS else f"{label[: MOST_LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _spread_out(places: dict[str, float], gap: float, top: float, bottom: float) -> dict[str, float]:
    """Return places in the same order, moved to be at least `gap` apart."""
    ordered = sorted(places, key=lambda name: places[name])
    found: list[float] = []
    for name in ordered:
        found.append(max(places[name], found[-1] + gap if found else top))
    limit = bottom
    for i in range(len(found) - 1, -1, -1):
        found[i] = min(found[i], limit)
        limit = found[i] - gap
    return dict(zip(ordered, found, strict=True))


def _path(points: Iterable[tuple[float, float]], x: Scale, y: Scale, low: float) -> str:
    """Return a line through the points, from the last one below the axis on."""
    known = [(step, score) for step, score in points if not math.isnan(score)]
    start = max((i for i, (_, score) in enumerate(known) if score < low), default=0)
    return "".join(
        f"{'L' if i else 'M'}{x(step)} {y(score)}" for i, (step, score) in enumerate(known[start:])
    )


def _axes(height: float, y: Scale, name: str, right: float) -> str:
    """Return the horizontal grid with the numbers and the name of the axis."""
    grid = "".join(
        _line(LEFT, y(tick), right, y(tick), "grid")
        + f'<text class="tick" x="{LEFT - 8}" y="{y(tick) + 4}" text-anchor="end">{_plain(tick)}</text>'
        for tick in ticks(y.low, y.high, 5)
    )
    middle = (y.start + y.end) / 2
    turned = f'transform="translate(11 {middle}) rotate(-90)" text-anchor="middle"'
    return f'{grid}<text class="name" {turned}>{escape(name)}</text>'


def _below(place: float, text: str, height: float) -> str:
    """Return a number of the lower axis."""
    where = f'x="{place}" y="{height - BOTTOM + 17}"'
    return f'<text class="tick" {where} text-anchor="middle">{escape(text)}</text>'


def _caption(text: str, height: float, middle: float) -> str:
    """Return the name of the lower axis."""
    return f'<text class="name" x="{middle:.1f}" y="{height - 6}" text-anchor="middle">{escape(text)}</text>'


def _durations(low: float, high: float) -> list[float]:
    """Return round times between two, four at most."""
    inside = [value for value in DURATIONS if low <= value <= high]
    return inside[:: max(1, math.ceil(len(inside) / 4))]


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    """Return a straight line."""
    return f'<line class="{name}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _plain(value: float) -> str:
    """Return a number of an axis."""
    return f"{value:g}".replace("-", wording.MINUS)


def _figure(height: float, alternative: str, content: str) -> str:
    """Return an SVG element with its alternative text."""
    label = escape(alternative, quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{content}</svg>'
    )
