"""What to take for a target without runs: the evidence is from other targets, and from packed comparisons."""

import math
import shlex
from collections.abc import Iterator, Sequence

from . import wording
from .alarms import alarms, no_claim
from .candidates import Candidate, over_targets
from .choice import within
from .prior import LEAST, Case, Task, expected, gain, is_shown, left_out, to_try
from .records.comparison import REFERENCE, Comparison

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
    found = [item for item in over_targets(known) if item.label == REFERENCE or item.difference is not None]
    yield "Target", f"{target}: there are no runs on it."
    if len(found) < 2:
        yield "Take", to_try(task, cases) if is_shown(gain(left_out(cases))) else REFERENCE
        for reason in _earlier(task, cases):
            yield "Why", reason
        if budget is not None:
            yield "Not used", f"seconds={budget:g}: no run here tells how long training takes."
    else:
        plural = f"{len(known)} other targets" if len(known) > 1 else "1 other target"
        yield from _advice(found, budget, len(known))
        yield (
            "Evidence",
            (f"{plural} ({some([item.target for item in known])}): weaker than runs on {target}."),
        )
        for reason in _earlier(task, cases):
            yield "Earlier", reason
    for other, reason in doubts.items():
        yield "Not used", f"{other} ({reason})."
    yield COMMAND, f"`transferbench bench {shlex.quote(f'target={target}')}` measures it."


def _earlier(task: Task, cases: Sequence[Case]) -> Iterator[str]:
    """Yield what packed comparisons say of a task, and what such advice is worth."""
    pairs = [" to ".join(pair) for pair in dict.fromkeys(case.pair for case in cases)]
    best = expected(task, cases)[0]
    which = f"{wording.counted(len(pairs), 'pair')} ({some(pairs)}){_by(task)}"
    price = f"at {wording.times(best.times)} times its time"
    said = f"{wording.signed_points(best.difference)} from fine-tuning, {price}"
    yield f"The highest in the suite's own runs on {which} is {best.label}: {said}."
    found = left_out(cases)
    if not found:
        yield f"Whether this is a guide to other images is not known: that takes {LEAST} pairs."
        return
    helps = "it helps" if is_shown(gain(found)) else "not shown to help"
    yield (
        f"Followed on each pair, by what the other pairs say, such advice gains"
        f" {wording.signed_points(gain(found))} over fine-tuning: {helps}."
    )


def _by(task: Task) -> str:
    """Return what decides how much a case counts: ", by likeness to 5 labels in each of 10 classes"."""
    if math.isnan(task.per_class):
        return ""
    share = 100 * task.frozen
    frozen = "" if math.isnan(share) else f" with frozen features {share:.0f} % of the way from chance to all"
    return f", by likeness to {task.per_class:.0f} labels in each of {task.num_classes:.0f} classes{frozen},"


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
    evidence = f"{best.gap}, {best.conclusion}."
    price = f"{wording.times(best.cost / base.cost)} times fine-tuning's time"
    if best.is_above:
        yield "Take", best.label
        yield "Why", f"{there.capitalize()} it is {evidence}"
        yield "Cost", f"{price}."
    elif base in fitting:
        yield "Take", "Fine-tuning"
        yield "Why", f"No method is significantly above it {there}."
        yield "Why", f"The highest, {best.label}, is {evidence} It takes {price}."
    else:
        yield "Take", best.label
        yield (
            "Why",
            f"Fine-tuning does not fit into the budget. Of the others that fit, it is best: {evidence}",
        )
        yield "Cost", f"{price}."


def nothing_fits(found: Sequence[Candidate]) -> str:
    """Return that the budget is too small for every method, and the fastest one."""
    fastest = min(found, key=lambda item: item.seconds)
    return (
        f"no method fits into the budget: the fastest, {fastest.label}, takes"
        f" {wording.duration(fastest.seconds)} per run."
    )


def some(names: Sequence[str]) -> str:
    """Return the names, or the first of them and how many others there are."""
    if len(names) <= MOST_NAMES + 1:
        return wording.listing(list(names))
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} others"
