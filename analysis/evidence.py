"""The evidence on the paper's claims, as tables and a figure, from the packed records of its runs.

`python -m transferbench.analysis.evidence [FILE.parquet] [picture.png]`
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import InputError
from ..terminal import configure_output
from . import wording
from .claims import KINDS, OTHERS, Effect, by_pair, effects, from_other, gains, papers_own, verdicts
from .figures.claims import claims_figure
from .prior import FILE, LEAST, Case, LeftOut, equal, gain, known_cases, left_out, likeness
from .records.comparison import REFERENCE, in_order
from .records.load import Run
from .records.packed import unpack
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import paired_difference, percent_interval
from .tables.formats import to_markdown
from .tables.table import Cell, Table

TITLE = "What the paper's claims come to"
ABOUT = """Means over seeds with 95 % intervals; *detectable* is the effect from fine-tuning with 80 % power.
`python -m transferbench.analysis.evidence` prints this page. Claims, pairs, rules and what follows:
[evidence with power](../explanation/evidence.md)."""
ADVICE = "Advice for a pair left out, in points from fine-tuning"


def claims_table(found: Sequence[Effect]) -> Table:
    """Return the differences of L2TL on each pair, with the smallest effect that could be seen."""
    columns = ["pair", "", "labels", "seeds", *map(from_other, OTHERS), "detectable"]
    rows = []
    for pair, kind, shots in dict.fromkeys((e.pair, e.kind, e.shots) for e in found):
        own = {e.other: e.difference for e in found if (e.pair, e.shots) == (pair, shots)}
        reference = own[REFERENCE]
        texts = [_text(own[other]) if other in own else wording.ABSENT for other in OTHERS]
        about = [pair, kind, str(shots), str(reference.num_seeds)]
        rows.append([Cell(text) for text in (*about, *texts, wording.number(reference.detectable))])
    return Table("By how many points L2TL is above other rows", columns, rows)


def _text(difference: Difference) -> str:
    outcome = difference.outcome
    said = wording.estimate(difference.points, difference.low, difference.high, sign=True)
    return f"{said}, {outcome}" if outcome in ("above", "below") else said


def rows_table(runs: Sequence[Run]) -> Table:
    """Return the score of fine-tuning on each pair, and each other row's mean difference from it."""
    known = by_pair(runs)
    labels = in_order(label for comparison in known.values() for label in comparison.by_label)[1:]
    rows = []
    for (source, target, shots), comparison in known.items():
        score = wording.estimate(*percent_interval([run.score for run in comparison.reference]))
        own = [label for label in labels if label in comparison.by_label]
        differences = [paired_difference(comparison.by_label[label], comparison.reference) for label in own]
        of_label = dict(zip(own, holm_corrected(differences), strict=True))
        cells = [_short(of_label[label]) if label in of_label else wording.ABSENT for label in labels]
        rows.append([Cell(text) for text in (f"{source} to {target}, {shots}", score, *cells)])
    return Table("All rows, in points from fine-tuning", ["pair, labels", f"{REFERENCE}, %", *labels], rows)


def _short(difference: Difference) -> str:
    mark = "*" if difference.is_significant else ""
    return f"{wording.number(difference.points, sign=True)}{mark}"


def advice_table(found: Sequence[LeftOut]) -> Table:
    """Return, for each case of a pair left out, the row that the others advise and what it gains there."""
    columns = ["pair left out", "labels", "advice of the others", "gains", "best row", "gains"]
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
        return f"It takes {LEAST} pairs."
    means = [
        f"- {name}: {_text(gain(left_out(cases, weight)))} points from fine-tuning"
        for name, weight in (("Weighted by likeness", likeness), ("Equal weights", equal))
    ]
    return "\n".join([to_markdown(advice_table(found)), *means])


def report(runs: Sequence[Run], cases: Sequence[Case] = ()) -> str:
    """Return a page in Markdown: tables, verdicts, what is not run yet, and what advice gains."""
    found = effects(runs)
    claims, rows = claims_table(found), rows_table(runs)
    verdict = "\n".join(f"- {line}." for line in _verdicts(found))
    parts = [
        f"# {TITLE}",
        ABOUT,
        f"## {claims.title}",
        to_markdown(claims).rstrip(),
        "## Verdicts",
        verdict,
        f"## {rows.title}",
        "An asterisk: significant after Holm correction for the rows of a line.",
        to_markdown(rows).rstrip(),
        f"## {ADVICE}",
        advice_report(cases),
    ]
    return "\n\n".join(parts) + "\n"


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
