"""Recommends a method for a target and a time budget, from the records, with the evidence for it."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from .. import InputError
from ..user_text import long_path_name, one_form, path_name
from . import wording
from .alarms import FAILED, Alarm, alarms, checked, no_claim
from .candidates import Candidate, candidate, corrected, over_targets
from .records.comparison import REFERENCE, Comparison, comparisons
from .records.load import METRICS, load, runs_frame
from .statistics.paired import paired_difference
from .tables.chosen import chosen_text
from .tables.comparison_table import setting, title

CHEAPER = 0.8  # of another method's time: below, it is mentioned
MOST_NAMES = 4


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
    return " ".join(_elsewhere(target, list(best.values()), seconds))


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
    doubts, reason, usable = _usable(comparison)
    sentences = [f"Alarm: {alarm.text}" for alarm in doubts]
    if reason:
        sentences.append(f"So no method is compared with fine-tuning here ({reason}).")
    place = f"{comparison.target} ({title(comparison)}; {setting(comparison)})"
    if not usable:
        return [*sentences, f"No row can be recommended for {place}."]
    fitting, too_slow = _split(usable, budget)
    if not fitting:
        return [*sentences, _nothing_fits(place, too_slow), *_where(comparison)]
    can_tell = _can_tell(doubts)
    sentences += _advice(place, METRICS[comparison.metric], fitting, too_slow, reason, can_tell)
    if too_slow:
        names = _some([f"{item.label} ({wording.duration(item.seconds)})" for item in too_slow])
        sentences.append(f"Left out because they take longer than {wording.duration(budget or 0)}: {names}.")
    sentences += _where(comparison)
    if num_others:
        sentences.append(f"Not used: {wording.counted(num_others, 'comparison')} with other settings.")
    return sentences


def recommended(comparison: Comparison) -> str:
    """Return the label of the row that `recommend` takes, whatever its time; empty if it takes none."""
    doubts, _, usable = _usable(comparison)
    return _chosen(usable, _can_tell(doubts)).label if usable else ""


def _usable(comparison: Comparison) -> tuple[list[Alarm], str, list[Candidate]]:
    """Return the alarms, why nothing is claimed, and the rows that may be taken, the best first."""
    doubts, differences = checked(comparison)
    reason = no_claim(doubts)
    failed = {alarm.label for alarm in doubts if alarm.kind in FAILED}
    found = [candidate(comparison, label, differences[label]) for label in comparison.by_label]
    usable = [
        item
        for item in corrected(found)
        if item.label not in failed and not (reason and item.label == REFERENCE)
    ]
    return doubts, reason, usable


def _can_tell(doubts: Sequence[Alarm]) -> bool:
    """Return whether the runs can tell rows apart at all."""
    return all(alarm.kind != "ceiling" for alarm in doubts)


def _top(found: Sequence[Candidate]) -> Candidate:
    """Return the best row if it is above fine-tuning, else fine-tuning if it is there."""
    base = next((item for item in found if item.label == REFERENCE), None)
    return next((item for item in found if item.is_above), base or found[0])


def _cheap(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the rows that are cheaper than the top one and do not differ from the best."""
    most = CHEAPER * _top(found).cost
    return [item for item in found if item.cost < most and not _differ(found[0], item)]


def _chosen(found: Sequence[Candidate], can_tell: bool) -> Candidate:
    """Return the row to take.

    Fine-tuning is taken unless a method is above it; a method that is cheaper and does not
    differ significantly from the best, is taken in its place, if the runs can tell rows apart at all.
    """
    return min([_top(found), *(_cheap(found) if can_tell else [])], key=lambda item: item.cost)


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


def _advice(
    place: str,
    score: str,
    found: list[Candidate],
    too_slow: Sequence[Candidate],
    reason: str,
    can_tell: bool,
) -> list[str]:
    """Return which method to take and why, of those that fit, the best first."""
    best, top, chosen, cheap = found[0], _top(found), _chosen(found, can_tell), _cheap(found)
    base = next((item for item in found if item.label == REFERENCE), None)
    lead = _lead(base, too_slow, reason)
    sentences = [
        f"{lead}For {place} take {_named(chosen, score)}{_values(chosen)}: {_why(chosen, best, base)}."
    ]
    if chosen is not best:
        sentences.append(_given_up(best, chosen))
    elif len(found) > 1 and not best.is_above:
        sentences.append(_next_best(best, found[1]))
    if cheap and not can_tell:
        least = min(cheap, key=lambda item: item.cost)
        sentences.append(f"These runs do not decide it: {least.label} takes {least.time} and may be as good.")
    if len(found) == 1:
        sentences.append("No other method that fits has runs, so nothing is compared.")
    elif base and not top.is_above:
        sentences.append("No method is significantly above fine-tuning.")
    return sentences


def _lead(base: Candidate | None, too_slow: Sequence[Candidate], reason: str) -> str:
    """Return why there is no fine-tuning to take, or ""."""
    if base or reason:
        return ""
    slow = next((item for item in too_slow if item.label == REFERENCE), None)
    if slow is None:
        return "There are no runs of fine-tuning here. "
    return f"Fine-tuning takes {wording.duration(slow.seconds)} and does not fit. "


