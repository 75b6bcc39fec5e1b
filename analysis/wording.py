"""Numbers as a reader wants them, and sentences that claim no more than their interval."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from .statistics.difference import CONFIDENCE, POWER, Difference

MINUS = "\N{MINUS SIGN}"
ABSENT = "\N{EN DASH}"


def number(value: float, decimals: int = 1, sign: bool = False) -> str:
    """Return `value` rounded, halves away from zero, with a real minus sign; a rounded zero has no sign."""
    if not math.isfinite(value):
        return ABSENT
    exact = Decimal(repr(round(float(value), 9)))  # 9.45 as it is written, not as binary holds it
    rounded = exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) or Decimal(0)
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
        if float(f"{seconds:.3g}") >= start:
            return f"{float(f'{seconds / size:.3g}'):g} {unit}"
    return f"{float(f'{seconds * 1000:.3g}'):g} ms" if seconds else "0 s"


def whole(value: float) -> str:
    """Return a whole number with its thousands apart: "213,000"."""
    return f"{value:,.0f}"


def step_seconds(seconds: float) -> str:
    """Return a time as tables of cost print it: "0.14 s", "40.5 ms"; absent for nan."""
    if not 0.1 <= seconds < 90:
        return ABSENT if math.isnan(seconds) else duration(seconds)
    return f"{number(seconds, 2)} s"


def hours(seconds: float) -> str:
    """Return a time as tables of cost print it, "9.5 h"; below an hour in a unit that suits it."""
    return f"{number(seconds / 3600)} h" if seconds >= 3600 else duration(seconds)


def ratio(value: float) -> str:
    """Return a ratio in two decimals."""
    return number(value, 2)


def p_value(value: float) -> str:
    """Return "p = 0.03" or "p < 0.001"."""
    return "p < 0.001" if value < 0.001 else f"p = {float(f'{value:.2g}'):g}"


def counted(number: int, name: str, plural: str = "") -> str:
    """Return "1 seed" or "3 seeds"."""
    return f"{number} {name if number == 1 else plural or name + 's'}"


def listing(items: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def sentence(label: str, difference: Difference, adjusted: float = math.nan, num_claims: int = 1) -> str:
    """Return what the difference from fine-tuning shows, and no more than its interval allows.

    Args:
        label: what is compared with fine-tuning.
        difference: by how much, with its interval.
        adjusted: its p-value after Holm's correction; nan where it is one comparison by itself.
        num_claims: how many comparisons the correction is for.
    """
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
    corrected = f"{p_value(adjusted)} after Holm's correction for {num_claims} comparisons"
    of_many = num_claims > 1 and not math.isnan(adjusted)
    is_claimed = not low <= 0 <= high and (not of_many or adjusted <= 1 - CONFIDENCE)
    if not is_claimed:
        found = f"{number(gap, sign=True)} points, 95 % interval {interval(low, high, sign=True)}"
        why = f", {corrected}" if of_many and not low <= 0 <= high else ""
        return (
            f"{label}: no difference from fine-tuning found: {found}, {where}{why}{note}"
            f"{_detectable(difference.detectable)}."
        )
    side = "above" if gap > 0 else "below"
    near, far = sorted((abs(low), abs(high)))
    found = f"by {number(abs(gap))} points, 95 % interval {interval(near, far)}"
    why = f"; {corrected}" if of_many else ""
    return f"{label} is {side} fine-tuning {found}, {where}{why}{note}."


def _detectable(points: float) -> str:
    """Return what a comparison of this kind would have found, as the end of a sentence."""
    if math.isnan(points):
        return ""
    return f"; one of {number(points)} points would have been found with probability {number(POWER)}"
