"""Fine-tuning next to the best row on frozen features: what it gains, and what it costs."""

from dataclasses import replace
from statistics import fmean

from .. import wording
from ..alarms import FAILED, checked, no_claim
from ..records.comparison import FROZEN, REFERENCE, Comparison
from ..records.load import Run, runs_frame
from ..statistics.aggregate import holm_corrected
from ..statistics.difference import Difference, Outcome
from .chosen import chosen_numbers, is_tuned

VERDICTS: dict[Outcome, str] = {
    "above": "",
    "below": "",
    "not significant": ", not significant after Holm correction",
    "inconclusive": ", inconclusive",
    "untested": ", not tested",
    "no claim": ", no claim",
}


def against_frozen(comparison: Comparison) -> list[str]:
    """Return a sentence on fine-tuning and the frozen row with the highest mean; none without both.

    A row whose training failed is none of them. What is significant is so among all rows of the comparison.
    """
    doubts, differences = checked(comparison)
    failed = {alarm.label for alarm in doubts if alarm.kind in FAILED}
    frozen = [
        label
        for label, runs in comparison.by_label.items()
        if runs[0].method in FROZEN and label not in failed
    ]
    if not comparison.reference or REFERENCE in failed or not frozen:
        return []
    best = max(frozen, key=lambda label: fmean(run.score for run in comparison.by_label[label]))
    runs = comparison.by_label[best]
    of_best = dict(zip(differences, holm_corrected(list(differences.values())), strict=True))[best]
    others = [alarm for alarm in doubts if alarm.kind != "frozen wins"]  # that is what the sentence says
    found = _turned(replace(of_best, no_claim=no_claim(others, best)))
    times = _seconds(comparison.reference) / max(_seconds(runs), 1e-9)
    tuning = " with tuning" if is_tuned(comparison) else ""
    return [
        f"{REFERENCE} is {wording.signed_points(found)} from {best}, the best row on frozen features"
        f"{VERDICTS[found.outcome]}, at {wording.times(times)} times its time{tuning}."
    ]


def _turned(of_row: Difference) -> Difference:
    """Return by how much fine-tuning is above a row, of by how much the row is above it."""
    return replace(of_row, points=-of_row.points, low=-of_row.high, high=-of_row.low)


def _seconds(runs: list[Run]) -> float:
    """Return the seconds of one run and of tuning."""
    return float(runs_frame(runs)["train_seconds"].mean()) + float(chosen_numbers(runs)["tuning_seconds"])
