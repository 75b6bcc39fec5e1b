"""Numbers as a reader wants them, and sentences that claim no more than their interval."""

import math
from collections.abc import Sequence

from .stats import Difference

MINUS = "\N{MINUS SIGN}"
ABSENT = "\N{EN DASH}"


def number(value: float, decimals: int = 1, sign: bool = False) -> str:
    """Return `value` rounded, with a real minus sign; a rounded zero has no sign."""
    if math.isnan(value):
        return ABSENT
    rounded = round(value, decimals) or 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{decimals}f}".replace("-", MINUS)


def interval(low: float, high: float, decimals: int = 1, sign: bool = False) -> str:
    """Return "low to high"."""
    return f"{number(low, decimals, sign)} to {number(high, decimals, sign)}"


def estimate(value: float, low: float, high: float, sign: bool = False) -> str:
    """Return "value (low to high)", without the brackets where there is no interval."""
    if math.isnan(low):
        return number(value, sign=sign)
    return f"{number(value, sign=sign)} ({interval(low, high, sign=sign)})"


def seeds(values: Sequence[int]) -> str:
    """Return how many seeds and which: "5 (0-4)", "2 (0, 3)"."""
    ordered = sorted(values)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{len(ordered)} ({ordered[0]}\N{EN DASH}{ordered[-1]})"
    return f"{len(ordered)} ({', '.join(map(str, ordered))})"


def count(value: float) -> str:
    """Return a large number in three digits: "950", "19.2 k", "3.07 M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if float(f"{value:.3g}") >= size:
            return f"{float(f'{value / size:.3g}'):g} {unit}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Return a time in a unit that suits it: "40 ms", "12 s", "3.5 min", "2.1 h"."""
    for unit, size, start in (("h", 3600, 5400), ("min", 60, 90), ("s", 1, 1)):
        if seconds >= start:
            return f"{float(f'{seconds / size:.3g}'):g} {unit}"
    return f"{float(f'{seconds * 1000:.3g}'):g} ms" if seconds else "0 s"


def sentence(label: str, difference: Difference) -> str:
    """Return what the difference from fine-tuning shows, and no more than its interval allows."""
    gap = difference.points
    if math.isnan(gap):
        return f"{label}: not compared with fine-tuning ({difference.note})."
    note = f" ({difference.note})" if difference.note else ""
    where = f"on {difference.num_seeds} seed{'s' if difference.num_seeds > 1 else ''}"
    low, high = difference.low, difference.high
    if difference.num_seeds == 1 and not math.isnan(low):
        found = f"{estimate(gap, low, high, sign=True)} points from fine-tuning {where}"
        return f"{label}: {found}; another seed may say otherwise, so nothing is claimed{note}."
    if math.isnan(low):
        found = f"{number(gap, sign=True)} points {where}"
        return f"{label}: {found}, without an interval, so nothing is claimed{note}."
    if low <= 0 <= high:
        found = f"{number(gap, sign=True)} points, 95 % interval {interval(low, high, sign=True)}"
        return f"{label}: no difference from fine-tuning found: {found}, {where}{note}."
    side = "above" if gap > 0 else "below"
    near, far = sorted((abs(low), abs(high)))
    found = f"by {number(abs(gap))} points, 95 % interval {interval(near, far)}"
    return f"{label} is {side} fine-tuning {found}, {where}{note}."
