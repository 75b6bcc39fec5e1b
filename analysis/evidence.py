"""The evidence on the paper's claims, as tables and a figure, from the packed records of its runs.

`python -m transferbench.analysis.evidence [FILE.parquet] [picture.png]`
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .. import InputError
from ..terminal import configure_output
from . import wording
from .claims import (
    FEW,
    FEW_LABELS,
    GRADIENTS,
    KINDS,
    MORE_LABELS,
    OTHERS,
    UNIFORM,
    Effect,
    by_pair,
    effects,
    from_other,
    gains,
    papers_own,
    verdicts,
)
from .figures.claims import claims_figure
from .prior import FILE, LEAST, Case, LeftOut, equal, gain, known_cases, left_out, likeness
from .records.comparison import REFERENCE, Comparison, in_order
from .records.load import Run
from .records.packed import unpack
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import paired_difference, percent_interval
from .tables.chosen import chosen_text
from .tables.formats import to_markdown
from .tables.table import Cell, Table

Key = tuple[str, str, int]  # source, target, labels per class
TITLE = "What the paper's claims come to"
ABOUT = """Means over seeds with 95 % intervals; *detectable* is the effect from fine-tuning with 80 % power.
`python -m transferbench.analysis.evidence` prints this page. Claims, pairs, rules and what follows:
[evidence with power](../explanation/evidence.md)."""
CLAIMS_NOTE = """*Above* and *below*: significant after Holm correction over the seven planned pairs, for each
column, and for 5 labels and more apart; a pair that has not run counts as p = 1. *Alike*: both right, or both
wrong, in percent of test images. Where rows answer alike, a small detectable effect says only that."""
ROWS_NOTE = "An asterisk: significant after Holm correction for the rows of that pair alone."
ADVICE_NOTE = (
    "The best row in hindsight is the highest of twelve means on the same test images: too high by chance."
)
ADVICE = "Advice for a pair left out, in points from fine-tuning"


def claims_table(found: Sequence[Effect], by_gradients: Sequence[Effect]) -> Table:
    """Return the differences of L2TL on each pair, and those of L2TL by gradients from uniform weights.

    Beside that from fine-tuning stand the smallest effect that could be seen, and on how many test images
    both are right, or both wrong.
    """
    columns = ["pair", "distance", "labels", "seeds", from_other(REFERENCE), "detectable", "alike, %"]
    columns += [*map(from_other, OTHERS[1:]), "by gradients, from uniform weights"]
    rows = []
    for pair, kind, shots in dict.fromkeys((e.pair, e.kind, e.shots) for e in found):
        own = {e.other: e for e in found if (e.pair, e.shots) == (pair, shots)}
        last = [_text(e.difference) for e in by_gradients if (e.pair, e.shots) == (pair, shots)]
        reference = own[REFERENCE]
        texts = [pair, kind, str(shots), str(reference.difference.num_seeds), _text(reference.difference)]
        texts += [wording.number(reference.difference.detectable), wording.number(100 * reference.alike)]
        texts += [_text(own[other].difference) if other in own else wording.ABSENT for other in OTHERS[1:]]
        rows.append([Cell(text) for text in (*texts, *(last or [wording.ABSENT]))])
    return Table("By how many points L2TL is above other rows", columns, rows)


def _text(difference: Difference) -> str:
    outcome = difference.outcome
    said = wording.estimate(difference.points, difference.low, difference.high, sign=True)
    return f"{said}, {outcome}" if outcome in ("above", "below") else said


def rows_table(runs: Sequence[Run], labels: str) -> Table:
    """Return each row's difference from fine-tuning on each pair, and the score of fine-tuning."""
    cells = {key: _differences(comparison) for key, comparison in _with(labels, runs).items()}
    return _by_row(f"All rows with {labels}, in points from fine-tuning", cells)


def _differences(comparison: Comparison) -> dict[str, str]:
    own = [label for label in comparison.by_label if label != REFERENCE]
    found = [paired_difference(comparison.by_label[label], comparison.reference) for label in own]
    texts = {
        label: wording.estimate(each.points, each.low, each.high, sign=True) + "*" * each.is_significant
        for label, each in zip(own, holm_corrected(found), strict=True)
    }
    score = percent_interval([run.score for run in comparison.reference])
    return {REFERENCE: f"{wording.estimate(*score)} %", **texts}


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
    return Table(ADVICE, columns, rows)


def advice_report(cases: Sequence[Case]) -> str:
    """Return what the advice of other pairs gains, as a table and in sentences."""
    found = left_out(cases)
    if not found:
        return f"To judge it takes {LEAST} pairs."
    means = [
        f"- {name}: {_text(gain(left_out(cases, weight)))} points from fine-tuning"
        for name, weight in (("Weighted by likeness", likeness), ("Equal weights", equal))
    ]
    return "\n".join([f"{ADVICE_NOTE}\n", to_markdown(advice_table(found)), *means])


def report(runs: Sequence[Run], cases: Sequence[Case] = ()) -> str:
    """Return a page in Markdown: tables, verdicts, what is not run yet, and what advice gains."""
    found = effects(runs)
    claims = claims_table(found, effects(runs, GRADIENTS, [UNIFORM]))
    parts = [f"# {TITLE}", ABOUT, f"## {claims.title}", to_markdown(claims).rstrip(), CLAIMS_NOTE]
    parts += ["## Verdicts", "\n".join(f"- {line}." for line in _verdicts(found))]
    for table, note in ((rows_table, ROWS_NOTE), (chosen_table, "")):
        for labels in (FEW_LABELS, MORE_LABELS):
            if not (made := table(runs, labels)).rows:
                continue
            parts += [f"## {made.title}", *filter(None, [note]), to_markdown(made).rstrip()]
    return "\n\n".join([*parts, f"## {ADVICE}", advice_report(cases)]) + "\n"


def _verdicts(found: Sequence[Effect]) -> Iterator[str]:
    """Yield the gains with few labels, the verdicts on the claims, and what is not run yet."""
    for pair, gain_there in gains(found):
        yield f"Gain over fine-tuning on {pair}, 5 labels minus more: {_text(gain_there)} points"
    for claim, verdict in verdicts(found):
        yield f"{claim}: {verdict}"
    if missing := [
        f"{source} to {target}" for source, target in KINDS if not _has_both(found, source, target)
    ]:
        yield f"Not run, or with one number of labels: {wording.listing(missing)}"


def _has_both(found: Sequence[Effect], source: str, target: str) -> bool:
    return len({e.shots for e in found if (e.source, e.target) == (source, target)}) > 1


def main(argv: Sequence[str]) -> int:
    """Print the tables of a packed file, and draw the figure where a second path is given."""
    configure_output()
    try:
        file = Path(argv[0]) if argv else FILE
        runs, cases = unpack(file), known_cases(file)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(report(runs, cases), end="")
    for picture in argv[1:]:
        figure = claims_figure(effects(runs), papers_own())
        try:
            figure.savefig(picture, dpi=110, metadata={"Software": None})
        except (OSError, ValueError) as error:
            print(f"{picture}: not written ({error})", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
