"""Numbers as text, and sentences that conclude only what their interval supports."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from .statistics.difference import CONFIDENCE, POWER, Difference

MINUS = "\N{MINUS SIGN}"
ABSENT = "\N{EN DASH}"
MOST_DECIMALS = 3
SAME = "the same in all"  # of a score without spread, which has no interval over seeds


def number(value: float, decimals: int = 1, sign: bool = False) -> str:
    """Return `value` rounded, halves away from zero, with a real minus sign; a rounded zero has no sign."""
    if not math.isfinite(value):
        return ABSENT
    exact = Decimal(repr(round(float(value), 9)))  # 9.45 as it is written, not as binary holds it
    rounded = exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) or Decimal(0)
    return f"{rounded:{'+' if sign and rounded else ''}.{decimals}f}".replace("-", MINUS)


def interval(low: float, high: float, decimals: int = 1, sign: bool = False) -> str:
    """Return "low to high", with more digits of an end that would be rounded to zero but excludes it."""
    excludes_zero = low > 0 or high < 0
    texts = []
    for end in (low, high):
        digits = decimals
        while excludes_zero and digits < MOST_DECIMALS and not round(end, digits):
            digits += 1
        texts.append(number(end, digits, sign))
    return " to ".join(texts)


def estimate(value: float, low: float, high: float, sign: bool = False) -> str:
    """Return "value (low to high)", without the brackets if there is no interval."""
    if math.isnan(low):
        return number(value, sign=sign)
    return f"{number(value, sign=sign)} ({interval(low, high, sign=sign)})"


def score(value: float, low: float, high: float, num_seeds: int) -> str:
    """Return an estimate over seeds; "91.0 (the same in all seeds)" where several do not differ."""
    if num_seeds > 1 and math.isnan(low):
        return f"{number(value)} ({SAME} seeds)"
    return estimate(value, low, high)


def seeds(values: Sequence[int]) -> str:
    """Return how many seeds and which: "5 (0-4)", "2 (0, 3)", "6 (0-4, 100)"."""
    ordered = sorted(values)
    rows: list[list[int]] = []  # each without a gap
    for seed in ordered:
        if rows and seed == rows[-1][-1] + 1:
            rows[-1].append(seed)
        else:
            rows.append([seed])
    shown = [f"{row[0]}\N{EN DASH}{row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows]
    return f"{len(ordered)} ({', '.join(shown)})"


def count(value: float) -> str:
    """Return a large number in three digits: "950", "19.2 k", "3.07 M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if float(f"{value:.3g}") >= size:
            return f"{float(f'{value / size:.3g}'):g} {unit}"
    return f"{value:.0f}"


def duration(seconds: float, digits: int = 3) -> str:
    """Return a time in a unit that suits it: "40 ms", "12 s", "3.5 min", "2.1 h"."""
    for unit, size, start in (("h", 3600, 5400), ("min", 60, 90), ("s", 1, 1)):
        if float(f"{seconds:.3g}") >= start:
            return f"{float(f'{seconds / size:.{digits}g}'):g} {unit}"
    return f"{float(f'{seconds * 1000:.{digits}g}'):g} ms" if seconds else "0 s"


def whole(value: float) -> str:
    """Return a whole number with thousands separators: "213,000"."""
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


def times(value: float) -> str:
    """Return a ratio in two digits: "0.0042", "0.32", "3.5", "140"."""
    return f"{float(f'{value:.2g}'):g}" if value >= 1e-4 else "less than 0.0001"


def p_value(value: float) -> str:
    """Return "p = 0.03" or "p < 0.001"; with more digits where rounding would reach the level of 0.05."""
    level = 1 - CONFIDENCE
    digits = next(d for d in (2, 3, 17) if (float(f"{value:.{d}g}") <= level) == (value <= level))
    return "p < 0.001" if value < 0.001 else f"p = {float(f'{value:.{digits}g}'):g}"


def counted(number: int, name: str, plural: str = "") -> str:
    """Return "1 seed" or "3 seeds"."""
    return f"{number} {name if number == 1 else plural or name + 's'}"


def listing(items: Sequence[str], word: str = "and") -> str:
    """Return "a", "a and b", "a, b and c", or the same with another word."""
    return f" {word} ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def signed_points(difference: Difference) -> str:
    """Return "+2.1 points (95 % CI +0.8 to +3.4)", without the brackets if there is no interval."""
    text = f"{number(difference.points, sign=True)} points"
    if not difference.has_interval:
        return text
    return f"{text} (95 % CI {interval(difference.low, difference.high, sign=True)})"


def points(difference: Difference) -> str:
    """Return the size of a difference that excludes zero: "2.1 points (95 % CI 0.8 to 3.4)"."""
    low, high = sorted((abs(difference.low), abs(difference.high)))
    return f"{number(abs(difference.points))} points (95 % CI {interval(low, high)})"


def holm(difference: Difference) -> str:
    """Return the p-value and how it was corrected: "p = 0.03 after Holm correction for 6 comparisons"."""
    if difference.num_compared == 1:
        return p_value(difference.p_value)
    return (
        f"{p_value(difference.p_value_holm)} after Holm correction for {difference.num_compared} comparisons"
    )


def not_significant(difference: Difference) -> str:
    """Return the difference and that it is not significant: its interval excludes zero, Holm does not."""
    return (
        f"{signed_points(difference)}, not significant after Holm correction"
        f" ({p_value(difference.p_value_holm)})"
    )


def power(detectable: float) -> str:
    """Return "80 % power to detect 1.8 points"; "" for nan."""
    return (
        "" if math.isnan(detectable) else f"{100 * POWER:.0f} % power to detect {number(detectable)} points"
    )


def sentence(label: str, difference: Difference, reference: str = "fine-tuning") -> str:
    """Return the conclusion about a difference, limited to what its interval supports.

    Args:
        label: the method, at the beginning of the sentence.
        difference: its difference from the reference, Holm-corrected if it is one of several.
        reference: the method that it is compared with.
    """
    if math.isnan(difference.points):
        return f"{label}: not compared with {reference} ({difference.note})."
    note = f" ({difference.note})" if difference.note else ""
    if difference.no_claim:
        return (
            f"{label}: no claim: {difference.no_claim}; {signed_points(difference)} from {reference}{note}."
        )
    if difference.outcome == "untested":
        found = f"{signed_points(difference)} from {reference} on {counted(difference.num_seeds, 'seed')}"
        why = "one seed allows no conclusion" if difference.has_interval else "no confidence interval"
        return f"{label}: {found}; {why}{note}."
    if difference.is_significant:
        side = "above" if difference.points > 0 else "below"
        p = "" if math.isnan(difference.p_value) else f", {holm(difference)}"
        return f"{label} is {side} {reference} by {points(difference)}{p}{note}."
    if difference.outcome == "not significant":
        return f"{label}: {not_significant(difference)}{note}."
    found = "; ".join(filter(None, (signed_points(difference), power(difference.detectable))))
    return f"{label}: inconclusive: {found}{note}."
