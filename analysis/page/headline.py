"""The report in a few sentences: which methods differ from fine-tuning, where, and by how much."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from .. import wording
from ..records.comparison import Comparison
from ..records.load import METRICS
from ..statistics.aggregate import holm_corrected
from ..statistics.difference import Difference, Outcome
from ..tables.comparison_table import differences

Side = Literal["above", "below"]
MOST_NAMES = 3


@dataclass(frozen=True)
class Finding:
    """A method's difference from fine-tuning in one comparison."""

    comparison: Comparison
    place: str  # the comparison in a few words
    label: str
    difference: Difference  # Holm-corrected over all findings of the page
    step_ratio: float

    @property
    def outcome(self) -> Outcome:
        """The conclusion about the difference."""
        return self.difference.outcome

    @property
    def sentence(self) -> str:
        """The sentence under the table."""
        return wording.sentence(self.label, self.difference)


def findings(compared: Sequence[tuple[Comparison, str, pd.DataFrame]]) -> list[Finding]:
    """Return every difference from fine-tuning, given comparisons with their places and tables."""
    found = [
        Finding(
            comparison,
            place,
            label,
            difference,
            ratios.get(label, math.nan),
        )
        for comparison, place, table in compared
        for ratios in [dict(zip(table["label"], table["step_ratio"], strict=True))]
        for label, difference in differences(table).items()
        if comparison.reference
    ]
    corrected = holm_corrected([item.difference for item in found])
    return [replace(item, difference=difference) for item, difference in zip(found, corrected, strict=True)]


def places(known: Sequence[Comparison]) -> dict[str, str]:
    """Return a short name for each comparison, by slug: its target, and what sets it apart from others."""
    by_target: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in known:
        by_target[comparison.target].append(comparison)
    return {
        comparison.slug: f"{target} ({extra})" if (extra := _qualifier(comparison, group)) else target
        for target, group in by_target.items()
        for comparison in group
    }


def _qualifier(comparison: Comparison, group: Sequence[Comparison]) -> str:
    """Return how a comparison differs from the others of its target; "" if there are none."""
    if len(group) == 1:
        return ""
    shared = set.intersection(*(set(_setting_parts(other)) for other in group))
    own = [word for word in _setting_parts(comparison) if word not in shared]
    source = [f"from {comparison.source}"] if len({other.source for other in group}) > 1 else []
    same_source = [other for other in group if other.source == comparison.source]
    alike = [other for other in same_source if _setting_parts(other) == _setting_parts(comparison)]
    own_id = [f"comparison {comparison.comparison_id}"] if len(alike) > 1 else []
    return ", ".join([*source, *own, *own_id]) or "other settings"


def _setting_parts(comparison: Comparison) -> list[str]:
    """Return the words of a setting, and the score; without shots it is of all images."""
    words_of = [*comparison.setting.split(", "), METRICS[comparison.metric]]
    return words_of if words_of[0].startswith("shots=") else ["all images", *words_of]


def headline(found: Sequence[Finding]) -> list[str]:
    """Return the page's first sentences."""
    if not found:
        return ["No comparison has runs of both fine-tuning and another method, so nothing is compared."]
    claimed = any(item.outcome != "no claim" for item in found)
    basis = [_basis([item for item in found if item.outcome != "no claim"])] if claimed else []
    return [*_no_claims(found), *decided(found), *_undecided(found), *basis]


def decided(found: Sequence[Finding]) -> list[str]:
    """Return which methods are significantly above or below fine-tuning; nothing if nothing is claimed."""
    if all(item.outcome == "no claim" for item in found):
        return []
    by_label = _by_label(found)
    sentences = [*_sides(by_label, "above"), *_sides(by_label, "below")]
    is_tested = any(item.outcome not in ("no claim", "untested") for item in found)
    if is_tested and not any(item.outcome == "above" for item in found):
        sentences.insert(0, "No method is significantly above fine-tuning.")
    return sentences


def undecided(found: Sequence[Finding]) -> list[str]:
    """Return about which methods nothing is claimed, what is not significant, and what is inconclusive."""
    return [*_no_claims(found), *_undecided(found)]


