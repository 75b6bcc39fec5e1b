"""What to expect of each row on a new target, from cases on other pairs, by how like the target they are.

A case is a pair of source and target with a number of labels. The rule stands in
docs/explanation/evidence.md, and was written before most of the runs.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from .alarms import checked, is_sound
from .candidates import candidate
from .claims import Key, by_pair
from .records.comparison import REFERENCE
from .records.load import Run
from .records.packed import accuracies, unpack
from .statistics.difference import CONFIDENCE, Difference

FILE = Path(__file__).with_name("evidence.parquet")
TAIL = (1 - CONFIDENCE) / 2
LABELS, CLASSES, FROZEN = 4.0, 4.0, 0.2  # factor, factor and share that each halve a weight
LEAST = 3  # pairs that leaving one out needs
TWO = 2 - 1e-9  # pairs that an interval needs
Pair = tuple[str, str]


class Task(NamedTuple):
    """What is known of labeled images before anything is trained."""

    per_class: float  # labeled images
    num_classes: float
    frozen: float = math.nan  # accuracy on frozen features, as a share of the way from chance to 1


UNKNOWN = Task(math.nan, math.nan)


class Found(NamedTuple):
    """A row in a case."""

    points: float  # from fine-tuning
    times: float  # its time by fine-tuning's, both with their tuning
    needs_source: bool = False  # it trains on a source, beyond the pre-training that all rows share
    method: str = ""


class Case(NamedTuple):
    """A pair with a number of labels, and what its rows gained."""

    pair: Pair
    task: Task
    rows: dict[str, Found]


class Expected(NamedTuple):
    """What a row is expected to gain over fine-tuning, and to take in its times."""

    label: str
    difference: Difference  # over pairs
    times: float
    needs_source: bool
    method: str


class LeftOut(NamedTuple):
    """What the advice of the other pairs gains in a case, and what the best row there does."""

    case: Case
    label: str
    points: float
    best: str
    best_points: float


def task_of(per_class: float, num_classes: float, accuracy: float = math.nan) -> Task:
    """Return a task; nan is what is not known.

    Args:
        per_class: labeled images per class.
        num_classes: classes.
        accuracy: of logistic regression on frozen features, cross-validated, as a share.
    """
    chance = 1 / num_classes
    return Task(per_class, num_classes, (accuracy - chance) / (1 - chance))


def known_cases(file: Path = FILE) -> list[Case]:
    """Return the cases of a packed file.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    return cases_of(unpack(file), accuracies(file))


def cases_of(runs: Sequence[Run], accuracies: Mapping[Key, float]) -> list[Case]:
    """Return the cases of packed runs; without those that have fine-tuning alone, or in doubt.

    Args:
        runs: the runs.
        accuracies: of logistic regression on frozen features, by source, target and labels per class.
    """
    found = []
    for key, comparison in by_pair(runs).items():
        if not is_sound(comparison):
            continue
        differences = checked(comparison).differences
        own = {  # failed training counts, as what the row does there
            label: candidate(comparison, label, replace(gap, no_claim=""))
            for label, gap in differences.items()
        }
        base = own[REFERENCE].cost
        rows = {
            label: Found(
                item.difference.points, item.cost / base, _needs_source(item.runs), item.runs[0].method
            )
            for label, item in own.items()
            if item.difference is not None and math.isfinite(item.difference.points)
        }
        if not rows:
            continue
        source, target, shots = key
        num_classes = comparison.reference[0].record.get("num_classes", math.nan)
        task = task_of(shots, num_classes, accuracies.get(key, math.nan))
        found.append(Case((source, target), task, rows))
    return found


def _needs_source(runs: Sequence[Run]) -> bool:
    """Return whether runs train on source images, or have a pre-training of their own."""
    return any(
        (run.record.get("images") or {}).get("source")
        or any(not item["shared"] for item in run.record["pretraining"])
        for run in runs
    )


def likeness(a: Task, b: Task) -> float:
    """Return the weight in (0, 1] with which a task counts for another; what either lacks does not count."""
    steps = (
        abs(math.log(a.per_class / b.per_class, LABELS)),
        abs(math.log(a.num_classes / b.num_classes, CLASSES)),
        abs(a.frozen - b.frozen) / FROZEN,
    )
    return 0.5 ** sum(step for step in steps if not math.isnan(step))


