"""The report in a few sentences: what is above fine-tuning where, by how much, at what cost, and how sure."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from .. import wording
from ..records.comparison import REFERENCE, Comparison
from ..records.load import METRICS
from ..statistics.aggregate import holm
from ..statistics.paired import CONFIDENCE, Difference
from ..tables.comparison_table import difference_from

Verdict = Literal["above", "below", "none", "unclaimed"]


@dataclass(frozen=True)
class Finding:
    """A method's difference from fine-tuning in one comparison, and what may be said of it."""

    comparison: Comparison
    place: str  # the comparison in a few words
    label: str
    difference: Difference
    step_ratio: float
    adjusted: float = math.nan  # p-value after Holm's correction over all findings; nan for no test
    num_claims: int = 1

    @property
    def is_tested(self) -> bool:
        """Whether there are seeds enough to say something: one seed speaks for itself alone."""
        return self.difference.num_seeds > 1 and not math.isnan(self.difference.low)

    @property
    def verdict(self) -> Verdict:
        """`none` where no difference was found; `unclaimed` where one seed or no interval allows no word."""
        if not self.is_tested:
            return "unclaimed"
        found = self.difference
        if found.low <= 0 <= found.high or self.adjusted > 1 - CONFIDENCE:
            return "none"
        return "above" if found.points > 0 else "below"

    @property
    def sentence(self) -> str:
        """What stands under the table."""
        return wording.sentence(self.label, self.difference, self.adjusted, self.num_claims)

    @property
    def gap(self) -> str:
        """The size of the difference with its interval, without its sign."""
        found = self.difference
        near, far = sorted((abs(found.low), abs(found.high)))
        return f"{wording.number(abs(found.points))} points (95 % interval {wording.interval(near, far)})"


def findings(compared: Sequence[tuple[Comparison, str, pd.DataFrame]]) -> list[Finding]:
    """Return every difference from fine-tuning, given comparisons with their places and tables."""
    found = [
        Finding(
            comparison,
            place,
            label,
            difference_from(comparison.reference, label, runs),
            ratios.get(label, math.nan),
        )
        for comparison, place, table in compared
        for ratios in [dict(zip(table["label"], table["step_ratio"], strict=True))]
        for label, runs in comparison.by_label.items()
        if comparison.reference and label != REFERENCE
    ]
    tested = [i for i, item in enumerate(found) if item.is_tested]
    for i, value in zip(tested, holm([found[i].difference.p_value for i in tested]), strict=True):
        found[i] = replace(found[i], adjusted=float(value), num_claims=len(tested))
    return found


def places(known: Sequence[Comparison]) -> dict[str, str]:
    """Return a short name for each comparison, by slug: its target, and what sets it apart from others."""
    by_target: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in known:
        by_target[comparison.target].append(comparison)
    return {
        comparison.slug: f"{target} ({apart})" if (apart := _apart(comparison, group)) else target
        for target, group in by_target.items()
        for comparison in group
    }


def _apart(comparison: Comparison, group: Sequence[Comparison]) -> str:
    """Return what tells a comparison from the others of its target; empty where there are none."""
    if len(group) == 1:
        return ""
    shared = set.intersection(*(set(_words(other)) for other in group))
    own = [word for word in _words(comparison) if word not in shared]
    source = [f"from {comparison.source}"] if len({other.source for other in group}) > 1 else []
    alike = [
        other for other in group if (other.source, _words(other)) == (comparison.source, _words(comparison))
    ]
    bench = [f"comparison {comparison.comparison_id}"] if len(alike) > 1 else []
    return ", ".join([*source, *own, *bench]) or "other settings"


def _words(comparison: Comparison) -> list[str]:
    """Return the words of a setting, and the score; without shots it is of all images."""
    words_of = [*comparison.setting.split(", "), METRICS[comparison.metric]]
    return words_of if words_of[0].startswith("shots=") else ["all images", *words_of]


