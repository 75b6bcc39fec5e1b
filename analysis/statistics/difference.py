"""A difference between two methods, with its interval: what `stats` makes and `words` puts into words."""

import math
from dataclasses import dataclass

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """A difference in points (hundredths of the score) with its interval; nan where there is none.

    `p_value` is below .05 just where the interval excludes 0. `detectable` is the true difference in points
    that as many seeds and test examples, varying as these do, show with probability .8 at that level.
    With one seed both speak, as the interval does, of the choice of test examples alone.
    """

    points: float
    low: float
    high: float
    num_seeds: int
    note: str = ""
    p_value: float = math.nan
    detectable: float = math.nan
