"""Which row of a comparison to take: by its records, and for runs of at most some seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .alarms import FAILED, Alarm, checked, no_claim
from .candidates import Candidate, candidate, corrected
from .records.comparison import REFERENCE, Comparison
from .statistics.difference import Difference
from .statistics.paired import paired_difference

CHEAPER = 0.8  # of another row's time: a row that takes less is cheaper
MARGIN = 1.0  # points that a cheaper row may lose against the row with the highest mean


@dataclass(frozen=True)
class Choice:
    """The rows of a comparison to choose from, and what speaks against them."""

    alarms: list[Alarm]
    reason: str  # why nothing may be compared with fine-tuning; "" if it may be
    fitting: list[Candidate]  # within the time, the highest mean first
    too_slow: list[Candidate]

    @property
    def best(self) -> Candidate | None:
        """The row with the highest mean; None if none fits."""
        return self.fitting[0] if self.fitting else None

    @property
    def taken(self) -> Candidate | None:
        """The row to take: the cheapest of the best one and of those that surely lose no more than MARGIN."""
        equal = [item for item, loss in self.cheaper if loss.is_tested and loss.high <= MARGIN]
        return min(equal, key=lambda item: item.cost) if equal else self.best

    @property
    def undecided(self) -> list[tuple[Candidate, Difference]]:
        """Rows cheaper than the one taken, whose loss against the best may be below MARGIN or not."""
        if self.taken is None:
            return []
        limit = CHEAPER * self.taken.cost
        return [
            (item, loss)
            for item, loss in self.cheaper
            if item.cost < limit and (not loss.is_tested or loss.low <= MARGIN < loss.high)
        ]

    @cached_property
    def cheaper(self) -> list[tuple[Candidate, Difference]]:
        """Rows that are cheaper than the best, each with what it loses: points of the best above it."""
        if self.best is None:
            return []
        limit = CHEAPER * self.best.cost
        return [
            (item, paired_difference(self.best.runs, item.runs))
            for item in self.fitting[1:]
            if item.cost < limit
        ]


def choose(comparison: Comparison, seconds: float | None = None) -> Choice:
    """Return the rows to choose from; `choose(comparison).taken.label` names the one to take.

    Rows whose training failed are left out. So is fine-tuning where an alarm is about it, unless it has the
    highest mean in that time: at an end of the range tried its score is real.

    Args:
        comparison: the runs.
        seconds: the longest that a run may train; None: any time.
    """
    doubts, differences = checked(comparison)
    reason = no_claim(doubts)
    failed = {alarm.label for alarm in doubts if alarm.kind in FAILED}
    found = corrected([candidate(comparison, label, differences[label]) for label in comparison.by_label])
    usable = [item for item in found if item.label not in failed]
    fitting = within(usable, seconds)[0] or usable
    if reason and fitting and fitting[0].label != REFERENCE:
        usable = [item for item in usable if item.label != REFERENCE]
    return Choice(doubts, reason, *within(usable, seconds))


def within(found: Sequence[Candidate], seconds: float | None) -> tuple[list[Candidate], list[Candidate]]:
    """Return the rows whose runs take at most `seconds`, and the others."""
    limit = math.inf if seconds is None else seconds
    return [c for c in found if c.seconds <= limit], [c for c in found if c.seconds > limit]