def _undecided(found: Sequence[Finding]) -> list[str]:
    sentences = []
    num_places = len({item.place for item in found if item.outcome != "no claim"})
    if lost := [item for item in found if item.outcome == "not significant"]:
        sentences.append(_not_significant(lost))
    nowhere = {
        label: items
        for label, items in _by_label(found).items()
        if {i.outcome for i in items} == {"inconclusive"}
    }
    if nowhere:
        sentences.append(_inconclusive(nowhere, num_places))
    if untested := [item for item in found if item.outcome == "untested"]:
        names = _some(sorted({item.label for item in untested}))
        where = f" on {_some(sorted({item.place for item in untested}))}" if num_places > 1 else ""
        sentences.append(f"No conclusion for {names}{where}: one seed, or no confidence interval.")
    return sentences


def _by_label(found: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings about which something may be claimed, by method."""
    by_label: dict[str, list[Finding]] = {}
    for item in found:
        if item.outcome != "no claim":
            by_label.setdefault(item.label, []).append(item)
    return by_label


def _no_claims(found: Sequence[Finding]) -> list[str]:
    """Return where nothing is claimed and why, one sentence per reason."""
    by_reason: dict[str, list[Finding]] = defaultdict(list)
    for item in found:
        if item.outcome == "no claim":
            by_reason[item.difference.no_claim].append(item)
    return [
        f"No claim about {_some(sorted({item.label for item in same}))} on"
        f" {_some(sorted({item.place for item in same}))}: {reason}."
        for reason, same in by_reason.items()
    ]


def _sides(by_label: dict[str, list[Finding]], side: Side) -> list[str]:
    """Return one sentence per method that is on this side of fine-tuning somewhere."""
    chosen = {label: [item for item in items if item.outcome == side] for label, items in by_label.items()}
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


def _side(label: str, items: list[Finding], total: int, side: Side) -> str:
    """Return where one method is above or below, by how much, and the cost of its steps."""
    largest = max(items, key=lambda item: abs(item.difference.points))
    gap, cost = wording.points(largest.difference), ""
    if side == "above" and not math.isnan(largest.step_ratio):
        cost = f", at {wording.times(largest.step_ratio)} times the time per step"
    if total == 1:
        return f"{label} is {side} fine-tuning on {largest.place} by {gap}{cost}."
    often = f"in {len(items)} of {total} comparisons"
    most = ", at most" if len(items) > 1 else ","
    return f"{label} is {side} fine-tuning {often}{most} by {gap} on {largest.place}{cost}."


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


def _not_significant(items: Sequence[Finding]) -> str:
    """Return the largest difference that is not significant after Holm correction, and whose else are not."""
    largest = max(items, key=lambda item: abs(item.difference.points))
    text = f"{largest.label} on {largest.place}: {wording.not_significant(largest.difference)}"
    others = [item.label for item in items if item is not largest]
    return f"{text}; {len(others)} more like it: {_some(sorted(set(others)))}." if others else f"{text}."


def _inconclusive(by_label: Mapping[str, Sequence[Finding]], num_places: int) -> str:
    """Return which methods are inconclusive everywhere, and the minimum detectable effect."""
    is_everywhere = all(len(items) == num_places for items in by_label.values())
    where = f" in all of {num_places} comparisons" if is_everywhere else " wherever tried"
    where = where if num_places > 1 else ""
    known = [item.difference.detectable for items in by_label.values() for item in items]
    least, most = min(known), max(known)
    effect = wording.number(most)
    if wording.number(least) != effect:
        effect = f"{wording.number(least)} to {effect}"
    power = f"; minimum detectable effect at 80 % power: {effect} points"
    return f"Inconclusive{where}: {_some(sorted(by_label))}{'' if math.isnan(most) else power}."


def _some(names: list[str]) -> str:
    """Return the names; of many, the first ones and the number of the others."""
    if len(names) <= MOST_NAMES + 1:
        return wording.listing(names)
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} others"


def _basis(found: Sequence[Finding]) -> str:
    """Return how many seeds and which correction the conclusions rest on."""
    seeds = sorted({item.difference.num_seeds for item in found})
    spread = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    each = f"Differences are paired over {spread} seed{'s' if seeds[-1] > 1 else ''}"
    num_tests = sum(item.difference.is_tested for item in found)
    corrected = f"; p-values are Holm-corrected for {num_tests} comparisons" if num_tests > 1 else ""
    return f"{each}{corrected}."
