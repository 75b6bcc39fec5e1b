"""Recommends a method for a target and a time budget, from the records, with the evidence for it."""

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.special import stdtr

from .. import InputError
from ..user_text import long_path_name, one_form, path_name
from . import wording
from .records.comparison import REFERENCE, Comparison, comparisons
from .records.load import METRICS, Run, load, runs_frame
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import mean_interval, paired_difference
from .tables.comparison_table import title

CHEAPER = 0.8  # of another method's time: below, it is mentioned
MOST_NAMES = 4


@dataclass(frozen=True)
class Candidate:
    """A method, its evidence and its time: on one target, or averaged over several."""

    label: str
    seconds: float  # of a run, beyond the shared pre-training
    score: tuple[float, float, float]  # mean and interval, in percent
    difference: Difference | None  # from fine-tuning; None for itself, and if that was not run
    runs: Sequence[Run] = ()

    @property
    def is_tested(self) -> bool:
        """Return whether its difference from fine-tuning has an interval over several seeds."""
        return self.difference is not None and self.difference.is_tested

    @property
    def is_significant(self) -> bool:
        """Return whether it differs significantly from fine-tuning."""
        return self.difference is not None and self.difference.outcome in ("above", "below")

    @property
    def is_above(self) -> bool:
        """Return whether it is significantly above fine-tuning."""
        return self.difference is not None and self.difference.outcome == "above"

    @property
    def gap(self) -> str:
        """Its difference from fine-tuning: "+2.1 points (95 % CI +0.8 to +3.4) from fine-tuning"."""
        if self.difference is None or math.isnan(self.difference.points):
            return "not compared with fine-tuning"
        return f"{wording.signed_points(self.difference)} from fine-tuning"

    @property
    def conclusion(self) -> str:
        """The conclusion from a difference that is not significant."""
        if self.difference is None or not self.is_tested:
            return "no conclusion from one seed"
        if self.difference.excludes_zero:
            return f"not significant after Holm correction ({wording.p_value(self.difference.p_value_holm)})"
        return "inconclusive"


def recommend(results: Path, target: str, seconds: float | None = None) -> str:
    """Return one paragraph: which method to take for `target`, if a run may train for `seconds`.

    Runs on the target decide; without them, runs on other targets do, as weaker evidence.

    Raises:
        InputError: if `results` holds no run, or a record that cannot be read.
    """
    known = comparisons(load(results))
    own = _of_target(target, known)
    if own:
        return " ".join(_on_target(max(own, key=_evidence), len(own) - 1, seconds))
    best = {item.data_set: item for item in sorted(known, key=_evidence)}
    return " ".join(_elsewhere(target, [item for item in best.values() if item.reference], seconds))


