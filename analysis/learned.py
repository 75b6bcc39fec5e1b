"""What a method learned of the source: its classes by weight, and whether seeds agree on it.

Legend: S seeds, C source classes, R permutations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from . import words
from .formats import Entry, Table
from .load import Run
from .published import Published, of_element
from .stats import CONFIDENCE, TAIL
from .suites import Cell, Suite

TOP = 10
PERMUTATIONS = 299
AT_ONCE = 1_000_000  # classes of seeds that are shuffled together, for the sake of memory
READABLE = 0.5  # of the first classes, to be shared by two seeds
NOTE = (
    "Weights are means over seeds of what a run learned for each source class, with the least and the"
    " greatest. Two seeds agree by the first classes that they share, and by Spearman's rank correlation of"
    " all classes, both as means over pairs of seeds; by chance is what comes out when the classes of each"
    " seed are shuffled. First classes may be read where two seeds share at least half of them, and more than"
    " by chance (5 %)."
)


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
        """Whether there are two seeds to compare."""
        return not math.isnan(self.overlap)

    @property
    def is_readable(self) -> bool:
        """Whether seeds share by more than chance, and enough, to speak of single classes."""
        return self.overlap_p_value <= 1 - CONFIDENCE and self.overlap >= READABLE * self.top

    @property
    def is_agreement(self) -> bool:
        """Whether seeds agree by more than chance in either way; two tests share the 5 %."""
        return 2 * min(self.overlap_p_value, self.correlation_p_value) <= 1 - CONFIDENCE


def weights_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the weights of the classes that all runs weighed, one row a class and one column a seed."""
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


