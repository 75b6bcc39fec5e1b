"""The time per step of each method as a ratio to fine-tuning, within a comparison and on the same machine."""

import pandas as pd

from .. import wording
from ..records.comparison import REFERENCE
from ..records.load import Run, runs_frame

PLACE = ["source", "target", "comparison_id", "device", "host", "threads"]  # where seconds can be compared


def step_costs(runs: list[Run]) -> dict[str, str]:
    """Return by label the time per step as a ratio to fine-tuning's: "1.67 (5 runs)".

    Medians over the runs of a place are compared; "1.20 to 1.80 (9 runs)" is the lowest and the highest
    ratio over places. Labels without a run of fine-tuning in the same place are left out.
    """
    if not runs:
        return {}
    frame = runs_frame(runs)
    by_place = frame.groupby([*PLACE, "label"], as_index=False)
    steps = by_place.agg(seconds=("seconds_per_step", "median"), num_runs=("seed", "size"))
    base = steps[(steps["label"] == REFERENCE) & (steps["seconds"] > 0)]
    both = steps.merge(base, on=PLACE, suffixes=("", "_base"))
    both["ratio"] = both["seconds"] / both["seconds_base"]
    return {str(label): _cost(group) for label, group in both.groupby("label")}


def _cost(group: pd.DataFrame) -> str:
    """Return the text of one label from its ratio and number of runs in each place."""
    ends = (group["ratio"].min(), group["ratio"].max())
    ratio = " to ".join(dict.fromkeys(wording.number(end, decimals=2) for end in ends))
    count = group["num_runs"].sum()
    return f"{ratio} ({count} run{'s' if count > 1 else ''})"