def _why(chosen: Candidate, best: Candidate, base: Candidate | None) -> str:
    """Return why a method is taken, and its time."""
    reasons = ["it has the highest mean"] if chosen is best and not chosen.is_above else []
    if chosen.difference is not None:
        reasons.append(f"it is {chosen.gap}, {chosen.conclusion}")
    price = chosen.time
    if base and base is not chosen:
        ratio = chosen.cost / base.cost
        both = " with its tuning" if chosen.tuning_seconds or base.tuning_seconds else ""
        price += f"; that is {wording.number(ratio, 1 if ratio >= 1 else 2)} times fine-tuning's time{both}"
    return "; ".join([*reasons, f"it takes {price}"])


def _values(item: Candidate) -> str:
    """Return the values that a row was tuned to: " with lr 0.01, head 0.1"; "" if it was not tuned."""
    is_tuned = any(run.record.get("choice") for run in item.runs)
    return f" with {chosen_text(item.runs)}" if is_tuned else ""


def _given_up(best: Candidate, chosen: Candidate) -> str:
    """Return what may be lost by a method that does not have the highest mean."""
    found = paired_difference(best.runs, chosen.runs)
    what = f"{best.label} has the highest mean, {wording.signed_points(found)} from {chosen.label}"
    if not found.is_tested:
        return f"{what}, at {best.time}; these seeds allow no conclusion: run more."
    if found.is_significant:
        return f"{what}, significant before correction for the number of methods, at {best.time}."
    return (
        f"{what}, at {best.time}: {chosen.label} is {'cheaper and ' if chosen.cost < best.cost else ''}not"
        f" distinguishable; an advantage of up to {wording.number(found.high)} points is not excluded"
        f" (minimum detectable effect at 80 % power: {wording.number(found.detectable)} points)."
    )


def _next_best(best: Candidate, other: Candidate) -> str:
    """Return whether the best method differs from the next one."""
    found = paired_difference(best.runs, other.runs)
    if not found.is_tested:
        return f"These seeds allow no conclusion on {best.label} and {other.label}: run more."
    verdict = "significant" if found.is_significant else "inconclusive"
    return f"It is {wording.signed_points(found)} from {other.label}, the next, {verdict}."


def _differ(best: Candidate, item: Candidate) -> bool:
    """Return whether a method may not stand in for the best: they differ, uncorrected, or are not tested."""
    if item is best:
        return False
    found = paired_difference(best.runs, item.runs)
    return found.is_significant or not found.is_tested


def _elsewhere(target: str, known: Sequence[Comparison], budget: float | None) -> list[str]:
    """Return the sentences for a target without runs."""
    doubts = {item.target: reason for item in known if (reason := no_claim(alarms(item)))}
    known = [item for item in known if item.reference and item.target not in doubts]
    left_out = [f"Not used: {target} ({reason})." for target, reason in doubts.items()]
    ask = f"`transferbench bench {shlex.quote(f'target={target}')}` measures it"
    found = [item for item in over_targets(known) if item.label == REFERENCE or item.difference is not None]
    if len(found) < 2:
        return [
            f"There are no runs on {target}, and no other target has runs of both fine-tuning and another"
            f" method: no advice is possible; {ask}.",
            *left_out,
        ]
    targets = _some([item.target for item in known])
    plural = f"{len(known)} other targets" if len(known) > 1 else "1 other target"
    first = (
        f"There are no runs on {target}. The following is from {plural} ({targets}), which is weaker"
        " evidence."
    )
    fitting, too_slow = _split(found, budget)
    if not fitting:
        return [first, *left_out, _nothing_fits(target, too_slow), f"{ask}."]
    return [first, *left_out, _advice_elsewhere(fitting, found, len(known)), f"{ask}."]


def _advice_elsewhere(fitting: Sequence[Candidate], found: Sequence[Candidate], num_targets: int) -> str:
    """Return the method to try first on a new target."""
    there = "on average over targets" if num_targets > 1 else "there"
    others = sorted((c for c in fitting if c.label != REFERENCE), key=lambda item: -item.score[0])
    if not others:
        return "Only fine-tuning fits into the budget."
    best = next((item for item in others if item.is_above), others[0])
    price = f"at {_price(best, found)}"
    if best.is_above:
        return f"Try {best.label}: {there} it is {best.gap}, {best.conclusion}, {price}."
    if not any(item.label == REFERENCE for item in fitting):
        fits = f"of the methods that fit, {best.label} is best, {best.gap} {there}, {price}"
        return f"Fine-tuning does not fit into the budget; {fits}."
    highest = f"the highest, {best.label}, is {best.gap}, {best.conclusion}, {price}"
    return f"Take fine-tuning: {there} no method is significantly above it; {highest}."


def _price(item: Candidate, found: Sequence[Candidate]) -> str:
    """Return the time of a method as a ratio to fine-tuning's."""
    base = next(other for other in found if other.label == REFERENCE)
    return f"{wording.number(item.cost / base.cost)} times fine-tuning's time"


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