def headline(found: Sequence[Finding]) -> list[str]:
    """Return the page's first sentences."""
    if not found:
        return [
            "There are no runs of fine-tuning beside those of other methods, so nothing is compared with it."
        ]
    by_label: dict[str, list[Finding]] = {}
    for item in found:
        by_label.setdefault(item.label, []).append(item)
    by_place = {item.place for item in found}
    sentences = [*_sides(by_label, "above"), *_sides(by_label, "below")]
    if not any(item.verdict == "above" for item in found):
        sentences.insert(0, "No method was found to be above fine-tuning.")
    same = [label for label, items in by_label.items() if {item.verdict for item in items} == {"none"}]
    if same:
        sentences.append(_same(same, [item for label in same for item in by_label[label]], len(by_place)))
    single = sorted({item.label for item in found if item.verdict == "unclaimed"})
    if single:
        places = sorted({item.place for item in found if item.verdict == "unclaimed"})
        where = f" on {_some(places)}" if len(by_place) > 1 else ""
        sentences.append(
            f"Of {_some(single)}{where} nothing is claimed: one seed, or no interval, cannot tell."
        )
    return [*sentences, _doubt(found)]


def _sides(by_label: dict[str, list[Finding]], side: Verdict) -> list[str]:
    """Return a sentence a method that is on this side of fine-tuning somewhere, the most frequent first."""
    chosen = {label: [item for item in items if item.verdict == side] for label, items in by_label.items()}
    ordered = sorted(
        (label for label in chosen if chosen[label]),
        key=lambda label: (
            -len(chosen[label]),
            -max(abs(item.difference.points) for item in chosen[label]),
            label,
        ),
    )
    if side == "below" and len(ordered) > 1:
        return [f"Below it {_counts(ordered, chosen, by_label)}."]
    return [_side(label, chosen[label], len(by_label[label]), side) for label in ordered]


def _side(label: str, items: list[Finding], total: int, side: Verdict) -> str:
    """Return where one method is above or below, by how much, and what its steps cost."""
    largest = max(items, key=lambda item: abs(item.difference.points))
    cost = ""
    if side == "above" and not math.isnan(largest.step_ratio):
        cost = f", at {wording.number(largest.step_ratio)} times the time of a step"
    if total == 1:
        seeds = f"on {largest.difference.num_seeds} seeds"
        return f"{label} is {side} fine-tuning on {largest.place} by {largest.gap}, {seeds}{cost}."
    most = f"by {largest.gap} on {largest.place}"
    often = f"in {len(items)} of {total} comparisons"
    return f"{label} is {side} fine-tuning {often}{', most' if len(items) > 1 else ','} {most}{cost}."


def _counts(labels: list[str], chosen: dict[str, list[Finding]], by_label: dict[str, list[Finding]]) -> str:
    """Return "are A (by 3.0 points) and B (in 2 of 3 comparisons, by up to 4.0 points)"."""
    each = []
    for label in labels:
        most = wording.number(max(abs(item.difference.points) for item in chosen[label]))
        if len(by_label[label]) == 1:
            each.append(f"{label} (by {most} points)")
        else:
            up_to = "by up to" if len(chosen[label]) > 1 else "by"
            each.append(f"{label} (in {len(chosen[label])} of {len(by_label[label])}, {up_to} {most} points)")
    return f"are {wording.listing(each)}"


def _same(labels: list[str], items: Sequence[Finding], num_places: int) -> str:
    """Return which methods were nowhere told apart, and what could have been missed."""
    where = f" in any of {num_places} comparisons" if num_places > 1 else ""
    most = max(item.difference.detectable for item in items)
    seen = f"; by itself, one of {wording.number(most)} points would have been found with probability 0.8"
    missed = "" if math.isnan(most) else seen
    return f"For {_some(sorted(labels))} no difference from it was found{where}{missed}."


def _some(names: list[str], most: int = 3) -> str:
    """Return the names, or the first of them and how many others there are."""
    if len(names) <= most + 1:
        return wording.listing(names)
    return f"{', '.join(names[:most])} and {len(names) - most} others"


def _doubt(found: Sequence[Finding]) -> str:
    """Return how far all this may be trusted."""
    seeds = sorted({item.difference.num_seeds for item in found})
    spread = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    each = f"Each difference is paired over {spread} seed{'s' if seeds[-1] > 1 else ''}"
    if (tested := sum(item.is_tested for item in found)) > 1:
        sure = f"holds after Holm's correction for {tested} such differences"
        return f"{each}; what is called above or below {sure}."
    return f"{each}."
