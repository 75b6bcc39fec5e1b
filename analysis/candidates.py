"""Methods to choose from: each with its evidence and its time, on one target or over several."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit

from . import wording
from .alarms import checked
from .records.comparison import REFERENCE, Comparison
from .records.load import Run, runs_frame
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import TAIL, comparable_mean, mean_interval, percent_interval
from .tables.chosen import chosen_numbers


@dataclass(frozen=True)
class Candidate:
    """A method, its evidence and its time: on one target, or averaged over several."""

    label: str
    seconds: float  # of a run, beyond the shared pre-training
    score: tuple[float, float, float]  # mean and interval, in percent
    level: float  # the mean by which it is placed among the others, see `comparable_mean`
    difference: Difference | None  # from fine-tuning; None for itself, and if that was not run
    runs: Sequence[Run] = ()
    tuning_seconds: float = 0.0  # once, for any number of runs
    unit: str = "seed"  # what the difference is a mean over: seeds, or targets
    times: float = 1.0  # over targets: its cost by fine-tuning's on the same ones

    @property
    def cost(self) -> float:
        """The seconds of tuning it and of one run, above zero."""
        return max(self.seconds + self.tuning_seconds, 1e-9)

    @property
    def time(self) -> str:
        """Its time in words: "12 s per run and 1.5 min of tuning, once"."""
        tuning = (
            f" and {wording.duration(self.tuning_seconds)} of tuning, once" if self.tuning_seconds else ""
        )
        return f"{wording.duration(self.seconds)} per run{tuning}"

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
        """The conclusion from its difference, with the p-value of one that excludes zero."""
        if self.difference is None or self.difference.num_seeds == 1:
            return f"no conclusion from one {self.unit}"
        if not self.is_tested:
            return self.difference.note
        if self.is_significant:
            return wording.holm(self.difference)
        if self.difference.excludes_zero:
            return f"not significant after Holm correction ({wording.p_value(self.difference.p_value_holm)})"
        return "inconclusive"


def candidate(comparison: Comparison, label: str, difference: Difference) -> Candidate:
    """Return one method of a comparison."""
    runs = comparison.by_label[label]
    frame = runs_frame(runs)
    spent = float((frame["train_seconds"] + frame["pretraining_own_seconds"]).mean())
    score = percent_interval(frame["score"])
    is_compared = comparison.reference and label != REFERENCE and not difference.no_claim
    tuning = chosen_numbers(runs)["tuning_seconds"]
    level = comparable_mean(runs, comparison.reference, difference)
    return Candidate(label, spent, score, level, difference if is_compared else None, runs, tuning)


def corrected(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, the best first, with Holm correction over their differences."""
    differences = holm_corrected([item.difference for item in found])
    marked = [replace(item, difference=new) for item, new in zip(found, differences, strict=True)]
    return sorted(marked, key=lambda item: (-item.level, item.label))


def over_targets(known: Sequence[Comparison]) -> list[Candidate]:
    """Return each method's mean difference over the targets that have it, with a t-interval over targets.

    A target on which the training of a row failed counts: that is what the row does there.

    Args:
        known: comparisons with a fine-tuning of which no alarm is, one for each target, all of one score.
    """
    by_label: dict[str, list[Candidate]] = {}
    for comparison in known:
        differences = checked(comparison).differences
        own = {
            label: candidate(comparison, label, replace(found, no_claim=""))
            for label, found in differences.items()
        }
        for label, item in own.items():
            beside = replace(item, times=item.cost / own[REFERENCE].cost)
            by_label.setdefault(label, []).append(beside)
    return corrected([_mean(label, items) for label, items in by_label.items()])


def _mean(label: str, items: Sequence[Candidate]) -> Candidate:
    """Return one method over targets, with its mean difference as score: methods may differ in targets."""
    times = statistics.geometric_mean(item.times for item in items)
    seconds = sum(item.seconds for item in items) / len(items)
    tuning = sum(item.tuning_seconds for item in items) / len(items)
    differences = [item.difference for item in items if item.difference is not None]
    points = [found.points for found in differences if not math.isnan(found.points)]
    if not points:
        return Candidate(
            label, seconds, (0.0, math.nan, math.nan), 0.0, None, tuning_seconds=tuning, times=times
        )
    found = _over_targets(points, [(each.high - each.low) / 2 for each in differences if each.has_interval])
    score = (found.points, found.low, found.high)
    return Candidate(
        label, seconds, score, found.points, found, tuning_seconds=tuning, unit="target", times=times
    )


def _over_targets(points: Sequence[float], halves: Sequence[float]) -> Difference:
    """Return the mean over targets with a t-interval, no narrower than those of the targets allow.

    Two targets that are equal by luck would else prove anything.

    Args:
        points: the difference on each target.
        halves: half the width of the interval of each target that has one.
    """
    mean, _, high = mean_interval(points)
    half = max(high - mean, math.hypot(*halves) / len(points))
    if not half > 0:  # one target, or several without any spread
        return Difference(mean, math.nan, math.nan, len(points))
    freedom = len(points) - 1
    t = -abs(mean) / half * float(stdtrit(freedom, 1 - TAIL))
    return Difference(mean, mean - half, mean + half, len(points), p_value=2 * float(stdtr(freedom, t)))
