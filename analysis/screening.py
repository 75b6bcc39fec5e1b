"""Rank the backbones and sources of a screening."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import wording
from .records.schema import METRICS
from .records.screens import Screen
from .statistics.cross_validation import fold_interval
from .tables.table import Cell, Table

FITTED = {"logistic": "Logistic regression", "knn": "kNN", "ncm": "Class means"}
SCORES = {  # name and decimals of the other scores of an encoder; higher is better
    "logme": ("LogME", 3),
    "leep": ("LEEP", 2),
    "nleep": ("NLEEP", 2),
    "hscore": ("H-score", 2),
    "transrate": ("TransRate", 1),
    "gbc": ("GBC", 2),
}
CLOSE = {  # of a source: name, decimals, and whether higher is closer
    "emd_kept": ("EMD, kept", 3, True),
    "emd": ("EMD, whole", 3, True),
    "uot": ("UOT distance", 3, False),
    "datl": ("DATL divergence", 2, False),
    "leep": ("LEEP", 2, True),
}


class Ranked(NamedTuple):
    """An encoder with its place."""

    screen: Screen
    mean: float  # of logistic regression, a share
    low: float
    high: float
    below: tuple[float, float, float]  # by how much it is below the best, and the interval of that

    @property
    def is_worth_it(self) -> bool:
        """Return whether the folds do not show it to be below the best."""
        return not self.below[1] > 0


def ranked(screens: Sequence[Screen]) -> list[Ranked]:
    """Return the encoders by the cross-validated score of logistic regression, best first."""
    of_folds = [np.array(screen["scores"]["logistic"]) for screen in screens]
    best = max(of_folds, key=lambda values: float(values.mean()))
    found = [
        Ranked(screen, *fold_interval(values), fold_interval(best - values))
        for screen, values in zip(screens, of_folds, strict=True)
    ]
    return sorted(found, key=lambda each: (-each.mean, each.screen["label"]))


def encoder_table(screens: Sequence[Screen]) -> Table:
    """Return the encoders, best first, with all scores and their seconds."""
    rows = []
    for place, each in enumerate(ranked(screens), start=1):
        scores = each.screen["scores"]
        shares = [wording.estimate(100 * each.mean, 100 * max(each.low, 0), 100 * min(each.high, 1))]
        shares += [
            wording.number(100 * float(np.mean(scores[name]))) for name in FITTED if name != "logistic"
        ]
        others = [
            wording.number(scores.get(name, math.nan), decimals) for name, (_, decimals) in SCORES.items()
        ]
        whole = wording.duration(each.screen["seconds"]["whole"])
        verdict = "best" if place == 1 else "yes" if each.is_worth_it else "no"
        rows.append([Cell(t) for t in (each.screen["label"], verdict, *shares, *others, whole)])
    score = METRICS[screens[0]["metric"]]
    names = [f"{name}, %" for name in FITTED.values()]
    columns = ["Backbone", "Worth a bench", *names, *(name for name, _ in SCORES.values()), "Time"]
    size = f"{screens[0]['num_images']} labeled images in {screens[0]['num_classes']} classes"
    return Table(f"{screens[0]['target']}: {score} in five folds of {size}", columns, rows)


def source_table(screens: Sequence[Screen]) -> Table:
    """Return the sources of each backbone, the nearest first."""
    order = list(dict.fromkeys(screen["label"] for screen in screens))
    nearest_first = sorted(screens, key=lambda s: (order.index(s["label"]), -s["scores"]["emd_kept"]))
    rows = [
        [
            Cell(screen["source"]),
            Cell(screen["label"]),
            *(Cell(wording.number(screen["scores"][name], CLOSE[name][1])) for name in CLOSE),
            Cell(", ".join(screen["scores"]["nearest"])),
            Cell(wording.duration(screen["seconds"]["whole"])),
        ]
        for screen in nearest_first
    ]
    names = [f"{name} {'↑' if up else '↓'}" for name, _, up in CLOSE.values()]
    return Table("Sources", ["Source", "Backbone", *names, "Nearest classes", "Time"], rows)
