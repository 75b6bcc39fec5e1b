"""Planted sources: whether the learned weights find the helpful classes, and the gain from that.

Legend: S seeds, C source classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from .. import wording
from ..records.load import Run
from ..records.suites import Suite, SuiteCell
from ..statistics.paired import TAIL, mean_interval, paired_difference
from ..statistics.ranking import stability, weights_frame
from .cost_table import step_seconds
from .score_table import digests, score_entry
from .scores import results
from .table import Cell, SuiteTables, Table

FOUND = 0.9  # an AUC from which on the truth counts as found
MATTERS = 3.0  # points by which oracle weights have to beat uniform ones
NOTE = (
    "AUC is the probability that a helpful class has a higher weight than a harmful one, with a 95 %"
    " t-interval over seeds. The share of the oracle's gap is (accuracy − uniform) / (oracle − uniform), a"
    " ratio of means of differences paired by seed, with Fieller's 95 % interval; there is none if the gap's"
    " own interval includes zero. Steps until found: the median over the seeds whose AUC passed 0.9 on the"
    " curve. Rank correlation: Spearman's, of all classes, mean over pairs of seeds. The time per step"
    " is a ratio to fine-tuning's."
)


@dataclass(frozen=True)
class Finding:
    """The result of one method on a planted source; nan without weights, or with too few seeds."""

    auc: tuple[float, float, float]
    gap: tuple[float, float, float]
    from_uniform: tuple[float, float, float]
    correlation: float
    steps: float
    num_found: int
    step_ratio: float


def auc(weights: Mapping[str, float], truth: Mapping[str, float]) -> float:
    """Return the probability that a helpful class has a higher weight than a harmful one; ties count half.

    It is nan if all classes are helpful, or all harmful.
    """
    names = list(truth)
    rank_C = pd.Series([weights[name] for name in names]).rank().to_numpy()
    helps_C = np.array([truth[name] > 0 for name in names])
    num, others = int(helps_C.sum()), int((~helps_C).sum())
    above = rank_C[helps_C].sum() - num * (num + 1) / 2
    return float(above / (num * others)) if num and others else math.nan


def fieller(above_S: Sequence[float], gap_S: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of two means that are paired by seed, and Fieller's 95 % interval.

    The interval holds every ratio r at which the mean of above - r gap does not differ from zero in a t-test.
    It is nan if the mean of the gap does not differ from zero either: then it would hold almost every ratio.
    """
    a, b = np.asarray(above_S, float), np.asarray(gap_S, float)
    if len(a) == 0 or b.mean() == 0:
        return math.nan, math.nan, math.nan
    ratio = float(a.mean() / b.mean())
    if len(a) < 2:
        return ratio, math.nan, math.nan
    cov = np.cov(a, b) / len(a) * float(stdtrit(len(a) - 1, TAIL)) ** 2
    square, middle, rest = (
        b.mean() ** 2 - cov[1, 1],
        a.mean() * b.mean() - cov[0, 1],
        a.mean() ** 2 - cov[0, 0],
    )
    if square <= 0:
        return ratio, math.nan, math.nan
    half = math.sqrt(max(middle**2 - square * rest, 0.0))
    return ratio, float((middle - half) / square), float((middle + half) / square)


def steps_until_found(run: Run) -> float:
    """Return the first step of the curve at which the AUC is above 0.9; nan where it never is."""
    truth = run.record["source_truth"]
    for point in run.record["curve"]:
        if "class_weights" in point and auc(point["class_weights"], truth) > FOUND:
            return float(point["step"])
    return math.nan


def finding(suite: Suite, cell: SuiteCell) -> Finding:
    """Return the result of a cell's method, against uniform and oracle weights of its comparison."""
    weighed = [run for run in cell.runs if run.record["class_weights"] and run.record.get("source_truth")]
    aucs = [auc(run.record["class_weights"], run.record["source_truth"]) for run in weighed]
    aucs = [value for value in aucs if not math.isnan(value)]
    reached = [step for run in weighed if not math.isnan(step := steps_until_found(run))]
    uniform, oracle = (scores_of(suite, cell, weights) for weights in ("uniform", "oracle"))
    own = {run.seed: 100 * run.score for run in cell.runs}
    seeds = sorted(own.keys() & uniform.keys() & oracle.keys())
    reference = step_seconds(cell.reference) if cell.reference else math.nan
    return Finding(
        mean_interval(aucs),
        fieller([own[s] - uniform[s] for s in seeds], [oracle[s] - uniform[s] for s in seeds]),
        _difference(cell.runs, runs_of(suite, cell, "uniform")),
        stability(weights_frame(weighed)).correlation if len(weighed) > 1 else math.nan,
        median(reached) if reached else math.nan,
        len(reached),
        step_seconds(cell.runs) / reference if cell.runs else math.nan,
    )


