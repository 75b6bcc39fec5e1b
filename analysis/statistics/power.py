"""The minimum detectable effect of a comparison that is not run yet."""

from collections.abc import Sequence

from ..records.comparison import comparisons
from ..records.load import Run
from .paired import detectable, paired_parts, pairs_of

MOST = 100.0  # points
DISAGREEMENT = 0.1  # share of the test images on which two rows disagree, if nothing is known


def at_best(num_images: int, num_seeds: int, disagreement: float = DISAGREEMENT) -> float:
    """Return a lower bound on the minimum detectable effect in points, without any record.

    Each seed has the variance of `num_images` answers of which a share `disagreement` differs (a binomial
    bound). The bound assumes that seeds differ in nothing else and disagree on images of their own.

    Args:
        num_images: number of test images.
        num_seeds: number of seeds, two or more.
        disagreement: share of the test images on which the rows disagree.
    """
    return min(100 * detectable([(disagreement / num_images / num_seeds, num_seeds - 1)]), MOST)


def with_seeds(effect: float, num_seeds: int, planned: int) -> float:
    """Return a lower bound on the minimum detectable effect with more seeds, from that of a table.

    The bound assumes that seeds cause all of the error: the part of the test images does not shrink.

    Args:
        effect: minimum detectable effect in points with `num_seeds`, as the text below a table says it.
        num_seeds: number of seeds of the table, two or more.
        planned: number of seeds of the plan.
    """
    variance = (effect / detectable([(1.0, num_seeds - 1)])) ** 2 * num_seeds
    return detectable([(variance / planned, planned - 1)])


def earlier(runs: Sequence[Run], num_seeds: int) -> list[float]:
    """Return the minimum detectable effect in points with a number of seeds, of each row of earlier runs.

    A row counts if it has two seeds or more in common with fine-tuning.
    """
    found = []
    for known in comparisons(list(runs)):
        for own in known.by_label.values():
            pairs = pairs_of(own, known.reference)
            if own == known.reference or len(pairs) < 2:
                continue
            _, parts, is_crossed = paired_parts(pairs)
            if len(parts) == 1 + is_crossed:  # else the rows do not differ at all
                (variance, _), *of_images = parts
                of_seeds = variance * len(pairs) / num_seeds, num_seeds - 1
                found.append(min(100 * detectable([of_seeds, *of_images]), MOST))
    return found
