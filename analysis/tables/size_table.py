"""What each model takes: trained parameters, bytes for one more target, work per prediction, memory."""

import math

import pandas as pd

from .. import wording
from ..records.comparison import Comparison
from ..records.load import SIZES
from .table import Cell, Table

NOTE = (
    "Trained parameters are those of the target alone. Stored per target is what one more target takes on a"
    " disk beside the start that all targets share. GFLOP per prediction is for one image with one crop; a"
    " multiplication and an addition are two operations. Memory, if known, is the highest of all runs while"
    " they train: of the GPU's tensors, or on a CPU of the whole process with its libraries and images."
)


def size_table(comparison: Comparison, numbers: pd.DataFrame) -> Table | None:
    """Return the sizes of each method in the order of the comparison's table; None where none is recorded.

    Args:
        comparison: for the runs behind each row.
        numbers: from `comparison_table`.
    """
    if numbers[[*SIZES, "peak_memory_bytes"]].isna().all(axis=None):
        return None
    rows = []
    for line in numbers.to_dict("records"):
        digests = [run.digest for run in comparison.by_label[line["label"]]]
        flops = line["prediction_flops"] / 1e9
        rows.append(
            [
                Cell(line["label"]),
                Cell(_amount(line["trained_parameters"]), line["trained_parameters"], digests),
                Cell(_amount(line["target_bytes"], "B"), line["target_bytes"]),
                Cell(wording.ABSENT if math.isnan(flops) else f"{flops:.3g}", flops),
                Cell(_amount(line["peak_memory_bytes"], "B"), line["peak_memory_bytes"]),
            ]
        )
    columns = ["method", "trained parameters", "stored per target", "GFLOP per prediction", "memory"]
    return Table("What each model takes", columns, rows)


def _amount(value: float, unit: str = "") -> str:
    """Return an amount, "1.25 GB" or "936 B", a dash for old records without it."""
    if math.isnan(value):
        return wording.ABSENT
    number = wording.count(value)
    return f"{number} {unit}" if unit and number[-1].isdigit() else f"{number}{unit}"
