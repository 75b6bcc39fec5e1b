"""Which method to take for a target and a budget, by the evidence in the records, with its doubt."""

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.special import stdtr

from . import wording
from .records.comparison import REFERENCE, Comparison, comparisons
from .records.load import METRICS, Run, load, runs_frame
from .statistics.aggregate import holm
from .statistics.paired import CONFIDENCE, Difference, mean_interval, paired_difference
from .tables.comparison_table import title

CHEAPER = 0.8  # of the time of another: from here on it is worth a word
MOST_NAMES = 4


@dataclass(frozen=True)
class Candidate:
    """A method, its evidence and its price: on one target, or in the mean over several."""

    label: str
    seconds: float  # of a run, beyond the shared pre-training
    score: tuple[float, float, float]  # mean and interval, in percent
    difference: Difference | None  # from fine-tuning; None for itself, and where that was not run
    runs: Sequence[Run] = ()
    p_value: float = math.nan  # after Holm's correction for all methods beside it

    @property
    def is_above(self) -> bool:
        """Whether it was found to be above fine-tuning."""
        return self.is_told_apart and self.difference is not None and self.difference.points > 0

    @property
    def is_told_apart(self) -> bool:
        """Whether it was found to differ from fine-tuning; one seed cannot show it."""
        return self.p_value <= 1 - CONFIDENCE

    @property
    def gap(self) -> str:
        """Its difference from fine-tuning in numbers."""
        found = self.difference
        if found is None or math.isnan(found.points):
            return "not compared with fine-tuning"
        near = f"{wording.number(found.points, sign=True)} points from fine-tuning"
        if math.isnan(found.low):
            return f"{near}, without an interval"
        return f"{near} (95 % interval {wording.interval(found.low, found.high, sign=True)})"


def recommend(results: Path, target: str, seconds: float | None = None) -> str:
    """Return one paragraph: which method to take for `target`, where a run may train for so many seconds.

    Runs on the target itself decide; without them those on other targets do, as weaker evidence.

    Raises:
        InputError: if `results` holds no run, or a record that cannot be read.
    """
    known = comparisons(load(results))
    own = [item for item in known if item.target == target]
    if own:
        return " ".join(_on_target(max(own, key=_evidence), len(own) - 1, seconds))
    best = {item.target: item for item in sorted(known, key=_evidence)}
    return " ".join(_elsewhere(target, [item for item in best.values() if item.reference], seconds))


def _evidence(comparison: Comparison) -> tuple[bool, int, int]:
    """Return what makes a comparison worth more: fine-tuning in it, methods with several seeds, runs."""
    repeated = sum(len(runs) > 1 for runs in comparison.by_label.values())
    return bool(comparison.reference), repeated, len(comparison.runs)


def _on_target(comparison: Comparison, num_others: int, budget: float | None) -> list[str]:
    """Return the sentences where the target has runs of its own."""
    found = corrected([_candidate(comparison, label) for label in comparison.by_label])
    fitting, too_dear = _split(found, budget)
    score = METRICS[comparison.metric]
    setting = comparison.setting or "all settings at their defaults"
    place = f"{comparison.target} ({title(comparison)}; {setting})"
    if not fitting:
        return [_nothing_fits(place, too_dear), *_where(comparison)]
    sentences = _advice(place, score, fitting, too_dear)
    if too_dear:
        names = _some([f"{item.label} ({wording.duration(item.seconds)})" for item in too_dear])
        sentences.append(f"Left out, for they take longer than {wording.duration(budget or 0)}: {names}.")
    sentences += _where(comparison)
    if num_others:
        are = (
            "comparison with other settings is" if num_others == 1 else "comparisons with other settings are"
        )
        sentences.append(f"{num_others} more {are} there and not used here.")
    return sentences


def _candidate(comparison: Comparison, label: str) -> Candidate:
    """Return one method of a comparison."""
    runs, reference = comparison.by_label[label], comparison.reference
    frame = runs_frame(runs)
    spent = float((frame["train_seconds"] + frame["pretraining_own_seconds"]).mean())
    score = mean_interval(100 * frame["score"].to_numpy())
    is_reference = not reference or label == REFERENCE
    return Candidate(label, spent, score, None if is_reference else paired_difference(runs, reference), runs)


