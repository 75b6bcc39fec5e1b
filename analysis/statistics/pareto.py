"""The accuracy-time Pareto front."""

import math

import pandas as pd


def pareto_front(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that no other row dominates, the fastest first.

    A row dominates another if it takes no more `seconds` and has no lower `score`, and is better in at least
    one of them. Equal rows are all kept. Rows without seconds or score are not on the front.
    """
    known = frame.dropna(subset=["seconds", "score"]).astype({"score": float})
    best = known.groupby("seconds")["score"].max()
    best_faster = best.cummax().shift(fill_value=-math.inf)
    seconds, score = known["seconds"], known["score"]
    on_front = (score == seconds.map(best)) & (score > seconds.map(best_faster))
    return known[on_front].sort_values("seconds", kind="stable")
