"""What to take for a target without runs: the evidence is from other targets, and from packed comparisons."""

import math
from collections.abc import Iterator, Sequence

from . import wording
from .alarms import alarms, no_claim
from .candidates import Candidate, over_targets
from .choice import CHEAPER, MARGIN, within
from .prior import LEAST, Case, Task, expected, gain, is_shown, left_out, to_try
from .records.comparison import REFERENCE, Comparison, main_metric
from .records.load import METRICS
from .statistics.difference import Difference

MOST_NAMES = 4
COMMAND = "Next"  # in one line, to copy
Line = tuple[str, str]  # what it is about, and the text


def elsewhere(
    target: str, known: Sequence[Comparison], budget: float | None, task: Task, cases: Sequence[Case]
) -> Iterator[Line]:
    """Yield the lines for a target without runs.

    Args:
        target: as the user named it.
        known: comparisons on other targets.
        budget: the longest that a run may train, in seconds; None: any time.
        task: what is known of the target.
        cases: of packed comparisons.
    """
    doubts = {item.target: reason for item in known if (reason := no_claim(alarms(item)))}
    known = [item for item in known if item.reference and item.target not in doubts]
    metric = main_metric(known)
    others = [item for item in known if item.metric != metric]
    known = [item for item in known if item.metric == metric]
    found = [item for item in over_targets(known) if item.label == REFERENCE or item.difference is not None]
    gained = gain(left_out(cases))
    yield "Target", f"{target}: there are no runs on it."
    if len(found) > 1:
        plural = f"{len(known)} other targets" if len(known) > 1 else "1 other target"
        yield from _advice(found, budget, len(known))
        names = some([item.target for item in known])
        yield "Evidence", f"{plural} ({names}): weaker than runs on {target}."
        yield from _earlier(task, cases, gained, "not shown to help")
    elif cases:
        yield "Take", to_try(task, cases) if is_shown(gained) else REFERENCE
        yield from _earlier(task, cases, gained, "not shown to help, hence fine-tuning")
        if budget is not None:
            yield "Not used", f"seconds={budget:g}: no run here tells how long training takes."
    else:
        yield (
            "Take",
            "No advice is possible: no other target has runs of both fine-tuning and another method.",
        )
    doubts |= {item.target: f"{METRICS[item.metric]}, the others {METRICS[metric]}" for item in others}
    for other, reason in doubts.items():
        yield "Not used", f"{other} ({reason})."


def _earlier(task: Task, cases: Sequence[Case], gained: Difference, otherwise: str) -> Iterator[Line]:
    """Yield what the suite's own runs say of a task, and what such advice is worth, or `otherwise`."""
    if not cases:
        return
    pairs = [" to ".join(pair) for pair in dict.fromkeys(case.pair for case in cases)]
    yield "Earlier", f"The suite's own runs, on {some(pairs)}{_by(task)}."
    best = expected(task, cases)[0]
    one = "" if best.difference.has_interval else f" ({wording.counted(len(pairs), 'pair')}: no interval)"
    first = (
        ""
        if best.difference.points > 0
        else "nothing else; no row is above fine-tuning there. The nearest is "
    )
    needs = " and source images" if best.needs_source else ""
    yield (
        "Try",
        f"{first}{best.label}: {wording.signed_points(best.difference)}{one} from fine-tuning on average"
        f" there. It takes {wording.times(best.times)} times fine-tuning's time{needs}.",
    )
    if not gained.num_seeds:
        yield "Sure", f"Not known: to judge such advice takes runs on {LEAST} pairs of source and target."
        return
    helps = "it helps on average" if is_shown(gained) else otherwise
    yield (
        "Sure",
        f"For each pair in turn, the advice of the others gains {wording.signed_points(gained)} over"
        f" fine-tuning: {helps}.",
    )


def _by(task: Task) -> str:
    """Return which pairs count most: "; those count most that had about 5 labels in each of 10 classes"."""
    if math.isnan(task.per_class):
        return ", which all count the same: labels and classes of the target are not known here"
    labels = wording.counted(max(1, round(task.per_class)), "label")
    had = f"about {labels} in each of {wording.whole(task.num_classes)} classes"
    if math.isnan(task.frozen):
        return f"; those count most that had {had}"
    share = f"{wording.number(100 * task.frozen, 0)} % of the way from chance to all right"
    return f"; those count most that had {had}, and frozen features {share}"


def _advice(found: Sequence[Candidate], budget: float | None, num_targets: int) -> Iterator[Line]:
    """Yield the method to try first on a new target: fine-tuning unless one is above it."""
    fitting, too_slow = within(found, budget)
    others = sorted((c for c in fitting if c.label != REFERENCE), key=lambda item: -item.level)
    base = next(item for item in found if item.label == REFERENCE)
    if not fitting:
        yield "Take", nothing_fits(too_slow)
        return
    if not others:
        yield "Take", "Fine-tuning: nothing else fits into the budget."
        return
    there = "on average over these targets" if num_targets > 1 else "there"
    best = next((item for item in others if item.is_above), others[0])
    has = best.difference.num_seeds if best.difference else 0
    fewer = f" ({has} of these targets {'has' if has == 1 else 'have'} it)" if has < num_targets else ""
    evidence = f"{best.gap}, {best.conclusion}{fewer}."
    price = f"{wording.times(best.times)} times fine-tuning's time"
    if best.is_above and not (base in fitting and _loses_little(base, best)):
        yield "Take", best.label
        yield "Why", f"{there.capitalize()} it is {evidence}"
        yield "Cost", f"{price}."
    elif base in fitting:
        much = f" by more than {MARGIN:g} point" if best.is_above else ""
        yield "Take", "Fine-tuning"
        yield "Why", f"No method is significantly above it{much} {there}."
        yield "Why", f"The highest, {best.label}, is {evidence} It takes {price}."
    else:
        yield "Take", best.label
        yield (
            "Why",
            f"Fine-tuning does not fit into the budget. Of the others that fit, it is best: {evidence}",
        )
        yield "Cost", f"{price}."


def _loses_little(base: Candidate, best: Candidate) -> bool:
    """Return whether fine-tuning is cheaper than a row and surely loses no more than MARGIN against it."""
    assert best.difference is not None
    return base.times < CHEAPER * best.times and best.difference.high <= MARGIN


def nothing_fits(found: Sequence[Candidate]) -> str:
    """Return that the budget is too small for every method, and the fastest one."""
    fastest = min(found, key=lambda item: item.seconds)
    return (
        f"No method fits into the budget: the fastest, {fastest.label}, takes"
        f" {wording.duration(fastest.seconds)} per run."
    )


def some(names: Sequence[str]) -> str:
    """Return the names, or the first of them and how many others there are."""
    if len(names) <= MOST_NAMES + 1:
        return wording.listing(list(names))
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} others"
