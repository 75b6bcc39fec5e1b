"""Count the labeled target images that a run rests on, each once: what methods know is equal, or a table says so."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...datasets.base import Split
from ..config.schema import RunConfig
from .problem import BuiltProblem, by_protocol, limited

Record = Mapping[str, Any]


def label_count(
    config: RunConfig, built: BuiltProblem, judged: bool, tried: Iterable[tuple[RunConfig, Record]]
) -> dict[str, int]:
    """Count the distinct labeled target images of a run by their use.

    Args:
        config: the run.
        built: its problem.
        judged: whether its method, or that of its first stage, has read the holdout to judge or choose.
        tried: the trials that chose its settings, with their records.

    Returns:
        The numbers of images that are trained on (`training`), that give rewards or choose inside the
        method (`rewards`), that trials read (`choosing`; they draw other images), and of `all` together.
    """
    training = rows(built.problem.target, built.whole)
    rewards = rows(built.splits["holdout"], built.whole) if judged else training[:0]
    choosing = [training[:0]]
    for trial, record in tried:
        train, reward, choice, _ = by_protocol(trial, limited(trial, built.whole))
        reads = [train, choice, reward if read_holdout(record) else None]
        choosing.append(_distinct(rows(split, built.whole) for split in reads if split is not None))
    uses = {"training": training, "rewards": rewards, "choosing": _distinct(choosing)}
    return {name: len(_distinct([found])) for name, found in uses.items()} | {
        "all": len(_distinct(uses.values()))
    }


def read_holdout(record: Record) -> bool:
    """Return whether the method of a record has read holdout images."""
    return bool(record["images"]["holdout"])


def rows(split: Split, whole: Mapping[str, Split]) -> Tensor:
    """Return the numbers of a split's images in the target [N]: holdout after training images.

    `Split.joined` numbers them likewise.
    """
    return split.index + (len(whole["train"].pixels) if split.name == whole["holdout"].name else 0)


def _distinct(found: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(found)).unique()


def majority(test: Split) -> float | None:
    """Return the share of the most frequent class; None for images with several labels."""
    return None if test.multi_label else test.labels.bincount().max().item() / len(test)
