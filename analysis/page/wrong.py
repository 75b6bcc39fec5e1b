"""The numbers of the page's part "what went wrong where", which wrong.js draws."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations, zip_longest
from typing import Any

import numpy as np

from .. import mistakes, wording
from ..mistakes import Row
from ..records.comparison import REFERENCE, Comparison
from ..statistics.paired import paired_difference

FULL_MATRIX = 20  # classes; with more, only the most frequent confusions are shown
NUM_PAIRS, NUM_WORST = 20, 15
NO_PROBABILITIES = ("knn", "ncm")  # methods whose logits are votes or distances
Z = 1.959964  # of a 95 % interval


def wrong_part(
    comparison: Comparison, order: Sequence[str], pictures: Mapping[int, str], most_bytes: int
) -> dict[str, str] | None:
    """Return the template's values; None if no record of the comparison holds predictions.

    Args:
        comparison: the runs.
        order: labels of the rows, the best first.
        pictures: JPEGs in base64, by the number of the test image.
        most_bytes: of the pictures together; the most confident mistakes of all rows come first.
    """
    rows = sorted(mistakes.rows_of(comparison), key=lambda row: order.index(row.label))
    if not rows:
        return None
    labels, classes = rows[0].labels, rows[0].classes
    counts = np.bincount(labels, minlength=len(classes))
    shown = [
        _of_row(row, counts) | {"distances": comparison.by_label[row.label][0].method in NO_PROBABILITIES}
        for row in rows
    ]
    numbers = {
        "classes": list(classes),
        "images": counts.tolist(),
        "full": len(classes) <= FULL_MATRIX,
        "rows": shown,
        "first": 0,
        "second": next((i for i, row in enumerate(rows) if row.label == REFERENCE and i), len(rows) - 1),
        "two": [_of_two(a, b, comparison) for a, b in combinations(rows, 2)],
        "pictures": _within([row["mistakes"] for row in shown], pictures, most_bytes),
    }
    text = json.dumps(numbers, separators=(",", ":"), allow_nan=False)
    return {"sentence": _sentence(rows[0], shown[0], counts), "numbers": text.replace("<", "\\u003c")}


def _within(
    mistakes_of: Sequence[Sequence[Sequence[float]]], pictures: Mapping[int, str], most_bytes: int
) -> dict[int, str]:
    """Return pictures of mistakes, the first of each row, then the second, and so on, up to some bytes."""
    found: dict[int, str] = {}
    for image in (int(each[0]) for rank in zip_longest(*mistakes_of) for each in rank if each):
        if image not in found and image in pictures:
            most_bytes -= len(pictures[image])
            if most_bytes < 0:
                break
            found[image] = pictures[image]
    return found


def _of_row(row: Row, counts: np.ndarray) -> dict[str, Any]:
    """Return the numbers of one row; shares in percent."""
    found = mistakes.confusion(row)
    right = found.diagonal().copy()
    np.fill_diagonal(found, 0)
    calibration = mistakes.calibration(row)
    bins = zip(calibration.counts, calibration.confidence, calibration.accuracy, strict=True)
    numbers = {
        "label": row.label,
        "seeds": row.seeds,
        "accuracy": _percent(row.correct.mean()),
        "right": [round(float(value), 2) for value in right],
        "pairs": _pairs(found),
        "worst": _worst(found, right, counts),
        "ece": _percent(calibration.error),
        "excess": _percent(calibration.excess),
        "bins": [[int(n), _percent(sure), _percent(true)] if n else [0] for n, sure, true in bins],
        "mistakes": [
            [item.image, item.true, item.predicted, _percent(item.probability), item.num_seeds]
            for item in mistakes.confident_mistakes(row)
        ],
    }
    if len(counts) <= FULL_MATRIX:
        whole = found + np.diag(right)
        numbers["matrix"] = [[round(float(value), 1) for value in line] for line in whole]
    return numbers


def _pairs(found: np.ndarray) -> list[list[float]]:
    """Return the most frequent confusions: true class, predicted class, images per seed."""
    places = np.flatnonzero(found)
    values = found.ravel()[places]
    order = np.lexsort((places, -values))[:NUM_PAIRS]
    return [
        [int(i) // len(found), int(i) % len(found), round(float(found.flat[i]), 1)] for i in places[order]
    ]


def _worst(found: np.ndarray, right: np.ndarray, counts: np.ndarray) -> list[list[float | None]]:
    """Return the classes of the lowest recall: class, recall, interval, most often taken for, how often.

    The interval is Wilson's, for as many images as the class has: seeds share them.
    """
    known = np.flatnonzero(counts)
    recall = right[known] / counts[known]
    order = known[np.lexsort((-counts[known], recall))][:NUM_WORST]
    rows: list[list[float | None]] = []
    for own in map(int, order):
        share, (low, high) = right[own] / counts[own], wilson(right[own] / counts[own], int(counts[own]))
        other = int(found[own].argmax())
        often = found[own, other]
        taken = [other, round(float(often), 1)] if often else [None, 0]
        rows.append([own, _percent(share), _percent(low), _percent(high), *taken])
    return rows


def wilson(share: float, num: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `num` images."""
    center = (share + Z**2 / (2 * num)) / (1 + Z**2 / num)
    half = Z / (1 + Z**2 / num) * math.sqrt(share * (1 - share) / num + Z**2 / (4 * num**2))
    return max(0.0, center - half), min(1.0, center + half)


def _of_two(a: Row, b: Row, comparison: Comparison) -> dict[str, Any]:
    """Return how two rows differ, image by image: per seed, and their difference in points."""
    found = paired_difference(comparison.by_label[a.label], comparison.by_label[b.label])
    seeds = [
        [seed, *counts, wording.p_value(mistakes.exact_p_value(counts[1], counts[2]))]
        for seed, counts in mistakes.disagreements(a, b).items()
    ]
    verdict = "no conclusion from one seed" if found.num_seeds == 1 else "no interval"
    if found.is_tested:
        verdict = wording.p_value(found.p_value) if found.excludes_zero else "inconclusive"
    return {"seeds": seeds, "text": wording.signed_points(found), "verdict": verdict}


def _sentence(row: Row, shown: Mapping[str, Any], counts: np.ndarray) -> str:
    """Return the most frequent confusion and the worst class of the best row."""
    if not shown["pairs"]:
        return f"{row.label} has every test image right."
    true, predicted, often = shown["pairs"][0]
    worst, recall = shown["worst"][0][:2]
    return (
        f"{row.label}, the row with the highest mean, most often takes {row.classes[true]} for"
        f" {row.classes[predicted]} ({wording.number(often)} of {counts[true]} images per seed). Its lowest"
        f" recall is {wording.number(recall)} % on {row.classes[worst]} ({counts[worst]} images)."
    )


def _percent(share: float) -> float:
    return round(100 * float(share), 2)
