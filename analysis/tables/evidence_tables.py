"""Tables of the evidence on the paper's claims: what L2TL and all other rows gain on pairs of data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .. import wording
from ..alarms import checked, no_claim
from ..claims import FEW, FEW_LABELS, OTHERS, Effect, Key, by_pair, from_other
from ..prior import LeftOut
from ..records.comparison import REFERENCE, Comparison, in_order
from ..records.load import Run
from ..statistics.aggregate import holm_corrected
from ..statistics.difference import Difference
from ..statistics.paired import percent_interval
from .chosen import chosen_text
from .table import Cell, Table


def claims_table(found: Sequence[Effect], by_gradients: Sequence[Effect]) -> Table:
    """Return the differences of L2TL on each pair, and those of L2TL by gradients from uniform weights.

    Beside that from fine-tuning stands the smallest effect that could be seen, and beside each of the three
    on how many test images both are right, or both wrong.
    """
    columns = ["pair", "distance", "labels", "seeds", from_other(REFERENCE), "detectable", "alike, %"]
    columns += [name for other in OTHERS[1:] for name in (from_other(other), "alike, %")]
    columns += ["by gradients, from uniform weights"]
    rows = []
    for pair, kind, shots in dict.fromkeys((e.pair, e.kind, e.shots) for e in found):
        own = {e.other: e for e in found if (e.pair, e.shots) == (pair, shots)}
        last = [difference_text(e.difference) for e in by_gradients if (e.pair, e.shots) == (pair, shots)]
        reference = own[REFERENCE]
        said, alike = _with_alike(reference)
        texts = [pair, kind, str(shots), str(reference.difference.num_seeds), said]
        texts += [wording.number(reference.difference.detectable), alike]
        for other in OTHERS[1:]:
            texts += _with_alike(own[other]) if other in own else [wording.ABSENT] * 2
        rows.append([Cell(text) for text in (*texts, *(last or [wording.ABSENT]))])
    return Table("By how many points L2TL is above other rows", columns, rows)


def _with_alike(effect: Effect) -> list[str]:
    return [difference_text(effect.difference), wording.number(100 * effect.alike)]


def difference_text(difference: Difference) -> str:
    """Return a difference with its interval, and whether it is significant, or nothing is claimed of it."""
    outcome = difference.outcome
    said = wording.estimate(difference.points, difference.low, difference.high, sign=True)
    return f"{said}, {outcome}" if outcome in ("above", "below", "no claim") else said


def rows_table(runs: Sequence[Run], labels: str) -> Table:
    """Return each row's difference from fine-tuning on each pair, and the score of fine-tuning."""
    cells = {key: _differences(comparison) for key, comparison in _with(labels, runs).items()}
    return _by_row(f"All rows with {labels}, in points from fine-tuning", cells)


def _differences(comparison: Comparison) -> dict[str, str]:
    """Return each row's difference as text. Where training failed, that is what the row does there."""
    doubts, found = checked(comparison)
    found = {label: replace(each, no_claim=no_claim(doubts)) for label, each in found.items()}
    texts = {
        label: wording.estimate(each.points, each.low, each.high, sign=True)
        + "*" * (each.outcome in ("above", "below"))
        + "†" * bool(each.no_claim)
        for label, each in zip(found, holm_corrected(list(found.values())), strict=True)
    }
    score = percent_interval([run.score for run in comparison.reference])
    return {**texts, REFERENCE: f"{wording.estimate(*score)} %"}


def chosen_table(runs: Sequence[Run], labels: str) -> Table:
    """Return the values with which each row was trained on each pair, as its trials chose them."""
    cells = {
        key: {
            label: chosen_text(own)
            for label, own in comparison.by_label.items()
            if own[0].record.get("choice")
        }
        for key, comparison in _with(labels, runs).items()
    }
    return _by_row(f"Chosen by the trials with {labels}", cells)


def _with(labels: str, runs: Sequence[Run]) -> dict[Key, Comparison]:
    """Return the comparisons with few labels, or with more."""
    is_few = labels == FEW_LABELS
    return {key: each for key, each in by_pair(runs).items() if (key[2] == FEW) == is_few}


def _by_row(title: str, cells: Mapping[Key, Mapping[str, str]]) -> Table:
    """Return a line for each row, and a column for each pair."""
    labels = in_order(label for own in cells.values() for label in own)
    lines = [[label, *(own.get(label, wording.ABSENT) for own in cells.values())] for label in labels]
    columns = ["row", *(f"{source} to {target}" for source, target, _ in cells)]
    return Table(title, columns, [[Cell(text) for text in line] for line in lines])


def advice_table(found: Sequence[LeftOut]) -> Table:
    """Return, for each case of a pair left out, the row that the others advise and what it gains there."""
    columns = ["pair left out", "labels", "advice of the others", "gains", "best row in hindsight", "gains"]
    rows = [
        [
            Cell(text)
            for text in (
                " to ".join(each.case.pair),
                f"{each.case.task.per_class:.0f}",
                *(each.label, wording.number(each.points, sign=True)),
                *(each.best, wording.number(each.best_points, sign=True)),
            )
        ]
        for each in found
    ]
    return Table("Advice for a pair left out, in points from fine-tuning", columns, rows)
