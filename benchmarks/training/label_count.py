"""Count the labeled target images that a run rests on, each once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...datasets.base import Split
from ...methods.base import Method
from ..config.schema import RunConfig
from .problem import BuiltProblem, by_protocol, limited

Record = dict[str, Any]


def label_fields(
    built: BuiltProblem, method: Method, staged: Record | None, tried: Sequence[tuple[RunConfig, Record]]
) -> dict[str, Any]:
    """Return the fields of a run's record on the labels of its target.

    Args:
        built: the problem of the run, with test images.
        method: its method, at the end.
        staged: the record of its first stage if it has one.
        tried: the trials that chose its settings, with their records.
    """
    assert built.test is not None
    return {
        "labels": label_count(built, method, staged, tried),
        "num_classes": built.test.num_classes,
        "majority": majority(built.test),
    }


def label_count(
    built: BuiltProblem, method: Method, staged: Record | None, tried: Sequence[tuple[RunConfig, Record]]
) -> dict[str, int]:
    """Count the distinct labeled target images of a run by their use; arguments as of `label_fields`.

    Returns:
        The numbers of images that are trained on (`training`), that give rewards or choose inside the
        method (`rewards`), that trials read (`choosing`; they draw other images), and of `all` together.
    """
    judges = vars(method).get("holdout")
    rewards = [judges.split] if judges is not None and judges.num_images else []
    rewards += [built.splits["holdout"]] if staged and _judged(staged) else []
    choosing = []
    for trial, record in tried:
        train, reward, choice, _ = by_protocol(trial, limited(trial, built.whole))
        choosing += [train, choice, reward if _judged(record) else None]
    uses = {"training": [built.problem.target], "rewards": rewards, "choosing": choosing}
    found = {
        name: _distinct(rows(s, built.whole) for s in splits if s is not None)
        for name, splits in uses.items()
    }
    return {name: len(own) for name, own in (found | {"all": _distinct(found.values())}).items()}


def _judged(record: Record) -> bool:
    """Return whether the method of a record has read holdout images."""
    return bool(record["images"]["holdout"])


def rows(split: Split, whole: Mapping[str, Split]) -> Tensor:
    """Return the numbers of a split's images in the target [N]: holdout after training images.

    `Split.joined` numbers them likewise.
    """
    return split.index + (len(whole["train"].pixels) if split.name == whole["holdout"].name else 0)


def _distinct(found: Iterable[Tensor]) -> Tensor:
    """Return the numbers that are in any of some tensors, each once."""
    return torch.cat([torch.empty(0, dtype=torch.long), *found]).unique()


def majority(test: Split) -> float | None:
    """Return the share of the most frequent class; None for images with several labels."""
    return None if test.multi_label else test.labels.bincount().max().item() / len(test)