def _of_target(target: str, known: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons on a target: of the newest state of its images.

    Args:
        target: the name as it is shown, or as the record has it, or a path.
        known: all comparisons of the results folder.

    Raises:
        InputError: several data sets have that name.
    """
    is_path = "/" in target or target.endswith(".tar")
    long_name = long_path_name(target) if is_path else one_form(target)
    shown = [item for item in known if long_name in (item.target, item.data_set) or target == item.target]
    placed = [item for item in known if item.long_name == long_name]
    named = [item for item in known if item.recorded[1] == path_name(target)]
    named = [item for item in named if not (is_path and item.is_known_set)]
    found = next(filter(None, (shown, placed, named)), [])
    if len(sets := sorted({item.data_set for item in found})) > 1:
        raise InputError(
            f"target={target}: several data sets have that name; expected one of {', '.join(sets)}"
        )
    newest = max(found, key=lambda item: max(run.record["ended"] for run in item.runs), default=None)
    return [item for item in found if newest and item.target == newest.target]


def _evidence(comparison: Comparison) -> tuple[bool, int, int]:
    """Return the rank of a comparison: fine-tuning in it, methods with several seeds, runs."""
    repeated = sum(len(runs) > 1 for runs in comparison.by_label.values())
    return bool(comparison.reference), repeated, len(comparison.runs)


def _on_target(comparison: Comparison, num_others: int, budget: float | None) -> list[str]:
    """Return the sentences for a target that has runs."""
    found = corrected([_candidate(comparison, label) for label in comparison.by_label])
    fitting, too_slow = _split(found, budget)
    score = METRICS[comparison.metric]
    setting = comparison.setting or "all settings at their defaults"
    place = f"{comparison.target} ({title(comparison)}; {setting})"
    if not fitting:
        return [_nothing_fits(place, too_slow), *_where(comparison)]
    sentences = _advice(place, score, fitting, too_slow)
    if too_slow:
        names = _some([f"{item.label} ({wording.duration(item.seconds)})" for item in too_slow])
        sentences.append(f"Left out because they take longer than {wording.duration(budget or 0)}: {names}.")
    sentences += _where(comparison)
    if num_others:
        sentences.append(f"Not used: {wording.counted(num_others, 'comparison')} with other settings.")
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
    """Return the candidates, the best first, with Holm correction over their differences."""
    differences = holm_corrected([item.difference for item in found])
    marked = [replace(item, difference=new) for item, new in zip(found, differences, strict=True)]
    return sorted(marked, key=lambda item: (-item.score[0], item.label))


def _split(found: Sequence[Candidate], budget: float | None) -> tuple[list[Candidate], list[Candidate]]:
    """Return the methods that fit into the budget, and those that do not."""
    limit = math.inf if budget is None else budget
    return [c for c in found if c.seconds <= limit], [c for c in found if c.seconds > limit]


def _nothing_fits(place: str, found: Sequence[Candidate]) -> str:
    """Return that the budget is too small for every method, and the fastest one."""
    fastest = min(found, key=lambda item: item.seconds)
    return (
        f"For {place} no method fits into the budget: the fastest, {fastest.label}, takes"
        f" {wording.duration(fastest.seconds)} per run."
    )


def _advice(place: str, score: str, found: list[Candidate], too_slow: Sequence[Candidate]) -> list[str]:
    """Return which method to take and why, of those that fit, the best first."""
    base = next((item for item in found if item.label == REFERENCE), None)
    above = [item for item in found if item.is_above]
    if above:
        return _above(place, score, above, base)
    if base:
        return _fine_tuning(place, score, base, [item for item in found if item is not base])
    best = found[0]
    slow = next((item for item in too_slow if item.label == REFERENCE), None)
    why = (
        f"Fine-tuning takes {wording.duration(slow.seconds)} and does not fit"
        if slow
        else "There are no runs of fine-tuning here"
    )
    sentences = [f"{why}. Of the others, take {_named(best, score)} for {place}: it has the highest mean."]
    if best.difference is not None:
        sentences.append(f"It is {best.gap}{'' if best.is_significant else f', {best.conclusion}'}.")
    if len(found) > 1:
        sentences.append(_next_best(best, found[1]))
    return sentences


def _above(place: str, score: str, above: list[Candidate], base: Candidate | None) -> list[str]:
    """Return the best method above fine-tuning, or a cheaper one that does not differ from it."""
    best = above[0]
    alike = [best] + [
        item for item in above[1:] if item.seconds < CHEAPER * best.seconds and not _differ(best, item)
    ]
    chosen = min(alike, key=lambda item: item.seconds)
    price = f", {wording.number(chosen.seconds / base.seconds)} times fine-tuning's time" if base else ""
    sentences = [
        f"For {place} take {_named(chosen, score)}: it is {chosen.gap}, {_p_value(chosen)}, and takes"
        f" {wording.duration(chosen.seconds)} per run{price}."
    ]
    if chosen is not best:
        sentences.append(_next_best(best, chosen))
    return sentences


def _p_value(item: Candidate) -> str:
    """Return the p-value of a tested difference."""
    return wording.holm(item.difference) if item.difference is not None else ""


def _fine_tuning(place: str, score: str, base: Candidate, others: list[Candidate]) -> list[str]:
    """Return the advice to fine-tune, and the evidence about the other methods."""
    sentences = [f"For {place} take {_named(base, score)}, {wording.duration(base.seconds)} per run."]
    higher = [item for item in others if item.score[0] > base.score[0]]
    if not others:
        return [*sentences, "No other method that fits has runs, so nothing is compared."]
    if not higher:
        sentences.append("No other method has a higher mean.")
    else:
        best = higher[0]
        ratio = best.seconds / base.seconds
        price = f"it takes {wording.number(ratio)} times as long" if ratio >= 1 else "it takes less time"
        sentences.append(
            f"No method is significantly above it. {best.label}, with the highest mean, is {best.gap},"
            f" {best.conclusion}; {price}."
        )
    quick = [
        item
        for item in others
        if item.seconds < CHEAPER * base.seconds and item.is_tested and not item.is_significant
    ]
    if quick:
        item = min(quick, key=lambda item: item.seconds)
        share = wording.number(item.seconds / base.seconds, 2)
        sentences.append(
            f"{item.label} takes {share} of its time and is {item.gap}, {item.conclusion}: an option if time"
            " matters."
        )
    return [*sentences, _power(higher or others)]


def _power(others: Sequence[Candidate]) -> str:
    """Return the power to detect a difference of the best of these methods."""
    tested = [item.difference for item in others if item.difference is not None and item.difference.is_tested]
    if not tested:
        return "One seed allows no conclusion: run more."
    points = wording.number(tested[0].detectable)
    return f"Minimum detectable effect at 80 % power, without correction: {points} points."


def _next_best(best: Candidate, other: Candidate) -> str:
    """Return whether two methods differ significantly."""
    found = paired_difference(best.runs, other.runs)
    if not found.is_tested:
        return f"These seeds allow no conclusion on {best.label} and {other.label}."
    verdict = "significant" if found.is_significant else "inconclusive"
    return (
        f"{best.label} is {wording.signed_points(found)} from {other.label}, {verdict}, at"
        f" {wording.duration(best.seconds)} per run."
    )


def _differ(a: Candidate, b: Candidate) -> bool:
    """Return whether two methods differ significantly, without correction."""
    found = paired_difference(a.runs, b.runs)
    return found.is_tested and found.is_significant


def _elsewhere(target: str, known: Sequence[Comparison], budget: float | None) -> list[str]:
    """Return the sentences for a target without runs."""
    ask = f"`transferbench bench {shlex.quote(f'target={target}')}` measures it"
    found = [item for item in _over_targets(known) if item.label == REFERENCE or item.difference is not None]
    if len(found) < 2:
        return [
            f"There are no runs on {target}, and no other target has runs of both fine-tuning and another"
            f" method: no advice is possible; {ask}."
        ]
    targets = _some([item.target for item in known])
    plural = f"{len(known)} other targets" if len(known) > 1 else "1 other target"
    first = (
        f"There are no runs on {target}. The following is from {plural} ({targets}), which is weaker"
        " evidence."
    )
    fitting, too_slow = _split(found, budget)
    if not fitting:
        return [first, _nothing_fits(target, too_slow), f"{ask}."]
    return [first, _advice_elsewhere(fitting, found, len(known)), f"{ask}."]


def _advice_elsewhere(fitting: Sequence[Candidate], found: Sequence[Candidate], num_targets: int) -> str:
    """Return the method to try first on a new target."""
    there = "on average over targets" if num_targets > 1 else "there"
    others = sorted((c for c in fitting if c.label != REFERENCE), key=lambda item: -item.score[0])
    if not others:
        return "Only fine-tuning fits into the budget."
    best = next((item for item in others if item.is_above), others[0])
    price = f"at {_price(best, found)}"
    if best.is_above:
        return f"Try {best.label}: {there} it is {best.gap}, {_p_value(best)}, {price}."
    if not any(item.label == REFERENCE for item in fitting):
        fits = f"of the methods that fit, {best.label} is best, {best.gap} {there}, {price}"
        return f"Fine-tuning does not fit into the budget; {fits}."
    highest = f"the highest, {best.label}, is {best.gap}, {best.conclusion}, {price}"
    return f"Take fine-tuning: {there} no method is significantly above it; {highest}."


def _price(item: Candidate, found: Sequence[Candidate]) -> str:
    """Return the time of a method as a ratio to fine-tuning's."""
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
    """Return one method over targets, with its mean difference as score: methods may differ in targets."""
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
    """Return where the seconds were measured."""
    frame = runs_frame(comparison.runs)
    places = sorted({f"{row.device} on {row.host}" for row in frame.itertuples()})
    shared = frame["pretraining_shared_seconds"].max()
    without = f", without the shared pre-training ({wording.duration(shared)}, once)" if shared else ""
    return [f"Times were measured on {wording.listing(places)}{without}."]


def _named(item: Candidate, score: str) -> str:
    """Return a method with its score."""
    interval = "" if math.isnan(item.score[1]) else f", 95 % CI {wording.interval(*item.score[1:])}"
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
