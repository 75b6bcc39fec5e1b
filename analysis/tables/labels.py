"""How many distinct labeled target images each row used, and for what."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from .. import wording
from ..records.comparison import REFERENCE
from ..records.load import Run

USES = {"training": "trained on", "rewards": "for rewards or judging", "choosing": "for tuning"}
OTHER_LABELS = (
    "Trials draw images by a seed of their own, as many of each class as the runs: tuned rows have read those"
    " labels too."
)


def label_numbers(runs: Sequence[Run]) -> dict[str, float]:
    """Return the means over runs, in all and by use; nan where a record does not tell them."""
    entries = [run.record.get("labels") or {} for run in runs]
    return {f"labels_{use}": fmean(_known(entry.get(use)) for entry in entries) for use in (*USES, "all")}


def _known(number: int | None) -> float:
    """Return a number, nan for none."""
    return math.nan if number is None else number


def label_text(number: float) -> str:
    """Return a number of labels, a dash for old records without it."""
    return wording.ABSENT if math.isnan(number) else wording.whole(number)


def label_notes(table: pd.DataFrame) -> list[str]:
    """Return notes on the rows that used more labeled images than fine-tuning, one for equal numbers."""
    own = {row["label"]: row for row in table.to_dict("records")}
    base = own[REFERENCE]["labels_all"] if REFERENCE in own else math.nan
    alike: dict[str, list[str]] = {}
    for label, row in own.items():
        if row["labels_all"] > base:
            alike.setdefault(_numbers(row), []).append(label)
    more = [
        f"{wording.listing(labels)} used {numbers}, fine-tuning {wording.whole(base)}."
        for numbers, labels in alike.items()
    ]
    return [*more, OTHER_LABELS] if any(map(_drew_others, own.values())) else more


def labels_sentence(runs: Sequence[Run], base: Sequence[Run]) -> str:
    """Return what labels the runs of a row used if those are more than fine-tuning's, `base`; "" if not."""
    own, reference = (label_numbers(of)["labels_all"] if of else math.nan for of in (runs, base))
    if not own > reference:
        return ""
    return f"It used {wording.whole(own)} labeled target images, fine-tuning {wording.whole(reference)}."


def _drew_others(row: dict[Any, Any]) -> bool:
    """Return whether the trials of a row have read labels that its runs have not."""
    return row["labels_choosing"] > 0 and row["labels_all"] > row["labels_training"] + row["labels_rewards"]


def _numbers(row: dict[Any, Any]) -> str:
    """Return how many labels one row used, and for what."""
    uses = [
        f"{wording.whole(num)} {words}" for use, words in USES.items() if (num := row[f"labels_{use}"]) > 0
    ]
    return f"{wording.whole(row['labels_all'])} distinct labeled target images ({wording.listing(uses)})"
