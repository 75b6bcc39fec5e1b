"""Fine-tuning next to the best row on frozen features: what it gains, and what it costs."""

from statistics import fmean

from .. import wording
from ..alarms import FAILED, alarms
from ..records.comparison import FROZEN, REFERENCE, Comparison
from ..records.load import Run, runs_frame
from ..statistics.paired import paired_difference
from .chosen import chosen_numbers, is_tuned


def against_frozen(comparison: Comparison) -> list[str]:
    """Return a sentence on fine-tuning and the frozen row with the highest mean; none without both.

    A row whose training failed is none of them.
    """
    failed = {alarm.label for alarm in alarms(comparison) if alarm.kind in FAILED}
    frozen = [
        label
        for label, runs in comparison.by_label.items()
        if runs[0].method in FROZEN and label not in failed
    ]
    if not comparison.reference or REFERENCE in failed or not frozen:
        return []
    best = max(frozen, key=lambda label: fmean(run.score for run in comparison.by_label[label]))
    runs = comparison.by_label[best]
    found = paired_difference(comparison.reference, runs)
    times = _seconds(comparison.reference) / max(_seconds(runs), 1e-9)
    verdict = ", not tested" if not found.is_tested else "" if found.is_significant else ", inconclusive"
    tuning = " with tuning" if is_tuned(comparison) else ""
    return [
        f"{REFERENCE} is {wording.signed_points(found)} from {best}, the best row on frozen features"
        f"{verdict}, at {wording.times(times)} times its time{tuning}."
    ]


def _seconds(runs: list[Run]) -> float:
    """Return the seconds of one run and of tuning."""
    return float(runs_frame(runs)["train_seconds"].mean()) + float(chosen_numbers(runs)["tuning_seconds"])
