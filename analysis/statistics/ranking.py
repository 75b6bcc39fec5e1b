"""Source classes ranked by learned weight, and how far seeds agree on the ranking.

Legend: S seeds, C source classes, R permutations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from ..records.load import Run
from .paired import CONFIDENCE, TAIL

TOP = 10
PERMUTATIONS = 299
AT_ONCE = 1_000_000  # classes of seeds that are shuffled together, to limit memory
READABLE = 0.5  # of the first classes, to be shared by two seeds


@dataclass(frozen=True)
class Stability:
    """How far the rankings of several seeds agree; nan where there are no two seeds."""

    num_seeds: int
    num_classes: int
    top: int
    overlap: float = math.nan  # of the first `top` classes, how many two seeds share
    overlap_chance: float = math.nan
    overlap_p_value: float = math.nan  # one-sided, by permutation
    correlation: float = math.nan  # Spearman's, of all classes
    correlation_min: float = math.nan
    correlation_chance: tuple[float, float] = (math.nan, math.nan)  # 95 % of it by chance
    correlation_p_value: float = math.nan

    @property
    def is_known(self) -> bool:
        """Return whether there are two seeds to compare."""
        return not math.isnan(self.overlap)

    @property
    def is_readable(self) -> bool:
        """Return whether seeds share by more than chance, and enough, to speak of single classes."""
        return self.overlap_p_value <= 1 - CONFIDENCE and self.overlap >= READABLE * self.top

    @property
    def is_agreement(self) -> bool:
        """Return whether seeds agree by more than chance in either way; two tests share the 5 %."""
        return 2 * min(self.overlap_p_value, self.correlation_p_value) <= 1 - CONFIDENCE


def weights_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the weights of the classes that all runs weighed, one row per class and one column per seed."""
    learned = {run.seed: run.record.get("class_weights") for run in runs}
    columns = {seed: pd.Series(weights, dtype=float) for seed, weights in learned.items() if weights}
    return pd.DataFrame(columns).dropna().rename_axis(index="class", columns="seed")


def ranking(weights: pd.DataFrame) -> pd.DataFrame:
    """Return the classes by mean weight, the largest first: rank, class, mean, deviation, low, high.

    The deviation is over seeds and nan for one seed; low and high are the least and the greatest
    weight. Classes of equal mean keep the order of the source.
    """
    frame = pd.DataFrame(
        {
            "class": weights.index.astype(str),
            "mean": weights.mean(axis=1).to_numpy(),
            "deviation": weights.std(axis=1, ddof=1).to_numpy(),
            "low": weights.min(axis=1).to_numpy(),
            "high": weights.max(axis=1).to_numpy(),
        }
    ).sort_values("mean", ascending=False, kind="stable", ignore_index=True)
    frame.insert(0, "rank", np.arange(1, len(frame) + 1))
    return frame


def extremes(weights: pd.DataFrame, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the `count` classes of the highest mean weight and those of the lowest, no class twice."""
    ranked = ranking(weights)
    count = min(count, len(ranked) // 2)
    return ranked.head(count), ranked.tail(count)


def rank_correlation(weights: pd.DataFrame) -> float:
    """Return Spearman's correlation of two seeds, as the mean over pairs; nan for a single seed."""
    return float(_agreement(_standardized(weights.to_numpy().T))) if weights.shape[1] > 1 else math.nan


def stability(weights: pd.DataFrame) -> Stability:
    """Return how far the seeds agree; chance is the agreement after shuffling the classes of each seed."""
    num_classes, num_seeds = weights.shape
    top = min(TOP, max(1, num_classes // 2))
    if num_seeds < 2 or num_classes < 2:
        return Stability(num_seeds, num_classes, top)
    weights_SC = weights.to_numpy().T
    rank_SC, first_SC = _standardized(weights_SC), _first(weights_SC, top)
    by_chance, shared_by_chance = _by_chance(rank_SC, first_SC)
    correlation, overlap = float(_agreement(rank_SC)), float(_agreement(first_SC))
    return Stability(
        num_seeds,
        num_classes,
        top,
        overlap=overlap,
        overlap_chance=top * top / num_classes,
        overlap_p_value=_share_of(shared_by_chance, overlap),
        correlation=correlation,
        correlation_min=min(float(a @ b) for a, b in combinations(rank_SC, 2)),
        correlation_chance=(float(np.quantile(by_chance, TAIL)), float(np.quantile(by_chance, 1 - TAIL))),
        correlation_p_value=_share_of(by_chance, correlation),
    )


def _standardized(weights_SC: np.ndarray) -> np.ndarray:
    """Return ranks whose products are Spearman's correlations; zeros for a seed with equal weights."""
    rank_SC = pd.DataFrame(weights_SC).rank(axis=1).to_numpy() - (weights_SC.shape[1] + 1) / 2
    norm_S1 = np.linalg.norm(rank_SC, axis=1, keepdims=True)
    return np.divide(rank_SC, norm_S1, out=np.zeros_like(rank_SC), where=norm_S1 > 0)


def _first(weights_SC: np.ndarray, top: int) -> np.ndarray:
    """Return 1 for the `top` classes of each seed, 0 for the others."""
    first_SC = np.zeros(weights_SC.shape)
    np.put_along_axis(first_SC, np.argsort(-weights_SC, axis=1, kind="stable")[:, :top], 1, axis=1)
    return first_SC


def _agreement(rows_SC: np.ndarray) -> np.ndarray:
    """Return the mean over pairs of seeds of the product of their rows; leading axes stay."""
    num_seeds = rows_SC.shape[-2]
    own = (rows_SC**2).sum(axis=(-2, -1))  # the products of a seed with itself in the square of the sum
    return ((rows_SC.sum(axis=-2) ** 2).sum(axis=-1) - own) / (num_seeds * (num_seeds - 1))


def _by_chance(*tables_SC: np.ndarray) -> list[np.ndarray]:
    """Return the agreement of seeds in each table when their classes are shuffled, again and again."""
    random = np.random.default_rng(0)
    at_once = max(1, AT_ONCE // tables_SC[0].size)
    found: list[list[np.ndarray]] = [[] for _ in tables_SC]
    for start in range(0, PERMUTATIONS, at_once):
        num = min(at_once, PERMUTATIONS - start)
        order_RSC = random.random((num, *tables_SC[0].shape)).argsort(axis=2)
        for results, table_SC in zip(found, tables_SC, strict=True):
            results.append(_agreement(np.take_along_axis(table_SC[None], order_RSC, axis=2)))
    return [np.concatenate(results) for results in found]


def _share_of(by_chance: np.ndarray, found: float) -> float:
    """Return the permutation p-value; at least 1 / (number of permutations + 1)."""
    return float((1 + (by_chance >= found - 1e-9).sum()) / (1 + len(by_chance)))
