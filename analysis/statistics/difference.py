"""A difference between two methods: its interval, its p-value and what follows from them."""

import math
from dataclasses import dataclass
from typing import Literal

CONFIDENCE = 0.95
POWER = 0.8

Outcome = Literal["above", "below", "not significant", "inconclusive", "untested", "no claim"]


@dataclass(frozen=True)
class Difference:
    """A difference in points (hundredths of the score) with its interval; nan where there is none.

    `p_value` is below .05 exactly if the interval excludes 0. `detectable` is the minimum detectable effect
    at 80 % power: the true difference in points that a test of level .05 finds with probability .8, given as
    many seeds and test examples with this spread. With one seed, both cover the choice of test examples
    only, as the interval does.
    """

    points: float
    low: float
    high: float
    num_seeds: int
    note: str = ""
    p_value: float = math.nan
    detectable: float = math.nan
    p_value_holm: float = math.nan  # after Holm correction; nan if it is in no family of tests
    num_compared: int = 1  # tests in its family
    no_claim: str = ""  # why nothing may be concluded from it, whatever its interval

    @property
    def has_interval(self) -> bool:
        """Return whether there is an interval."""
        return not math.isnan(self.low)

    @property
    def is_tested(self) -> bool:
        """Return whether there are enough seeds for a conclusion: with one seed there is none."""
        return self.num_seeds > 1 and self.has_interval

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval excludes zero."""
        return self.has_interval and not self.low <= 0 <= self.high

    @property
    def is_significant(self) -> bool:
        """Return whether the interval excludes zero, and the Holm-corrected test of several agrees."""
        return (
            self.excludes_zero
            and not self.no_claim
            and (self.num_compared == 1 or self.p_value_holm <= 1 - CONFIDENCE)
        )

    @property
    def outcome(self) -> Outcome:
        """The conclusion: `not significant` if the interval excludes zero only before Holm correction."""
        if self.no_claim:
            return "no claim"
        if not self.is_tested:
            return "untested"
        if self.is_significant:
            return "above" if self.points > 0 else "below"
        return "not significant" if self.excludes_zero else "inconclusive"