def equal(a: Task, b: Task) -> float:
    """Return the weight 1 for any two tasks."""
    return 1.0


def expected(
    task: Task, cases: Sequence[Case], weight: Callable[[Task, Task], float] = likeness
) -> list[Expected]:
    """Return what each row is expected to gain over fine-tuning on a task, the most first."""
    labels = dict.fromkeys(label for case in cases for label in case.rows)
    found = [_expected(label, task, cases, weight) for label in labels]
    return sorted(found, key=lambda each: (-each.difference.points, each.label))


def _expected(
    label: str, task: Task, cases: Sequence[Case], weight: Callable[[Task, Task], float]
) -> Expected:
    of_pair: dict[Pair, list[tuple[float, float]]] = defaultdict(list)
    log_times, weights = [], []
    for case in cases:
        if label in case.rows:
            weights.append(weight(task, case.task))
            log_times.append(math.log(case.rows[label].times))
            of_pair[case.pair].append((weights[-1], case.rows[label].points))
    sums = [sum(w for w, _ in own) for own in of_pair.values()]
    means = [sum(w * p for w, p in own) / total for own, total in zip(of_pair.values(), sums, strict=True)]
    times = math.exp(float(np.average(log_times, weights=weights)))
    own_rows = [case.rows[label] for case in cases if label in case.rows]
    needs_source = any(row.needs_source for row in own_rows)
    over_pairs = _over_pairs(np.array(means), np.array(sums))
    return Expected(label, over_pairs, times, needs_source, own_rows[0].method)


def _over_pairs(means: np.ndarray, weights: np.ndarray) -> Difference:
    """Return the weighted mean over pairs, with a t-interval for as many pairs as the weights are worth."""
    shares = weights / weights.sum()
    mean = float(shares @ means)
    worth = 1 / float(shares @ shares)
    if worth < TWO or np.ptp(means) == 0:
        return Difference(mean, math.nan, math.nan, len(means))
    variance = float(shares @ (means - mean) ** 2) / (worth - 1)
    half = -float(stdtrit(worth - 1, TAIL)) * math.sqrt(variance)
    return Difference(mean, mean - half, mean + half, len(means))


def to_try(task: Task, cases: Sequence[Case], weight: Callable[[Task, Task], float] = likeness) -> str:
    """Return the row to try: the one with the highest expected points above zero, else fine-tuning."""
    best = next(iter(expected(task, cases, weight)), None)
    return best.label if best and best.difference.points > 0 else REFERENCE


def left_out(cases: Sequence[Case], weight: Callable[[Task, Task], float] = likeness) -> list[LeftOut]:
    """Return, for each case, what the advice of the other pairs gains; none if there are too few pairs."""
    if len({case.pair for case in cases}) < LEAST:
        return []
    found = []
    for case in cases:
        others = [other for other in cases if other.pair != case.pair]
        label = to_try(case.task, [_with_rows_of(case, other) for other in others], weight)
        points = {REFERENCE: 0.0, **{name: row.points for name, row in case.rows.items()}}
        best = max(points, key=lambda name: points[name])
        found.append(LeftOut(case, label, points[label], best, points[best]))
    return found


def _with_rows_of(case: Case, other: Case) -> Case:
    return other._replace(rows={label: row for label, row in other.rows.items() if label in case.rows})


def gain(found: Sequence[LeftOut]) -> Difference:
    """Return what the advice gains over fine-tuning: mean and t-interval over pairs; nan without pairs."""
    if not found:
        return Difference(math.nan, math.nan, math.nan, 0)
    of_pair: dict[Pair, list[float]] = defaultdict(list)
    for each in found:
        of_pair[each.case.pair].append(each.points)
    means = np.array([sum(own) / len(own) for own in of_pair.values()])
    return _over_pairs(means, np.ones(len(means)))


def is_shown(difference: Difference) -> bool:
    """Return whether advice is shown to gain: its interval is above zero."""
    return difference.has_interval and difference.low > 0
