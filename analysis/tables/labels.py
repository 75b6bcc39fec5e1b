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
    """Return a note for each row that used more distinct labeled images than fine-tuning."""
    own = {row["label"]: row for row in table.to_dict("records")}
    base = own[REFERENCE]["labels_all"] if REFERENCE in own else math.nan
    more = [_note(row, base) for row in own.values() if row["labels_all"] > base]
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


def _note(row: dict[Any, Any], base: float) -> str:
    """Return how many labels one row used, and for what."""
    uses = [
        f"{wording.whole(num)} {words}" for use, words in USES.items() if (num := row[f"labels_{use}"]) > 0
    ]
    return (
        f"{row['label']} used {wording.whole(row['labels_all'])} distinct labeled target images"
        f" ({wording.listing(uses)}), fine-tuning {wording.whole(base)}."
    )
