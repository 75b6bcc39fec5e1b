"""What a run answered for each test image: the predicted class, and how sure it was."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

NAMES = ("predictions", "test_labels", "class_names")  # later fields of a record, which may be missing


@dataclass(frozen=True)
class Answers:
    """The answers to N test images, in order."""

    predicted: np.ndarray  # [N] uint16
    probabilities: np.ndarray  # [N] float16, of the predicted class
    labels: np.ndarray  # [N] uint16
    classes: tuple[str, ...]

    @cached_property
    def correct(self) -> np.ndarray:
        """Which images are right [N] (bool)."""
        return self.predicted == self.labels


def to_text(values: np.ndarray, kind: str) -> str:
    """Return numbers as little-endian base64; `kind` is "u2" (uint16) or "f2" (float16)."""
    return base64.b64encode(values.astype(f"<{kind}").tobytes()).decode()


def answers_of(record: Mapping[str, Any], correct: np.ndarray | None) -> Answers | None:
    """Return the answers of a run; None for records that have none: earlier ones, and multi-label ones.

    Args:
        record: the record.
        correct: which test images its field `correct` says are right [N].

    Raises:
        ValueError: a field holds other numbers than the others say.
    """
    packed = record.get("predictions")
    if packed is None or correct is None or None in (record.get("test_labels"), record.get("class_names")):
        return None
    classes = tuple(record["class_names"])
    found = Answers(
        _numbers(packed["classes"], "u2", len(correct), "predictions.classes"),
        _numbers(packed["probabilities"], "f2", len(correct), "predictions.probabilities"),
        _numbers(record["test_labels"], "u2", len(correct), "test_labels"),
        classes,
    )
    largest = max(found.predicted.max(initial=0), found.labels.max(initial=0))
    if largest >= len(classes):
        raise ValueError(f"class {largest}, where class_names has {len(classes)}")
    if not ((found.probabilities >= 0) & (found.probabilities <= 1)).all():
        raise ValueError("field 'predictions.probabilities' holds a number that is not from 0 to 1")
    if not np.array_equal(found.correct, correct):
        raise ValueError("fields 'predictions' and 'correct' disagree")
    return found


def _numbers(text: str, kind: str, number: int, name: str) -> np.ndarray:
    """Return the numbers [number] of a text."""
    octets = base64.b64decode(text, validate=True)
    if len(octets) != 2 * number:
        raise ValueError(f"field '{name}' holds {len(octets)} bytes, where {number} images take {2 * number}")
    return np.frombuffer(octets, f"<{kind}")
