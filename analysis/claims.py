"""The paper's claims: by how much L2TL is above other rows on pairs of data sets, and what follows by rules.

Claims, pairs and rules stand in docs/explanation/evidence.md, and were written before the runs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from . import wording
from .alarms import alarms, no_claim
from .records.comparison import REFERENCE, Comparison, comparisons
from .records.load import Run
from .records.published import find, of_element
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import paired_difference, pairs_of

KINDS = {  # source and target: how far they are apart, by the images' looks
    ("glyphs", "digits"): "near",
    ("mnist", "usps"): "near",
    ("usps", "mnist"): "near",
    ("tiny-imagenet", "food101"): "middle",
    ("tiny-imagenet", "stanford-cars"): "middle",
    ("tiny-imagenet", "dtd10"): "far",
    ("tiny-imagenet", "pneumonia-mnist"): "far",
}
FEW = 5  # labels per class; the other number is the largest that each set has, up to 20
LEARNED, GRADIENTS = "L2TL", "L2TL by gradients"
UNIFORM, RANDOM = "Uniform weights", "Random search"
OTHERS = (REFERENCE, UNIFORM, RANDOM)
FEW_LABELS, MORE_LABELS = "5 labels per class", "15 or 20 labels per class"
SUPPORTED, CONTRADICTED = "supported", "contradicted"
TWO, FOUR = 2, 4  # pairs that the rules ask for
Key = tuple[str, str, int]  # source, target, labels per class
SMALL, HARM = 0.5, -1.0  # points: an interval below the one, or above the other


class Effect(NamedTuple):
    """By how much a row is above another on a pair, with a number of labels per class."""

    source: str
    target: str
    kind: str
    shots: int
    other: str
    difference: Difference
    alike: float  # share of test images on which both are right, or both wrong

    @property
    def pair(self) -> str:
        """The pair in words."""
        return f"{self.source} to {self.target}"


class Published(NamedTuple):
    """The paper's own differences of L2TL from fine-tuning."""

    what: str
    points: list[float]


def effects(runs: Sequence[Run], row: str = LEARNED, others: Sequence[str] = OTHERS) -> list[Effect]:
    """Return the differences of a row from others.

    Holm correction is over the planned pairs, for each other row, few labels and more; pairs that have not
    run count as p = 1. Nothing is claimed where fine-tuning has an alarm. A row whose training failed counts:
    that is what it does, tuned like the others.
    """
    found = [
        effect
        for key, comparison in by_pair(runs).items()
        for effect in _of_pair(key, comparison, row, others)
    ]
    corrected = []
    for other in others:
        for is_few in (True, False):
            own = [e for e in found if e.other == other and (e.shots == FEW) == is_few]
            differences = holm_corrected([e.difference for e in own], num_planned=len(KINDS))
            corrected += [e._replace(difference=d) for e, d in zip(own, differences, strict=True)]
    return corrected


def _of_pair(key: Key, comparison: Comparison, row: str, others: Sequence[str]) -> Iterator[Effect]:
    """Yield the differences of a row from the others that ran with it, not corrected."""
    source, target, shots = key
    reason = no_claim(alarms(comparison))
    for other in others:
        if not {row, other} <= comparison.by_label.keys():
            continue
        pairs = pairs_of(comparison.by_label[row], comparison.by_label[other])
        answers = [
            np.mean(a.correct == b.correct)
            for a, b in pairs
            if a.correct is not None and b.correct is not None
        ]
        difference = paired_difference(comparison.by_label[row], comparison.by_label[other])
        yield Effect(
            *(source, target, KINDS[source, target], shots, other),
            difference=replace(difference, no_claim=reason),
            alike=float(np.mean(answers)) if answers else math.nan,
        )


def from_other(other: str) -> str:
    """Return the title of differences from a row: "from fine-tuning"."""
    return f"from {other[0].lower()}{other[1:]}"


def by_pair(runs: Sequence[Run]) -> dict[Key, Comparison]:
    """Return the comparison of each source, target and number of labels, in the order of the plan.

    Of several the largest, and none without fine-tuning, or with all labels.
    """
    found = sorted(comparisons(list(runs)), key=lambda each: len(each.runs))
    shots = [each.runs[0].record["config"].get("shots") for each in found]
    known = {
        (each.source, each.target, num): each
        for each, num in zip(found, shots, strict=True)
        if each.reference and num is not None
    }
    planned = list(KINDS)
    order = sorted(
        (key for key in known if key[:2] in KINDS), key=lambda key: (planned.index(key[:2]), key[2])
    )
    return {key: known[key] for key in order}


def gains(found: Sequence[Effect]) -> list[tuple[str, Difference]]:
    """Return, for each near pair, the gain over fine-tuning with few labels minus that with more.

    The runs with few labels are others than those with more, so the errors add up.
    """
    own = {(e.pair, e.shots == FEW): e.difference for e in found if e.other == REFERENCE and e.kind == "near"}
    pairs = dict.fromkeys(pair for pair, _ in own)
    both = [
        (pair, own[pair, True], own[pair, False])
        for pair in pairs
        if {(pair, True), (pair, False)} <= own.keys()
    ]
    return [(pair, _minus(few, more)) for pair, few, more in both]