def stability(weights: pd.DataFrame) -> Stability:
    """Return how far the seeds agree; chance is what remains when the classes of each are shuffled."""
    num_classes, num_seeds = weights.shape
    top = min(TOP, max(1, num_classes // 2))
    if num_seeds < 2 or num_classes < 2:
        return Stability(num_seeds, num_classes, top)
    weights_SC = weights.to_numpy().T
    rank_SC, first_SC = _standardised(weights_SC), _first(weights_SC, top)
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


def _standardised(weights_SC: np.ndarray) -> np.ndarray:
    """Return ranks whose products are Spearman's correlations; zeros for a seed that ranks nothing."""
    rank_SC = rankdata(weights_SC, axis=1) - (weights_SC.shape[1] + 1) / 2
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
    own = (rows_SC**2).sum(axis=(-2, -1))  # what in the square of the sum is no product of two seeds
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
    """Return the share of chance that agrees as much as was found; never nothing, for it was found once."""
    return float((1 + (by_chance >= found - 1e-9).sum()) / (1 + len(by_chance)))


def sentence(label: str, found: Stability) -> str:
    """Return whether the first classes of a ranking may be read, and why."""
    if found.num_classes == 0:
        return f"{label}: no weights of source classes are there, so there is no ranking."
    if not found.is_known:
        return (
            f"{label}: one ranking of {found.num_classes} classes from {found.num_seeds} seed;"
            " whether another seed would rank them so cannot be said, so it is not to be read."
        )
    if found.is_readable:
        verdict = "the first classes are stable enough to be read"
    elif found.is_agreement:
        verdict = "seeds agree by more than chance, but on too few of the first classes to read single ones"
    else:
        verdict = "seeds do not agree by more than chance, so the ranking is not to be read"
    shared = (
        f"of {found.num_seeds} seeds two share {words.number(found.overlap)} of their first {found.top}"
        f" classes (by chance {words.number(found.overlap_chance)}; {words.p_value(found.overlap_p_value)})"
    )
    ranked = (
        f"the rank correlation of all {words.whole(found.num_classes)} is {words.ratio(found.correlation)} in"
        f" the mean, {words.ratio(found.correlation_min)} at the lowest (by chance"
        f" {words.interval(*found.correlation_chance, 2)}; {words.p_value(found.correlation_p_value)})"
    )
    return f"{label}: {verdict}: {shared}; {ranked}."


def class_tables(suite: Suite, title: str) -> tuple[list[Table], list[str]]:
    """Return the first classes beside the published, how stable each ranking is, and that in words."""
    head = ["for", "rank", "class", "weight", "over seeds", "published class", "published weight"]
    lines = [line for cell in suite.cells for line in _class_lines(suite, cell)]
    numbers = [_class_numbers(cell, printed_classes(suite, cell)) for cell in suite.cells]
    first = Table(title, head, lines, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())
    found = [(cell, stability(weights_frame(cell.runs))) for cell in suite.cells if cell.runs]
    claims = [sentence(name_of(suite, cell), item) for cell, item in found]
    return [first, *([_stability_table(suite, found)] if found else [])], claims


def name_of(suite: Suite, cell: Cell) -> str:
    """Return what a ranking is called: its target, and its method where there are several."""
    return cell.column if len(suite.rows) == 1 else f"{cell.column}, {cell.row}"


def printed_classes(suite: Suite, cell: Cell) -> list[Published]:
    """Return the published classes of a cell's source and target, in their order; the row is the class."""
    here = (cell.source, cell.target)
    return [item for item in of_element(suite.element) if (item.source, item.target) == here]


def _class_lines(suite: Suite, cell: Cell) -> list[list[Entry]]:
    """Return the first classes, as many as are published and at least ten, each with its published peer."""
    published = printed_classes(suite, cell)
    weights = weights_frame(cell.runs)
    ours = ranking(weights).head(max(TOP, len(published))).to_dict("records") if len(weights) else []
    digests = tuple(run.digest for run in cell.runs)
    lines = []
    for place, (row, peer) in enumerate(zip_longest(ours, published), 1):
        own = [Entry(), Entry(), Entry()]
        if row:
            spread = words.interval(row["low"], row["high"], 2) if weights.shape[1] > 1 else words.ABSENT
            weight = Entry(words.number(row["mean"], 2), digests, row["mean"])
            own = [Entry(row["class"], digests), weight, Entry(spread, digests)]
        theirs = [Entry(peer.row), Entry(peer.text, (), peer.value)] if peer else [Entry(), Entry()]
        lines.append([Entry(name_of(suite, cell)), Entry(str(place), (), place), *own, *theirs])
    return lines


def _class_numbers(cell: Cell, published: list[Published]) -> pd.DataFrame:
    """Return every class of a ranking in full precision, and the published ones beside."""
    frame = ranking(weights_frame(cell.runs))
    peers = pd.DataFrame(
        {
            "rank": range(1, len(published) + 1),
            "published_class": [item.row for item in published],
            "published_weight": [item.value for item in published],
        }
    )
    frame = frame.merge(peers, on="rank", how="outer")
    frame["row"], frame["source"], frame["target"] = cell.row, cell.source, cell.target
    frame["runs"] = " ".join(run.digest for run in cell.runs)
    return frame


def _stability_table(suite: Suite, found: Sequence[tuple[Cell, Stability]]) -> Table:
    """Return how far the seeds agree on each ranking."""
    head = ["for", "seeds", "classes", "first classes shared", "by chance", "p"]
    head += ["rank correlation", "lowest", "95 % by chance", "p ", "may be read"]
    lines = [_stability_line(name_of(suite, cell), cell, item) for cell, item in found]
    rows = [{"row": cell.row, "target": cell.target, **_stability_numbers(item)} for cell, item in found]
    return Table("How far seeds agree on the ranking", head, lines, pd.DataFrame(rows), "stability")


def _stability_numbers(found: Stability) -> dict[str, object]:
    """Return one line of the table of stability in full precision."""
    numbers = dict(vars(found))
    low, high = numbers.pop("correlation_chance")
    return {**numbers, "correlation_chance_low": low, "correlation_chance_high": high}


def _stability_line(name: str, cell: Cell, found: Stability) -> list[Entry]:
    """Return one line of the table of stability."""
    digests = tuple(run.digest for run in cell.runs)
    shared = f"{words.number(found.overlap)} of {found.top}" if found.is_known else words.ABSENT
    chance = words.interval(*found.correlation_chance, 2) if found.is_known else words.ABSENT
    verdict = ("yes" if found.is_readable else "no") if found.is_known else "cannot be said"
    return [
        Entry(name),
        Entry(str(found.num_seeds), digests, found.num_seeds),
        Entry(words.whole(found.num_classes), digests, found.num_classes),
        Entry(shared, digests, found.overlap),
        Entry(words.number(found.overlap_chance), (), found.overlap_chance),
        Entry(words.number(found.overlap_p_value, 3), digests, found.overlap_p_value),
        Entry(words.ratio(found.correlation), digests, found.correlation),
        Entry(words.ratio(found.correlation_min), digests, found.correlation_min),
        Entry(chance),
        Entry(words.number(found.correlation_p_value, 3), digests, found.correlation_p_value),
        Entry(verdict),
    ]