def runs_of(suite: Suite, cell: SuiteCell, weights: str) -> list[Run]:
    """Return the runs of the same comparison with uniform or with oracle weights."""
    cells = [
        c for c in suite.cells if c.comparison_id == cell.comparison_id and c.method == "l2tl" and c.runs
    ]
    chosen = [c.runs for c in cells if c.runs[0].record["config"]["settings"]["weights"] == weights]
    return chosen[0] if chosen else []


def scores_of(suite: Suite, cell: SuiteCell, weights: str) -> dict[int, float]:
    """Return their scores by seed, in percent."""
    return {run.seed: 100 * run.score for run in runs_of(suite, cell, weights)}


def _difference(runs: Sequence[Run], others: Sequence[Run]) -> tuple[float, float, float]:
    found = paired_difference(runs, others)
    return found.points, found.low, found.high


def suite_tables(suite: Suite, title: str) -> SuiteTables:
    """Return one line per method and target, and whether the planted truth matters there at all."""
    head = ["method", "accuracy, %", "from uniform, points", "share of the oracle's gap", "AUC"]
    head += ["rank correlation", "steps until found", "seeds", "step, ratio to fine-tuning"]
    lines, numbers = [], []
    for result in results(suite):
        if result.cell and result.cell.runs:
            found = finding(suite, result.cell)
            lines.append(_line(suite, result.cell, score_entry(result), digests(result), found))
            numbers.append(
                {"row": result.row, "target": result.column, "score": result.score[0], **_numbers(found)}
            )
    sentences = [_sentence(suite, cell) for cell in suite.cells if weights_setting(cell) == "oracle"]
    return SuiteTables([Table(title, head, lines, pd.DataFrame(numbers))], sentences, [NOTE])


def weights_setting(cell: SuiteCell) -> str:
    """Return where an L2TL takes its weights from (`learned`, `uniform`, ...); "" for another method."""
    settings = cell.runs[0].record["config"]["settings"] if cell.runs and cell.method == "l2tl" else {}
    return str(settings.get("weights", ""))


def _line(suite: Suite, cell: SuiteCell, score: Cell, runs: tuple[str, ...], found: Finding) -> list[Cell]:
    where = f"{cell.row}, {cell.column}" if len(suite.columns) > 1 else cell.row
    weights = weights_setting(cell)
    is_end = weights in ("uniform", "oracle")
    weighed = not math.isnan(found.auc[0]) and weights != "oracle"
    above = wording.estimate(*found.from_uniform, sign=True) if weights != "uniform" else "reference"
    reached = (
        f"{wording.whole(found.steps)} ({found.num_found} of {len(cell.runs)})"
        if found.num_found
        else "never"
    )
    return [
        Cell(where),
        score,
        Cell(above, found.from_uniform[0], runs),
        Cell(wording.ABSENT if is_end else _two(found.gap), found.gap[0], runs),
        Cell(_two(found.auc) if weighed else wording.ABSENT, found.auc[0], runs),
        Cell(wording.ratio(found.correlation) if weighed else wording.ABSENT, found.correlation, runs),
        Cell(reached if weighed else wording.ABSENT, found.steps, runs),
        Cell(str(len(cell.runs)), len(cell.runs), runs),
        Cell(wording.ratio(found.step_ratio), found.step_ratio, runs),
    ]


def _two(value: tuple[float, float, float]) -> str:
    """Return an estimate in two decimals."""
    text = wording.number(value[0], 2)
    return text if math.isnan(value[1]) else f"{text} ({wording.interval(value[1], value[2], 2)})"


def _numbers(found: Finding) -> dict[str, float]:
    spread: dict[str, float] = {}
    for name in ("auc", "gap", "from_uniform"):
        value = getattr(found, name)
        spread |= {name: value[0], f"{name}_low": value[1], f"{name}_high": value[2]}
    rest = {name: getattr(found, name) for name in ("correlation", "steps", "num_found", "step_ratio")}
    return spread | rest


def _sentence(suite: Suite, oracle: SuiteCell) -> str:
    """Return whether oracle weights help on this problem."""
    points, low, high = _difference(oracle.runs, runs_of(suite, oracle, "uniform"))
    is_shown = len(oracle.runs) > 1 and points >= MATTERS and low > 0
    verdict = "matters" if is_shown else "is not shown to matter"
    return (
        f"{oracle.column}: the truth {verdict}: oracle weights are"
        f" {wording.estimate(points, low, high, True)} points from uniform ones on"
        f" {wording.counted(len(oracle.runs), 'seed')}."
    )
