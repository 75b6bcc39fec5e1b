"""Tables of the learned class weights, and of how far seeds agree on their ranking."""

from collections.abc import Sequence
from itertools import zip_longest

import pandas as pd

from .. import wording
from ..records.published import Published, of_element
from ..records.suites import Suite, SuiteCell
from ..statistics.ranking import TOP, Stability, ranking, stability, weights_frame
from .table import Cell, SuiteTables, Table

NOTE = (
    "Weights are means over seeds of the learned weight of each source class, with the lowest and the"
    " highest. Two seeds agree by the first classes that they share, and by Spearman's rank correlation of"
    " all classes, both as means over pairs of seeds; by chance is the result when the classes of each"
    " seed are shuffled. Interpret first classes only if two seeds share at least half of them, and more than"
    " by chance (5 %)."
)


def sentence(label: str, found: Stability) -> str:
    """Return whether the first classes of a ranking may be interpreted, and why."""
    if found.num_classes == 0:
        return f"{label}: no learned weights of source classes, so there is no ranking."
    if not found.is_known:
        return (
            f"{label}: one ranking of {found.num_classes} classes from {found.num_seeds} seed;"
            " one seed does not show whether the ranking is stable, so do not interpret it."
        )
    if found.is_readable:
        verdict = "the first classes are stable enough to interpret"
    elif found.is_agreement:
        verdict = "seeds agree more than by chance, but on too few first classes to interpret single ones"
    else:
        verdict = "seeds do not agree by more than chance, so do not interpret the ranking"
    shared = (
        f"of {found.num_seeds} seeds two share {wording.number(found.overlap)} of their first {found.top}"
        f" classes (by chance {wording.number(found.overlap_chance)};"
        f" {wording.p_value(found.overlap_p_value)})"
    )
    ranked = (
        f"the rank correlation of all {wording.whole(found.num_classes)} is"
        f" {wording.ratio(found.correlation)} in the mean,"
        f" {wording.ratio(found.correlation_min)} at the lowest (by chance"
        f" {wording.interval(*found.correlation_chance, 2)}; {wording.p_value(found.correlation_p_value)})"
    )
    return f"{label}: {verdict}: {shared}; {ranked}."


def suite_tables(suite: Suite, title: str) -> SuiteTables:
    """Return the first classes next to the published ones, and how stable each ranking is."""
    head = ["for", "rank", "class", "weight", "over seeds", "published class", "published weight"]
    is_printed = any(printed_classes(suite, cell) for cell in suite.cells)
    head = head if is_printed else head[:5]
    lines = [line[: len(head)] for cell in suite.cells for line in _class_lines(suite, cell)]
    numbers = [_class_numbers(cell, printed_classes(suite, cell)) for cell in suite.cells]
    first = Table(title, head, lines, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())
    found = [(cell, stability(weights_frame(cell.runs))) for cell in suite.cells if cell.runs]
    claims = [sentence(name_of(suite, cell), item) for cell, item in found]
    return SuiteTables([first, *([_stability_table(suite, found)] if found else [])], claims, [NOTE])


def name_of(suite: Suite, cell: SuiteCell) -> str:
    """Return the name of a ranking: its target, and its method if there are several."""
    return cell.column if len(suite.rows) == 1 else f"{cell.column}, {cell.row}"


def printed_classes(suite: Suite, cell: SuiteCell) -> list[Published]:
    """Return the published classes of a cell's source and target, in their order; the row is the class."""
    here = (cell.source, cell.target)
    return [item for item in of_element(suite.element) if (item.source, item.target) == here]


def _class_lines(suite: Suite, cell: SuiteCell) -> list[list[Cell]]:
    """Return the first classes, as many as are published and at least ten, each with its published peer."""
    published = printed_classes(suite, cell)
    weights = weights_frame(cell.runs)
    ours = ranking(weights).head(max(TOP, len(published))).to_dict("records") if len(weights) else []
    digests = tuple(run.digest for run in cell.runs)
    lines = []
    for place, (row, peer) in enumerate(zip_longest(ours, published), 1):
        own = [Cell(), Cell(), Cell()]
        if row:
            spread = wording.interval(row["low"], row["high"], 2) if weights.shape[1] > 1 else wording.ABSENT
            weight = Cell(wording.number(row["mean"], 2), row["mean"], digests)
            own = [Cell(row["class"], digests=digests), weight, Cell(spread, digests=digests)]
        theirs = [Cell(peer.row), Cell(peer.text, peer.value)] if peer else [Cell(), Cell()]
        lines.append([Cell(name_of(suite, cell)), Cell(str(place), place), *own, *theirs])
    return lines


def _class_numbers(cell: SuiteCell, published: list[Published]) -> pd.DataFrame:
    """Return every class of a ranking in full precision, with the published ones."""
    frame = ranking(weights_frame(cell.runs))
    peers = pd.DataFrame(
        {
            "rank": range(1, len(published) + 1),
            "published_class": [item.row for item in published],
            "published_weight": [item.value for item in published],
        }
    )
    frame = frame.merge(peers, on="rank", how="outer")
    frame["row"], frame["source"], frame["target"] = cell.row, cell.source, cell.target
    frame["runs"] = " ".join(run.digest for run in cell.runs)
    return frame


def _stability_table(suite: Suite, found: Sequence[tuple[SuiteCell, Stability]]) -> Table:
    """Return how far the seeds agree on each ranking."""
    head = ["for", "seeds", "classes", "first classes shared", "by chance", "p"]
    head += ["rank correlation", "lowest", "95 % by chance", "p ", "interpretable"]
    lines = [_stability_line(name_of(suite, cell), cell, item) for cell, item in found]
    rows = [{"row": cell.row, "target": cell.target, **_stability_numbers(item)} for cell, item in found]
    return Table("Agreement of seeds on the ranking", head, lines, pd.DataFrame(rows), "stability")


def _stability_numbers(found: Stability) -> dict[str, object]:
    """Return one line of the table of stability in full precision."""
    numbers = dict(vars(found))
    low, high = numbers.pop("correlation_chance")
    return {**numbers, "correlation_chance_low": low, "correlation_chance_high": high}


def _stability_line(name: str, cell: SuiteCell, found: Stability) -> list[Cell]:
    """Return one line of the table of stability."""
    digests = tuple(run.digest for run in cell.runs)
    shared = f"{wording.number(found.overlap)} of {found.top}" if found.is_known else wording.ABSENT
    chance = wording.interval(*found.correlation_chance, 2) if found.is_known else wording.ABSENT
    verdict = ("yes" if found.is_readable else "no") if found.is_known else "unknown"
    return [
        Cell(name),
        Cell(str(found.num_seeds), found.num_seeds, digests),
        Cell(wording.whole(found.num_classes), found.num_classes, digests),
        Cell(shared, found.overlap, digests),
        Cell(wording.number(found.overlap_chance), found.overlap_chance),
        Cell(wording.number(found.overlap_p_value, 3), found.overlap_p_value, digests),
        Cell(wording.ratio(found.correlation), found.correlation, digests),
        Cell(wording.ratio(found.correlation_min), found.correlation_min, digests),
        Cell(chance),
        Cell(wording.number(found.correlation_p_value, 3), found.correlation_p_value, digests),
        Cell(verdict),
    ]
