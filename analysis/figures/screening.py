"""Backbones of a screening, best first: the score on every fold, and the mean with its interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..screening import Ranked
from .drawing import Drawing
from .style import BAR, INK, PAPER, WIDTH, freeze_layout, jitter, new_figure, style_axes, styles, wrap_label

LETTERS = 30  # of a line of a label


def screening_drawing(ranking: Sequence[Ranked], score_name: str) -> Drawing:
    """Return the dot plot of a ranking."""
    figure = new_figure(WIDTH, 0.9 + 0.42 * len(ranking))
    axes = style_axes(figure.add_subplot())
    look = styles([each.screen["label"] for each in ranking])
    rows = []
    for place, each in enumerate(ranking):
        label, folds = each.screen["label"], 100 * np.array(each.screen["scores"]["logistic"])
        color, marker, _ = look[label]
        low, high = 100 * max(each.low, 0), 100 * min(each.high, 1)
        axes.scatter(
            folds, place + 0.24 + jitter(folds), s=17, color=color, alpha=0.6, linewidths=0, zorder=3
        )
        axes.plot([low, high], [place] * 2, color=color, linewidth=2.6, **BAR)
        axes.plot(100 * each.mean, place, marker, color=color, markeredgecolor=PAPER, markersize=9, zorder=4)
        rows.append({"backbone": label, "score": 100 * each.mean, "low": low, "high": high})
    axes.set_yticks(range(len(ranking)), [wrap_label(each.screen["label"], LETTERS) for each in ranking])
    axes.set_ylim(len(ranking) - 0.45, -0.55)
    axes.tick_params(axis="y", pad=12)
    axes.set_xlabel(f"{score_name} in five folds, %")
    axes.grid(axis="x", color=INK, alpha=0.12)
    axes.spines["left"].set_visible(False)
    return Drawing(freeze_layout(figure), pd.DataFrame(rows))
