"""Alarms: reasons to distrust a comparison, found in its records, and the claims that they rule out.

Older records lack some of the fields that are read here; then there is no alarm of that kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev
from typing import Literal, NamedTuple

from . import wording
from .records.comparison import CLOSED_FORM, FROZEN, REFERENCE, Comparison
from .records.load import METRICS, Run
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import mean_interval, paired_difference

ERRORS = 2  # standard errors above chance, from which a score is not chance
DEAD = 0.02  # of ln C: a training loss this close to it is one of guessing
FITTED = 0.1  # of ln C: a training loss below it is one of images learned by heart
GAP = 10.0  # points below the best row
FEW_SEEDS = 5
FULL = 99.5  # percent that every row's interval reaches

Kind = Literal["chance", "dead", "gap", "frozen wins", "end of grid", "ceiling"]
REASONS: dict[Kind, str] = {  # why nothing is claimed against a fine-tuning that has the alarm
    "frozen wins": "frozen features are above fine-tuning",
    "chance": "fine-tuning is at chance",
    "dead": "fine-tuning has not learned",
    "gap": "fine-tuning overfits or forgets",
    "end of grid": "fine-tuning's best value is at an end of the range tried",
}
FAILED: tuple[Kind, ...] = ("chance", "dead")  # nothing is concluded about a row with these
CHECK = "check images and weights (transferbench data doctor)"
MORE = f"more steps (recipe.steps), or {CHECK}"  # of a row that was tuned
SETTINGS = {"lr": "recipe.lr", "head_lr_factor": "recipe.head_lr_factor"}


@dataclass(frozen=True)
class Alarm:
    """One reason to distrust a comparison, in one line with the numbers and what to do."""

    label: str | None  # the row; None for the whole comparison
    kind: Kind
    text: str
    is_about_reference: bool = False  # then nothing is claimed against fine-tuning

    @property
    def rank(self) -> tuple[bool, bool]:
        """The sort key: that frozen features win comes first, then other alarms about fine-tuning."""
        return self.kind != "frozen wins", not self.is_about_reference


class Checked(NamedTuple):
    """The alarms of a comparison, the most important first, and its differences from fine-tuning."""

    alarms: list[Alarm]
    differences: dict[str, Difference]  # by label, without correction, with the reason to claim nothing


def checked(comparison: Comparison) -> Checked:
    """Return alarms and differences of a comparison; differences of nan for fine-tuning itself."""
    found = {label: _difference(comparison, label) for label in comparison.by_label}
    alarms = [
        *_frozen_wins(found, comparison),
        *(alarm for label in comparison.by_label for alarm in _of_row(label, comparison)),
        *_ceiling(found, comparison),
    ]
    alarms.sort(key=lambda alarm: alarm.rank)
    return Checked(
        alarms, {label: replace(item, no_claim=no_claim(alarms, label)) for label, item in found.items()}
    )


def alarms(comparison: Comparison) -> list[Alarm]:
    """Return the alarms of a comparison, those about fine-tuning first."""
    return checked(comparison).alarms


def no_claim(found: Sequence[Alarm], label: str = "") -> str:
    """Return why nothing may be concluded about a row's difference from fine-tuning; "" if it may be.

    Args:
        found: the alarms of the comparison.
        label: the row; "" asks for the reasons that hold for every row.
    """
    about = {alarm.kind for alarm in found if alarm.is_about_reference}
    reasons = [reason for kind, reason in REASONS.items() if kind in about]
    if not reasons and any(alarm.label == label and alarm.kind in FAILED for alarm in found):
        return "training failed"
    return wording.listing(reasons)


def is_sound(comparison: Comparison) -> bool:
    """Return whether methods may be compared with the fine-tuning of a comparison."""
    return bool(comparison.reference) and not no_claim(alarms(comparison))


def _difference(comparison: Comparison, label: str) -> Difference:
    """Return the difference of a row from fine-tuning; nan for fine-tuning itself."""
    if not comparison.reference or label == REFERENCE:
        return Difference(math.nan, math.nan, math.nan, 0)
    return paired_difference(comparison.by_label[label], comparison.reference)


def _of_row(label: str, comparison: Comparison) -> list[Alarm]:
    """Return the alarms about one row."""
    runs = comparison.by_label[label]
    texts: dict[Kind, str] = {
        "chance": _chance(label, runs),
        "dead": _dead(label, runs),
        "gap": _gap(label, comparison),
        "end of grid": _end_of_grid(label, runs),
    }
    is_reference = label == REFERENCE and bool(comparison.reference)
    return [Alarm(label, kind, text, is_reference) for kind, text in texts.items() if text]


def _chance(label: str, runs: Sequence[Run]) -> str:
    """Return that a row's mean score is not above chance, or ""."""
    chance = _chance_score(runs)
    if chance is None:
        return ""
    score, error = fmean(run.score for run in runs), _standard_error(runs, chance)
    if not score <= chance + ERRORS * error + 1e-9:
        return ""
    advice = _advice(runs, "its training failed: tune it (tune=auto) or change recipe.lr", f"take {MORE}")
    advice = CHECK if runs[0].method in CLOSED_FORM else advice
    return (
        f"{label} is at chance: {METRICS[runs[0].metric]} {wording.number(100 * score)} % over"
        f" {wording.counted(len(runs), 'seed')}, chance {wording.number(100 * chance)} %, {ERRORS} standard"
        f" errors {wording.number(100 * ERRORS * error)} points; {advice}."
    )


