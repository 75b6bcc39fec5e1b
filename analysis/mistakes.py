"""What the rows of a comparison got wrong: confusions, calibration, mistakes, two rows image by image.

Legend: R rows, S seeds of a row, N test images, C classes, B bins of confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import bdtr

from .records.answers import Answers
from .records.comparison import Comparison
from .records.load import tests_by_seed

BINS = 15  # of confidence, equally wide
NUM_SHOWN = 16  # mistakes of a row


@dataclass(frozen=True)
class Row:
    """The answers of one row: of each seed, to the same test images."""

    label: str
    seeds: list[int]  # [S]
    predicted: np.ndarray  # [S,N] uint16
    probabilities: np.ndarray  # [S,N] float32, of the predicted class
    labels: np.ndarray  # [N] uint16
    classes: tuple[str, ...]

    @cached_property
    def correct(self) -> np.ndarray:
        """Which images each seed has right [S,N] (bool)."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class Mistake:
    """An image that a row takes for another class, as seeds that agree on that class."""

    image: int  # in the order of the test images
    true: int
    predicted: int
    probability: float  # mean over the seeds that predict this class
    num_seeds: int  # that predict it


@dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy: of the images in each bin of confidence, pooled over seeds."""

    error: float  # expected calibration error, a share: the mean over seeds
    counts: np.ndarray  # [B] images
    confidence: np.ndarray  # [B] mean, a share; nan in an empty bin
    accuracy: np.ndarray  # [B]
    excess: float  # mean confidence above the accuracy


def rows_of(comparison: Comparison) -> list[Row]:
    """Return the rows whose records hold predictions, of the runs with the same test images and classes.

    Where each seed has test images of its own, those are the runs of one seed.
    """
    alone = min(run.seed for run in comparison.runs) if any(map(tests_by_seed, comparison.runs)) else None
    known = {
        label: [
            (run.seed, run.answers)
            for run in runs
            if run.answers and len(run.answers.labels) and alone in (None, run.seed)
        ]
        for label, runs in comparison.by_label.items()
    }
    first = next((answers for own in known.values() for _, answers in own), None)
    if first is None:
        return []
    alike = {label: [pair for pair in own if _alike(pair[1], first)] for label, own in known.items()}
    return [_row(label, own) for label, own in alike.items() if own]


def _alike(one: Answers, other: Answers) -> bool:
    return one.classes == other.classes and np.array_equal(one.labels, other.labels)


def _row(label: str, own: Sequence[tuple[int, Answers]]) -> Row:
    """Return the row of several runs."""
    answers = [each for _, each in own]
    return Row(
        label,
        [seed for seed, _ in own],
        np.stack([each.predicted for each in answers]),
        np.stack([each.probabilities for each in answers]).astype(np.float32),
        answers[0].labels,
        answers[0].classes,
    )


def confusion(row: Row) -> np.ndarray:
    """Return the test images by true and predicted class, a mean over seeds [C,C]."""
    num = len(row.classes)
    places = row.labels.astype(np.int64) * num + row.predicted
    return np.bincount(places.ravel(), minlength=num * num).reshape(num, num) / len(row.seeds)


def calibration(row: Row) -> Calibration:
    """Return how far confidence and accuracy are apart, in BINS equally wide bins of confidence."""
    bins = np.clip(np.ceil(row.probabilities * BINS).astype(int) - 1, 0, BINS - 1)
    each = [
        [np.bincount(own, values, minlength=BINS) for values in (None, sure, right.astype(float))]
        for own, sure, right in zip(bins, row.probabilities, row.correct, strict=True)
    ]
    errors = [np.abs(sure - right).sum() / row.labels.size for _, sure, right in each]
    counts, sure, right = (np.sum(parts, axis=0) for parts in zip(*each, strict=True))
    with np.errstate(invalid="ignore"):
        confidence, accuracy = sure / counts, right / counts
    excess = float(row.probabilities.mean() - row.correct.mean())
    return Calibration(float(np.mean(errors)), counts, confidence, accuracy, excess)


def confident_mistakes(row: Row, most: int = NUM_SHOWN) -> list[Mistake]:
    """Return the images with the most probability on wrong classes, as a mean over seeds, highest first."""
    wrong = np.where(row.correct, 0, row.probabilities)
    total = wrong.sum(axis=0)
    order = np.argsort(-total, kind="stable")[:most]
    return [_mistake(row, int(image), wrong[:, image]) for image in order if total[image] > 0]


def _mistake(row: Row, image: int, wrong: np.ndarray) -> Mistake:
    """Return the wrong class of an image that has the most probability over seeds."""
    predicted = row.predicted[:, image]
    classes, place = np.unique(predicted, return_inverse=True)
    best = int(np.bincount(place, wrong).argmax())
    own = place == best
    return Mistake(
        image, int(row.labels[image]), int(classes[best]), float(wrong[own].mean()), int(own.sum())
    )


def disagreements(a: Row, b: Row) -> dict[int, tuple[int, int, int, int]]:
    """Return the images that both rows have right, a alone, b alone, and neither, by seed of both."""
    found = {}
    for seed in sorted(set(a.seeds) & set(b.seeds)):
        right, other = a.correct[a.seeds.index(seed)], b.correct[b.seeds.index(seed)]
        both, of_a, of_b = (int(np.count_nonzero(x)) for x in (right & other, right, other))
        found[seed] = both, of_a - both, of_b - both, right.size - of_a - of_b + both
    return found


def exact_p_value(only_a: int, only_b: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided, of images that one row alone has right."""
    total = only_a + only_b
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), total, 0.5))) if total else 1.0
