"""The evidence on the paper's claims, as tables and a figure, from the packed records of its runs.

`python -m transferbench.analysis.evidence [FILE.parquet] [picture.png]`
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import InputError
from ..terminal import configure_output
from . import wording
from .claims import (
    FEW_LABELS,
    GRADIENTS,
    KINDS,
    MORE_LABELS,
    UNIFORM,
    Effect,
    effects,
    gains,
    papers_own,
    verdicts,
)
from .figures.claims import claims_figure
from .prior import FILE, LEAST, Case, equal, gain, known_cases, left_out, likeness
from .records.load import Run
from .records.packed import unpack
from .tables.evidence_tables import advice_table, chosen_table, claims_table, difference_text, rows_table
from .tables.formats import to_markdown

TITLE = "What the paper's claims come to"
ABOUT = """Means over seeds with 95 % intervals; *detectable* is the effect from fine-tuning with 80 % power.
`python -m transferbench.analysis.evidence` prints this page. Claims, pairs, rules and what follows:
[evidence with power](../explanation/evidence.md)."""
CLAIMS_NOTE = """*Above* and *below*: significant after Holm correction over the seven planned pairs, for each
column, and for 5 labels and more apart; a pair that has not run counts as p = 1. *Alike*: both right, or both
wrong, in percent of test images, by the row named to its left. Where rows answer alike, a small difference or
detectable effect says only that."""
ROWS_NOTE = """An asterisk: significant after Holm correction for the rows of that pair alone. A dagger:
nothing is claimed, whatever the interval, by an alarm of fine-tuning. A row whose training failed counts."""
ADVICE_NOTE = (
    "The best row in hindsight is the highest of twelve means on the same test images: too high by chance."
)


def advice_report(cases: Sequence[Case]) -> str:
    """Return what the advice of other pairs gains, as a table and in sentences."""
    table = advice_table(left_out(cases))
    if not table.rows:
        return f"## {table.title}\n\nTo judge it takes {LEAST} pairs."
    means = [
        f"- {name}: {difference_text(gain(left_out(cases, weight)))} points from fine-tuning"
        for name, weight in (("Weighted by likeness", likeness), ("Equal weights", equal))
    ]
    return "\n".join([f"## {table.title}\n", f"{ADVICE_NOTE}\n", to_markdown(table), *means])


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
    return "\n\n".join([*parts, advice_report(cases)]) + "\n"


def _verdicts(found: Sequence[Effect]) -> Iterator[str]:
    """Yield the gains with few labels, the verdicts on the claims, and what is not run yet."""
    for pair, gain_there in gains(found):
        said = wording.estimate(gain_there.points, gain_there.low, gain_there.high, sign=True)
        note = ", no claim" if gain_there.no_claim else ""
        yield f"Gain over fine-tuning on {pair}, 5 labels minus more: {said} points{note}"
    for claim, verdict in verdicts(found):
        yield f"{claim}: {verdict}"
    for (pair, shots), reason in {(e.pair, e.shots): e.difference.no_claim for e in found}.items():
        if reason:
            yield f"No claim on {pair} with {shots} labels: {reason}"
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