def _chance_score(runs: Sequence[Run]) -> float | None:
    """Return the score of guessing, a share; None if the records do not tell the number of classes."""
    num_classes = _num_classes(runs)
    if num_classes is None:
        return None
    if runs[0].metric == "auroc":
        return 0.5
    majority = runs[0].record.get("majority") if runs[0].metric == "top1" else None
    return max(1 / num_classes, majority or 0.0)


def _standard_error(runs: Sequence[Run], chance: float) -> float:
    """Return the standard error of a row's mean: over seeds, and no less than that of guessing once."""
    num_images = max(1, runs[0].record["test"]["num_images"])
    guessing = math.sqrt(
        1 / (3 * num_images) if runs[0].metric == "auroc" else chance * (1 - chance) / num_images
    )
    if len(runs) == 1:
        return guessing
    return max(guessing, stdev(run.score for run in runs) / math.sqrt(len(runs)))


def _dead(label: str, runs: Sequence[Run]) -> str:
    """Return that a row's training loss stayed that of guessing, or ""."""
    loss, guessing = _losses(runs)
    if not abs(loss - guessing) <= DEAD * guessing:
        return ""
    steps = max(run.record["num_steps"] for run in runs)
    advice = _advice(runs, "tune it (tune=auto), or change recipe.lr or recipe.steps", f"take {MORE}")
    return (
        f"{label} has not learned: training loss {wording.number(loss, 2)} after"
        f" {wording.counted(steps, 'step')}, where guessing has {_of_guessing(runs, guessing)}; {advice}."
    )


def _gap(label: str, comparison: Comparison) -> str:
    """Return that a row fits its training images and is far below the best row, or ""."""
    runs = comparison.by_label[label]
    loss, guessing = _losses(runs)
    if not loss < FITTED * guessing:
        return ""
    best = max(comparison.by_label, key=lambda name: fmean(run.score for run in comparison.by_label[name]))
    found = paired_difference(runs, comparison.by_label[best])
    if best == label or not (found.points < -GAP and found.excludes_zero):
        return ""
    advice = _advice(
        runs,
        "tune it (tune=auto), take fewer steps (recipe.steps) or bn=frozen",
        "take fewer steps (recipe.steps)",
    )
    return (
        f"{label} fits its training images (loss {wording.number(loss, 2)}, guessing has"
        f" {_of_guessing(runs, guessing)}) and is below {best} by {wording.points(found)}: it overfits or"
        f" forgets; {advice}."
    )


def _advice(runs: Sequence[Run], if_not_tuned: str, if_tuned: str) -> str:
    """Return what to do about a row: one that was tuned needs something else than tuning."""
    return if_tuned if any(run.record.get("choice") for run in runs) else if_not_tuned