def corrected(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, the best first, with p-values corrected for their number; one seed has none."""
    tested = [item for item in found if item.difference is not None and item.difference.num_seeds > 1]
    values = holm([item.difference.p_value for item in tested if item.difference is not None])
    adjusted = dict(zip((item.label for item in tested), map(float, values), strict=True))
    marked = [
        Candidate(item.label, item.seconds, item.score, item.difference, item.runs,
                  adjusted.get(item.label, math.nan))
        for item in found
    ]  # fmt: skip
    return sorted(marked, key=lambda item: (-item.score[0], item.label))


def _split(found: Sequence[Candidate], budget: float | None) -> tuple[list[Candidate], list[Candidate]]:
    """Return what fits into the budget, and what does not."""
    limit = math.inf if budget is None else budget
    return [c for c in found if c.seconds <= limit], [c for c in found if c.seconds > limit]


def _nothing_fits(place: str, found: Sequence[Candidate]) -> str:
    """Return that the budget is too small for all, and what would do."""
    cheapest = min(found, key=lambda item: item.seconds)
    return (
        f"For {place} no method fits into the budget: the quickest, {cheapest.label}, takes"
        f" {wording.duration(cheapest.seconds)} a run."
    )


def _advice(place: str, score: str, found: list[Candidate], too_dear: Sequence[Candidate]) -> list[str]:
    """Return what to take and why, of methods that fit, the best first."""
    base = next((item for item in found if item.label == REFERENCE), None)
    above = [item for item in found if item.is_above]
    if above:
        return _above(place, score, above, base)
    if base:
        return _fine_tuning(place, score, base, [item for item in found if item is not base])
    best = found[0]
    dear = next((item for item in too_dear if item.label == REFERENCE), None)
    why = (
        f"Fine-tuning takes {wording.duration(dear.seconds)} and does not fit"
        if dear
        else "Fine-tuning was not run beside these"
    )
    sentences = [f"{why}; of the others take {_named(best, score)} for {place}: it has the highest mean."]
    if best.difference is not None:
        sentences.append(f"It is {best.gap}{'' if best.is_told_apart else f', {_undecided(best)}'}.")
    if len(found) > 1:
        sentences.append(_next_best(best, found[1]))
    return sentences


def _above(place: str, score: str, above: list[Candidate], base: Candidate | None) -> list[str]:
    """Return the best of what is above fine-tuning, or the cheapest of what is not told apart from that."""
    best = above[0]
    alike = [best] + [
        item for item in above[1:] if item.seconds < CHEAPER * best.seconds and not _differ(best, item)
    ]
    chosen = min(alike, key=lambda item: item.seconds)
    price = f", {wording.number(chosen.seconds / base.seconds)} times fine-tuning's time" if base else ""
    sentences = [
        f"For {place} take {_named(chosen, score)}: it is {chosen.gap} on {_seeds(chosen)},"
        f" {wording.p_value(chosen.p_value)} after Holm's correction, and takes"
        f" {wording.duration(chosen.seconds)} a run{price}."
    ]
    if chosen is not best:
        sentences.append(_next_best(best, chosen))
    return sentences


def _fine_tuning(place: str, score: str, base: Candidate, others: list[Candidate]) -> list[str]:
    """Return the advice to fine-tune, with what was not told apart from it and what may have been missed."""
    sentences = [f"For {place} take {_named(base, score)}, {wording.duration(base.seconds)} a run."]
    higher = [item for item in others if item.score[0] > base.score[0]]
    if not others:
        return [*sentences, "No other method was run beside it that fits, so nothing is compared."]
    if not higher:
        sentences.append("No other method has a higher mean.")
    else:
        best = higher[0]
        ratio = best.seconds / base.seconds
        price = (
            f"and takes {wording.number(ratio)} times as long" if ratio >= 1 else "though it takes less time"
        )
        sentences.append(
            f"No method was found to be above it: {best.label}, with the highest mean, is {best.gap} on"
            f" {_seeds(best)}, {_undecided(best)}, {price}."
        )
    quick = [
        item
        for item in others
        if item.seconds < CHEAPER * base.seconds and not item.is_told_apart and not math.isnan(item.p_value)
    ]
    if quick:
        item = min(quick, key=lambda item: item.seconds)
        share = wording.number(item.seconds / base.seconds, 2)
        sentences.append(
            f"{item.label} takes {share} of its time and was not told apart from it either, {item.gap}: where"
            " time counts, it may do."
        )
    return [*sentences, _missed(higher or others)]


def _undecided(item: Candidate) -> str:
    """Return why a difference is none to build on."""
    if math.isnan(item.p_value):
        return "of which nothing is claimed"
    found = item.difference
    if found is not None and not found.low <= 0 <= found.high:
        return f"not told apart from it ({wording.p_value(item.p_value)} after Holm's correction)"
    return "not told apart from it"


def _missed(others: Sequence[Candidate]) -> str:
    """Return how large a difference of the best of these would have been seen."""
    tested = [c.difference for c in others if c.difference is not None and not math.isnan(c.p_value)]
    if not tested:
        return "One seed cannot tell methods apart: run more."
    points = wording.number(tested[0].detectable)
    return f"By itself, a difference of {points} points would have been found with probability 0.8."


def _next_best(best: Candidate, other: Candidate) -> str:
    """Return whether two methods are told apart."""
    found = paired_difference(best.runs, other.runs)
    if math.isnan(found.low) or found.num_seeds < 2:
        return f"Whether {best.label} and {other.label} differ cannot be said from these seeds."
    numbers = f"{wording.estimate(found.points, found.low, found.high, sign=True)} points from {other.label}"
    verdict = "told apart" if _differ(best, other) else "not told apart"
    return f"{best.label} is {numbers}, {verdict}, at {wording.duration(best.seconds)} a run."


def _differ(a: Candidate, b: Candidate) -> bool:
    """Return whether the interval of two methods' difference leaves out zero."""
    found = paired_difference(a.runs, b.runs)
    return found.num_seeds > 1 and not math.isnan(found.low) and not found.low <= 0 <= found.high


def _elsewhere(target: str, known: Sequence[Comparison], budget: float | None) -> list[str]:
    """Return the sentences where only other targets have runs."""
    ask = f"`transferbench bench {shlex.quote(f'target={target}')}` finds out"
    found = [item for item in _over_targets(known) if item.label == REFERENCE or item.difference is not None]
    if len(found) < 2:
        return [
            f"There is no run on {target}, and on no other target a run of fine-tuning beside another method:"
            f" nothing can be said; {ask}."
        ]
    targets = _some([item.target for item in known])
    plural = f"{len(known)} other targets" if len(known) > 1 else "1 other target"
    first = f"There is no run on {target}; what follows is of {plural} ({targets}), which is weaker evidence."
    fitting, too_dear = _split(found, budget)
    if not fitting:
        return [first, _nothing_fits(target, too_dear), f"{ask}."]
    return [first, _advice_elsewhere(fitting, found, len(known)), f"{ask}."]


def _advice_elsewhere(fitting: Sequence[Candidate], found: Sequence[Candidate], num_targets: int) -> str:
    """Return what to try first on a new target."""
    there = "in the mean over targets" if num_targets > 1 else "there"
    others = sorted((c for c in fitting if c.label != REFERENCE), key=lambda item: -item.score[0])
    if not others:
        return "Of what fits into the budget, only fine-tuning is left."
    best = next((item for item in others if item.is_above), others[0])
    price = f"at {_price(best, found)}"
    if best.is_above:
        proof = f"{wording.p_value(best.p_value)} after Holm's correction"
        return f"Try {best.label}: {there} it is {best.gap}, {proof}, {price}."
    if not any(item.label == REFERENCE for item in fitting):
        fits = f"of what does, {best.label} is best, {best.gap} {there}, {price}"
        return f"Fine-tuning does not fit into the budget; {fits}."
    highest = f"the highest, {best.label}, is {best.gap}, {_undecided(best)}, {price}"
    return f"Take fine-tuning: {there} no method was found to be above it; {highest}."


def _price(item: Candidate, found: Sequence[Candidate]) -> str:
    """Return the time of a method beside fine-tuning's."""
    base = next(other for other in found if other.label == REFERENCE)
    return f"{wording.number(item.seconds / base.seconds)} times fine-tuning's time"


def _over_targets(known: Sequence[Comparison]) -> list[Candidate]:
    """Return each method's mean difference over the targets that have it, with a t-interval over targets."""
    by_label: dict[str, list[Candidate]] = {}
    for comparison in known:
        for label in comparison.by_label:
            by_label.setdefault(label, []).append(_candidate(comparison, label))
    return corrected([_mean(label, items) for label, items in by_label.items()])


def _mean(label: str, items: Sequence[Candidate]) -> Candidate:
    """Return one method over targets; its mean difference stands for its score, for targets may differ."""
    seconds = sum(item.seconds for item in items) / len(items)
    differences = [item.difference for item in items if item.difference is not None]
    points = [found.points for found in differences if not math.isnan(found.points)]
    if not points:
        return Candidate(label, seconds, (0.0, math.nan, math.nan), None)
    mean, low, high = mean_interval(points)
    p_value = math.nan
    if not math.isnan(low):
        error = statistics.stdev(points) / math.sqrt(len(points))
        p_value = 2 * float(stdtr(len(points) - 1, -abs(mean) / error)) if error else float(mean == 0)
    found = Difference(mean, low, high, len(points), p_value=p_value)
    return Candidate(label, seconds, (mean, low, high), found)


def _where(comparison: Comparison) -> list[str]:
    """Return what the seconds are of."""
    frame = runs_frame(comparison.runs)
    places = sorted({f"{row.device} on {row.host}" for row in frame.itertuples()})
    shared = frame["pretraining_shared_seconds"].max()
    without = f", without the shared pre-training ({wording.duration(shared)}, once)" if shared else ""
    return [f"Times are of {wording.listing(places)}{without}."]


def _named(item: Candidate, score: str) -> str:
    """Return a method with its score."""
    interval = "" if math.isnan(item.score[1]) else f", 95 % interval {wording.interval(*item.score[1:])}"
    return f"{item.label} ({score} {wording.number(item.score[0])} %{interval}, {_seeds(item)})"


def _seeds(item: Candidate) -> str:
    """Return how many seeds its evidence has."""
    number = item.difference.num_seeds if item.difference is not None else len(item.runs)
    return f"{number} seed{'s' if number != 1 else ''}"


def _some(names: Sequence[str]) -> str:
    """Return the names, or the first of them and how many others there are."""
    if len(names) <= MOST_NAMES + 1:
        return wording.listing(list(names))
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} others"
