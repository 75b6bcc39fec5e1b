"""Classification tasks from random classes of a split, for meta-learning."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...datasets.base import Batch, Split, derive_seed


class Tasks:
    """Endless classification tasks; task k depends on the seed and on k only.

    Args:
        split: the images, with one class each.
        num_classes: classes of a task; at most half of the classes with images.
        batch_size: images of a batch.
        seed: equal seeds give equal tasks.
    """

    def __init__(self, split: Split, num_classes: int, batch_size: int, seed: int) -> None:
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.rows = [rows for rows in rows_by_class(split.labels) if len(rows)]
        self.num_classes = min(num_classes, len(self.rows) // 2)
        self.drawn = 0
        self.num_images = 0

    def state_dict(self) -> dict[str, int]:
        """Return the numbers of tasks and images drawn so far."""
        return {"drawn": self.drawn, "num_images": self.num_images}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore a state."""
        self.drawn, self.num_images = state["drawn"], state["num_images"]

    def draw(self, num_batches: int) -> Iterator[Batch]:
        """Yield batches of the next task; labels are numbers of its classes, from 0."""
        seed = derive_seed(self.seed, "task", self.drawn)
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(seed))
        task = cut(self.split, [self.rows[c] for c in order[: self.num_classes].tolist()])
        self.drawn += 1
        stream = task.stream(self.batch_size, seed)
        for _ in range(num_batches):
            self.num_images += self.batch_size
            yield next(stream)


def rows_by_class(labels: Tensor) -> list[Tensor]:
    """Return the rows [n] of each class, given the labels [N]."""
    labels = labels.cpu()
    return list(labels.argsort(stable=True).split(labels.bincount().tolist()))


def cut(split: Split, rows: Sequence[Tensor]) -> Split:
    """Return a split of the rows [n] of each class; the classes get the labels 0, 1, ..."""
    task = split.subset(torch.cat(list(rows)))
    label = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(r) for r in rows]))
    names = tuple(split.classes[int(split.labels[r[0]])] for r in rows)
    return replace(task, classes=names, labels=label.to(task.labels.device))