def _losses(runs: Sequence[Run]) -> tuple[float, float]:
    """Return a row's mean final training loss and that of guessing, ln C; nan where they are not known.

    AUROC is of several labels, whose loss is another, and a method in closed form does not train.
    """
    num_classes = _num_classes(runs)
    if num_classes is None or runs[0].metric == "auroc" or runs[0].method in CLOSED_FORM:
        return math.nan, math.nan
    points = [run.record["curve"][-1] for run in runs if run.record["curve"]]
    losses = [loss for point in points if (loss := (point.get("train") or {}).get("loss")) is not None]
    return fmean(losses) if losses else math.nan, math.log(num_classes)


def _num_classes(runs: Sequence[Run]) -> int | None:
    """Return the number of target classes; None if there are fewer than two, or that is not recorded."""
    num = runs[0].record.get("num_classes") or 0
    return num if num > 1 else None


def _of_guessing(runs: Sequence[Run], guessing: float) -> str:
    """Return "ln 10 = 2.30"."""
    return f"ln {_num_classes(runs)} = {wording.number(guessing, 2)}"


def _frozen_wins(found: dict[str, Difference], comparison: Comparison) -> list[Alarm]:
    """Return an alarm if fine-tuning is significantly below a row on frozen features."""
    labels = [label for label in comparison.by_label if label != REFERENCE]
    differences = dict(zip(labels, holm_corrected([found[label] for label in labels]), strict=True))
    frozen = [label for label in labels if comparison.by_label[label][0].method in FROZEN]
    above = [label for label in frozen if differences[label].outcome == "above"]
    if not above:
        return []
    best = max(above, key=lambda label: differences[label].points)
    most = differences[best]
    advice = _advice(
        comparison.reference,
        "take it, or tune fine-tuning (tune=auto, bn=frozen)",
        "fine-tuning was tuned: take it",
    )
    text = (
        f"Frozen features win: {best} is above fine-tuning by {wording.points(most)}, {wording.holm(most)};"
        f" {advice}."
    )
    return [Alarm(REFERENCE, "frozen wins", text, True)]


def _end_of_grid(label: str, runs: Sequence[Run]) -> str:
    """Return which chosen values are the first or last of those tried, or ""."""
    choices = [choice for run in runs if (choice := run.record.get("choice"))]
    ends = {end: choice for choice in choices for end in choice.get("at_end") or ()}
    if not ends:
        return ""
    shown, words = [], []
    for end, choice in ends.items():
        name, _, side = end.partition(" ")
        value = {**choice, **(choice.get("strengths") or {})}.get(name)
        shown.append(f"{name}{'' if value is None else f' {value:.3g}'} ({side or 'an end'})")
        words.append(SETTINGS.get(name, f"method.{name}"))
    return (
        f"{label}: the best value is at an end of the range tried: {wording.listing(shown)}; better ones may"
        f" lie beyond it: try some by tune=off and {wording.listing(words)}."
    )


def _ceiling(found: dict[str, Difference], comparison: Comparison) -> list[Alarm]:
    """Return an alarm if no method could be seen to be above the others."""
    ends = [mean_interval([100 * run.score for run in runs]) for runs in comparison.by_label.values()]
    reach = [mean if math.isnan(high) else high for mean, _, high in ends]
    known = [item.detectable for item in found.values() if not math.isnan(item.detectable)]
    left = 100 - fmean(100 * run.score for run in comparison.reference) if comparison.reference else math.nan
    why = ""
    if known and left < median(known):
        why = (
            f"it sees differences from {wording.number(median(known))} points on (median of"
            f" {wording.counted(len(known), 'row')}), and fine-tuning leaves {wording.number(left)} to 100 %"
        )
    elif len(reach) > 1 and min(reach) >= FULL:
        why = f"the interval of each row reaches {FULL} %"
    num_seeds = min(len(runs) for runs in comparison.by_label.values())
    advice = "more seeds or more test images" if num_seeds >= FEW_SEEDS else f"run seeds={FEW_SEEDS}"
    text = f"This comparison cannot show that a method is better: {why}; {advice}."
    return [Alarm(None, "ceiling", text)] if why else []