def _minus(a: Difference, b: Difference) -> Difference:
    points = a.points - b.points
    below, above = (
        math.hypot(a.points - a.low, b.high - b.points),
        math.hypot(a.high - a.points, b.points - b.low),
    )
    return Difference(
        points,
        points - below,
        points + above,
        min(a.num_seeds, b.num_seeds),
        detectable=math.hypot(a.detectable, b.detectable),
        no_claim=a.no_claim or b.no_claim,
    )


def verdicts(found: Sequence[Effect]) -> Iterator[tuple[str, str]]:
    """Yield each claim with what follows by the rules: supported, contradicted or open, and on what.

    Pairs on which nothing may be claimed are left out, and those with one seed.
    """
    found = [e for e in found if e.difference.is_tested and not e.difference.no_claim]
    for labels, is_few in ((FEW_LABELS, True), (MORE_LABELS, False)):
        own = [e for e in found if (e.shots == FEW) == is_few]
        yield f"(i) above fine-tuning on near targets, {labels}", _near(_of(own, REFERENCE, "near"))
    yield "(ii) more so with few labels", _more_with_few([d for _, d in gains(found)])
    for labels, is_few in ((FEW_LABELS, True), (MORE_LABELS, False)):
        own = [e for e in found if (e.shots == FEW) == is_few]
        yield f"(iii) no harm on far targets, {labels}", _far(_of(own, REFERENCE, "far"))
        yield f"the policy is what helps, {labels}", _policy(own)


def _of(found: Sequence[Effect], other: str, kind: str = "") -> list[Difference]:
    return [e.difference for e in found if e.other == other and kind in ("", e.kind)]


def _near(own: Sequence[Difference]) -> str:
    if (count := _count(own, lambda d: d.outcome == "above")) >= TWO:
        return f"{SUPPORTED}: significantly above on {count} of {_run(own)}"
    if (count := _count(own, lambda d: d.high < SMALL)) >= TWO:
        return f"{CONTRADICTED}: the interval is below +{SMALL} on {count} of {_run(own)}"
    return _open(own)


def _more_with_few(own: Sequence[Difference]) -> str:
    if (count := _count(own, lambda d: d.low > 0)) >= TWO:
        return f"{SUPPORTED}: the interval is above zero on {count} of {_run(own)}"
    if (count := _count(own, lambda d: d.high < 0)) >= TWO:
        return f"{CONTRADICTED}: the interval is below zero on {count} of {_run(own)}"
    return _open(own)


def _far(own: Sequence[Difference]) -> str:
    if count := _count(own, lambda d: d.outcome == "below"):
        return f"{CONTRADICTED}: significantly below on {count} of {_run(own)}"
    if len(own) >= TWO and all(d.low > HARM for d in own):
        return f"{SUPPORTED}: the interval is above {wording.number(HARM, 0)} on {_run(own)}"
    return _open(own)


def _policy(found: Sequence[Effect]) -> str:
    uniform, random = ({e.pair: e.difference for e in found if e.other == other} for other in OTHERS[1:])
    both = [(uniform[pair], random[pair]) for pair in uniform if pair in random]
    pairs = wording.counted(len(both), "pair")
    if (count := sum(a.outcome == b.outcome == "above" for a, b in both)) >= TWO:
        return f"{SUPPORTED}: significantly above both on {count} of {pairs}"
    if (count := sum(max(a.high, b.high) < SMALL for a, b in both)) >= FOUR:
        return f"{CONTRADICTED}: both intervals are below +{SMALL} on {count} of {pairs}"
    return _open([difference for of_pair in both for difference in of_pair], len(both))


def _open(own: Sequence[Difference], num_pairs: int | None = None) -> str:
    if not own:
        return "not known: no pair has run, or none without an alarm"
    effect = wording.number(max(d.detectable for d in own))
    pairs = wording.counted(len(own) if num_pairs is None else num_pairs, "pair")
    return f"open on {pairs}; on each, {effect} points would be seen with 80 % power, before correction"


def _count(own: Sequence[Difference], holds: Callable[[Difference], bool]) -> int:
    return sum(map(holds, own))


def _run(own: Sequence[Difference]) -> str:
    return wording.counted(len(own), "pair")


def papers_own() -> list[Published]:
    """Return the paper's differences of L2TL from fine-tuning: Tables 2 and 6 (accuracy) and 7 (AUROC)."""

    def gain(element: str, before: str, target: str, quantity: str = "top1") -> float:
        rows = (find(element, before + row, "imagenet", target, quantity) for row in (LEARNED, REFERENCE))
        ours, reference = (row.value if row else math.nan for row in rows)
        return ours - reference

    sets = [row.target for row in of_element("Table 2") if row.row == LEARNED]
    return [
        Published("the paper, five near sets", [gain("Table 2", "", target) for target in sets]),
        Published("the paper, textures, 10 labels", [gain("Table 6", "10-shot, ", "dtd")]),
        Published("the paper, textures", [gain("Table 6", "", "dtd")]),
        Published("the paper, X-rays, AUROC", [gain("Table 7", "", "chexpert", "auroc")]),
    ]
