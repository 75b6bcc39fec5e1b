"""The paper's claims: one panel per other row, one line per pair and number of labels."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..claims import OTHERS, Effect, Published, from_other
from .style import DASHED, INK, PAPER, ROW, freeze_layout, new_figure, signed, style_axes, styles

PANEL, NAMES = 2.6, 2.9  # inches of a panel, and of the names at the left


def claims_figure(found: Sequence[Effect], own: Sequence[Published]) -> Figure:
    """Return by how many points L2TL is above each other row, with 95 % intervals (filled: significant).

    Args:
        found: the measured differences.
        own: the paper's own from fine-tuning, which stand below them, without intervals.
    """
    keys = list(dict.fromkeys((e.pair, e.kind, e.shots) for e in found))
    names = [f"{pair}, {shots} ({kind})" for pair, kind, shots in keys] + [each.what for each in own]
    figure = new_figure(NAMES + PANEL * len(OTHERS), 0.8 + 1.3 * ROW * len(names))
    color = styles(["L2TL"])["L2TL"].color
    panels = figure.subplots(1, len(OTHERS), sharex=True, sharey=True, squeeze=False)[0]
    for panel, other in zip(panels, OTHERS, strict=True):
        style_axes(panel, from_other(other))
        panel.axvline(0, zorder=1, **(DASHED | {"linestyle": "-"}))
        for effect in found:
            if effect.other == other:
                _draw(panel, keys.index((effect.pair, effect.kind, effect.shots)), effect, color)
        if other == OTHERS[0]:
            for place, each in enumerate(own, len(keys)):
                panel.plot(each.points, [place] * len(each.points), "d", color=INK, alpha=0.6, markersize=5)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: signed(x)))
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(
        "points of L2TL above the row (filled: significant; diamonds: the paper)", color=INK, size=10
    )
    return freeze_layout(figure)


def _draw(panel: Axes, place: int, effect: Effect, color: str) -> None:
    points, low, high = effect.difference.points, effect.difference.low, effect.difference.high
    panel.hlines(place, low, high, color, linewidth=2)
    face = color if effect.difference.is_significant else PAPER
    panel.plot(points, place, "o", color=color, markerfacecolor=face, markersize=6.5, zorder=3)
