"""Recommends a method for a target and a time budget, from the records, with the evidence for it."""

import math
import shlex
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import InputError
from ..user_text import is_path, long_path_name, one_form, path_name
from . import wording
from .candidates import Candidate
from .choice import MARGIN, Choice, choose
from .new_target import COMMAND, Line, elsewhere, nothing_fits, some
from .next_commands import in_results, next_commands
from .prior import UNKNOWN, Case, Expected, Task, expected, known_cases, task_of
from .records.comparison import REFERENCE, Comparison, comparisons
from .records.load import METRICS, Run, load, load_any, runs_frame
from .records.screens import accuracy_of, encoders_of, is_random
from .statistics.difference import Difference
from .sureness import capital, score_of, sureness
from .tables.chosen import chosen_text
from .tables.comparison_table import setting, title

WIDTH = 100  # characters of a line
INDENT = 11


class Labeled(NamedTuple):
    """The labeled images of a target besides its test part."""

    num_images: int
    num_classes: int
    fingerprint: str = ""  # of the target; empty: not known


def recommend(
    results: Path | None,
    target: str,
    seconds: float | None = None,
    look: Callable[[str], Labeled | None] | None = None,
) -> str:
    """Return lines: which method to take for `target`, if a run may train for `seconds`, why, and its cost.

    Runs on the target decide; without them, runs on other targets do, as weaker evidence, and the suite's own
    runs, by how like their images are.

    Args:
        results: the results folder; None: there is none yet.
        target: the name of a data set, or the path of one.
        seconds: the longest that a run may train; None: any time.
        look: is called with a target that has no runs. It returns None if its images are not known, and
            raises if there is no such data set.

    Raises:
        InputError: there is no folder `results`, or `seconds` is not above zero.
    """
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds={seconds:g}: expected a number above 0")
    known = comparisons(_runs(results))
    own = _of_target(target, known)
    if own:
        return _printed(_on_target(max(own, key=_evidence), len(own) - 1, seconds))
    task = _task(look(target) if look else None, results)
    best = {item.data_set: item for item in sorted(known, key=_evidence)}
    cases = _known_cases()
    lines = elsewhere(target, list(best.values()), seconds, task, cases)
    tried = [row for row in expected(task, cases)[:1] if row.difference.points > 0]
    more = [(COMMAND, _bench_of(row, target, results)) for row in tried]
    return _printed([*lines, (COMMAND, _bench(target, results)), *more])


def _runs(results: Path | None) -> list[Run]:
    if results is None:
        return []
    return load_any(results) if results.is_dir() else load(results)


def _bench(target: str, results: Path | None) -> str:
    """Return the command that measures a target."""
    return f"`transferbench bench {shlex.join(_words(target, results))}` measures it."


def _bench_of(row: Expected, target: str, results: Path | None) -> str:
    """Return the command that measures one row of the suite's own runs beside fine-tuning."""
    words = [*_words(target, results), f"methods=finetune,{row.method}", *["source=PATH"] * row.needs_source]
    images = ", PATH being source images" if row.needs_source else ""
    return f"`transferbench bench {shlex.join(words)}` measures {row.label} beside fine-tuning{images}."


def _words(target: str, results: Path | None) -> list[str]:
    return [f"target={target}", *(in_results(results) if results else [])]


def _known_cases() -> list[Case]:
    """Return the cases of the suite's own runs; none if their file is gone or broken."""
    try:
        return known_cases()
    except InputError:
        return []


def _task(labeled: Labeled | None, results: Path | None) -> Task:
    """Return what is known of a target: its labels, and how far features come if all labels are screened."""
    if labeled is None:
        return UNKNOWN
    accuracies = [
        accuracy_of(screen)
        for screen in (encoders_of(results) if results else ())
        if screen["fingerprints"].get("target") == labeled.fingerprint
        and screen["config"].get("shots") is None
        and not is_random(screen)
    ]
    return task_of(
        labeled.num_images / labeled.num_classes, labeled.num_classes, max(accuracies, default=math.nan)
    )


def recommend_within(comparison: Comparison, seconds: float | None = None) -> str:
    """Return lines as `recommend`, from one comparison alone."""
    return _printed(_on_target(comparison, 0, seconds))


def _printed(lines: Iterable[Line]) -> str:
    """Return the lines under each other, their texts aligned; a command is not broken."""
    fill = textwrap.TextWrapper(
        WIDTH, subsequent_indent=" " * INDENT, break_long_words=False, break_on_hyphens=False
    ).fill
    named = [(name, f"{name + ':':<{INDENT}}{text}") for name, text in lines if text]
    return "\n".join(line if name == COMMAND else fill(line) for name, line in named)


