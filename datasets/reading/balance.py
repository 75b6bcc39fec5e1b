"""How many images the classes of a data set have, in a line."""

from collections.abc import Sequence

import numpy as np

from ..base import Dataset

UNEVEN = 3  # times as many images in the largest class as in the smallest


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of images of each class [C], or of those with each label."""
    return labels.sum(0) if labels.ndim > 1 else np.bincount(labels, minlength=num_classes)


def balance(count: np.ndarray, classes: Sequence[str]) -> str:
    """Return the numbers of images of the smallest, the median and the largest class in words."""
    low, high = int(count.argmin()), int(count.argmax())
    if count[low] == count[high]:
        return f"{count[low]:g} images in each of {len(classes)} classes"
    return (
        f"{count[low]:g} to {count[high]:g} images a class, median {np.median(count):g} "
        f"(fewest '{classes[low]}', most '{classes[high]}')"
    )


def balance_line(dataset: Dataset) -> str:
    """Return a line on the training images, with what helps if the classes are uneven."""
    labels = dataset.part("train").labels
    count = class_counts(labels, len(dataset.classes))
    line = f"{dataset.name}: {balance(count, dataset.classes)} to train on"
    is_uneven = labels.ndim == 1 and count.max() > UNEVEN * max(1, count.min())
    return f"{line}; recipe.class_weights=balanced gives each class the same weight" if is_uneven else line