def _of_target(target: str, known: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons on a target: of the newest state of its images.

    Args:
        target: the name as it is shown, or as the record has it, or a path.
        known: all comparisons of the results folder.

    Raises:
        InputError: several data sets have that name.
    """
    is_place = is_path(target)
    long_name = long_path_name(target) if is_place else one_form(target)
    shown = [item for item in known if long_name in (item.target, item.data_set) or target == item.target]
    placed = [item for item in known if item.long_name == long_name]
    named = [item for item in known if item.recorded[1] == path_name(target)]
    named = [item for item in named if not (is_place and item.is_known_set)]
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


def _on_target(comparison: Comparison, num_others: int, budget: float | None) -> Iterator[Line]:
    """Yield the lines for a target that has runs."""
    choice = choose(comparison, budget)
    for alarm in choice.alarms:
        yield "Alarm", alarm.text
    if choice.reason:
        yield "Alarm", f"So no method is compared with fine-tuning here ({choice.reason})."
    yield "Target", f"{comparison.target} ({title(comparison)})"
    if choice.taken:
        yield from _advice(choice, choice.taken, METRICS[comparison.metric])
    elif choice.too_slow:
        yield "Take", nothing_fits(choice.too_slow)
    else:
        yield "Take", "No row can be recommended."
    if choice.taken and choice.too_slow:
        names = some([f"{item.label} ({wording.duration(item.seconds)})" for item in choice.too_slow])
        yield "Left out", f"{names}: a run takes longer than {wording.duration(budget or 0)}."
    yield "Settings", setting(comparison)
    yield "Times", _where(comparison)
    if num_others:
        yield "Not used", f"{wording.counted(num_others, 'comparison')} with other settings."
    for command in next_commands(choice.taken.runs) if choice.taken else ():
        yield COMMAND, command


def _advice(choice: Choice, taken: Candidate, score: str) -> Iterator[Line]:
    """Yield which row to take, why, what it costs, and which cheaper one may do as well."""
    base = next((item for item in choice.fitting if item.label == REFERENCE), None)
    yield "Take", f"{taken.label}: {score_of(taken, score)}"
    if any(run.record.get("choice") for run in taken.runs):
        yield "Values", chosen_text(taken.runs)
    best = choice.fitting[0]
    for reason in _reasons(choice, taken, best):
        yield "Why", reason
    yield "Sure", f"{capital(sureness(choice))}."
    yield "Cost", _cost(taken, base)
    if choice.undecided:
        yield "Cheaper", _undecided(choice.undecided, taken)


def _reasons(choice: Choice, taken: Candidate, best: Candidate) -> Iterator[str]:
    """Yield why a row is taken."""
    if taken is not best:
        loss = next(loss for item, loss in choice.cheaper if item is taken)
        yield (
            f"{best.label} has the highest mean and takes {wording.times(best.cost / taken.cost)} times as"
            f" long. {taken.label} loses {_loss(loss)}: a loss of more than {MARGIN:g} point is excluded."
        )
    elif len(choice.fitting) > 1:
        is_highest = taken.score[0] >= max(item.score[0] for item in choice.fitting)
        shared = "" if is_highest else " on the seeds that it shares with fine-tuning"
        yield f"It has the highest mean{shared}."
    if taken.difference is not None:
        yield f"It is {taken.gap}, {taken.conclusion}."
    elif taken.label != REFERENCE:
        yield _no_reference(choice)


def _no_reference(choice: Choice) -> str:
    """Return why a row is not compared with fine-tuning; "" where an alarm has said so."""
    if choice.reason:
        return ""
    slow = next((item for item in choice.too_slow if item.label == REFERENCE), None)
    return "There are no runs of fine-tuning here." if slow is None else "Fine-tuning does not fit."


def _loss(loss: Difference) -> str:
    """Return what a row may lose against the best: "0.1 points (95 % CI −0.4 to 0.6)"."""
    text = f"{wording.number(loss.points)} points"
    return f"{text} (95 % CI {wording.interval(loss.low, loss.high)})" if loss.has_interval else text


def _cost(taken: Candidate, base: Candidate | None) -> str:
    """Return the time of a row, and how it compares with fine-tuning's."""
    if base is None or base is taken:
        return f"{taken.time}."
    both = " with its tuning" if taken.tuning_seconds or base.tuning_seconds else ""
    return f"{taken.time}: {wording.times(taken.cost / base.cost)} times fine-tuning's time{both}."


def _undecided(found: Sequence[tuple[Candidate, Difference]], taken: Candidate) -> str:
    """Return the cheaper row that the runs leave open, and what they do not exclude."""
    item, loss = next((pair for pair in found if pair[0].label == REFERENCE), found[0])
    price = f"{item.time}, {wording.times(item.cost / taken.cost)} times that"
    doubt = f"it may lose up to {wording.number(loss.high)} points" if loss.is_tested else "it may do as well"
    others = wording.counted(len(found) - 1, "other cheaper row")
    more = f" ({others} likewise)" if len(found) > 1 else ""
    return f"{item.label} takes {price}; {doubt}: more seeds decide{more}."


def _where(comparison: Comparison) -> str:
    """Return where the seconds were measured."""
    places = sorted({f"{row.device} on {row.host}" for row in runs_frame(comparison.runs).itertuples()})
    used = [item for run in comparison.runs for item in run.record["pretraining"] if item["shared"]]
    shared = {item["digest"]: item["seconds"] for item in used}
    number = f"{len(shared)} times" if len(shared) > 1 else "once"
    took = wording.duration(sum(shared.values()))
    without = f", without the pre-training that rows share ({number}, {took})" if shared else ""
    return f"measured on {wording.listing(places)}{without}."
