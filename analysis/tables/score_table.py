"""Tables of test scores: one line per method, or one per method and kind of number."""

import math
from dataclasses import replace

import pandas as pd

from .. import wording
from ..records.load import METRICS
from ..records.suites import Suite, unique
from ..statistics.paired import Difference
from .scores import Result, across_sentences, label_results, results, sentences, shots_results
from .table import Cell, SuiteTables, Table

SCORE_NOTE = (
    "Ours are means over seeds on the test part, in percent, with 95 % t-intervals. Differences from"
    " fine-tuning are paired by seed and, for accuracy, by test image. p-values are Holm-corrected for the"
    " number of comparisons in this table."
)
PUBLISHED_NOTE = (
    "The paper's own figures are means of three runs whose spread is not printed, so a difference from them"
    " has no interval."
)


def suite_tables(suite: Suite, title: str) -> SuiteTables:
    """Return the scores by method and target, with sentences about each score and about all targets."""
    found = results(suite)
    made = _made(found, title)
    return replace(made, sentences=[*made.sentences, *across_sentences(found)])


def shots_tables(suite: Suite, title: str) -> SuiteTables:
    """Return the scores by method and number of images per class, one table per target."""
    return _made(shots_results(suite), title)


def label_tables(suite: Suite, title: str) -> SuiteTables:
    """Return the scores by method and label of a multi-label target."""
    return _made(label_results(suite), title)


def _made(found: list[Result], title: str) -> SuiteTables:
    """Return tables, sentences and notes of some scores."""
    notes = [SCORE_NOTE, *([PUBLISHED_NOTE] if any(result.printed for result in found) else [])]
    return SuiteTables(score_tables(found, title), sentences(found), notes)


def score_tables(found: list[Result], title: str) -> list[Table]:
    """Return one table, or one a panel; the numbers of the first are those of all."""
    panels = unique(result.panel for result in found) or [""]
    tables = [
        score_table(f"{title}, {panel}" if panel else title, [r for r in found if r.panel == panel], panel)
        for panel in panels
    ]
    return [replace(tables[0], numbers=numbers(found), slug=""), *tables[1:]]


def score_table(title: str, found: list[Result], slug: str = "") -> Table:
    """Return the scores: one line per method for one column, else one line per method and kind of number."""
    columns = unique(result.column for result in sorted(found, key=lambda result: result.cell is None))
    rows = unique(result.row for result in found)
    by_place = {(result.row, result.column): result for result in found}
    if len(columns) == 1:
        by_name = [_line(by_place[row, columns[0]]) for row in rows]
        is_printed = any(result.printed for result in found)
        head = [name for name in by_name[0] if is_printed or "published" not in name]
        return Table(title, head, [[line[name] for name in head] for line in by_name], numbers(found), slug)
    lines = [line for row in rows for line in _lines(row, [by_place.get((row, name)) for name in columns])]
    return Table(title, ["method", "number", *columns], lines, numbers(found), slug)


def _line(result: Result) -> dict[str, Cell]:
    """Return the line of a method in a table of one column, by heading."""
    printed = printed_entry(result)
    if result.printed and result.printed.is_quoted:
        printed = printed._replace(text=f"{printed.text} (quoted)")
    seeds = Cell(wording.seeds([run.seed for run in result.runs]) if result.runs else "")
    return {
        "method": Cell(result.row),
        "published, %": printed,
        "ours, %": score_entry(result),
        "seeds": seeds,
        "from published, points": from_printed_entry(result),
        "from fine-tuning, points": difference_entry(result),
    }


def _lines(row: str, found: list[Result | None]) -> list[list[Cell]]:
    """Return the lines of a method in a table of several columns; empty ones are left out, but ours."""
    is_quoted = any(result.printed.is_quoted for result in found if result and result.printed)
    kinds = {
        "quoted, %" if is_quoted else "published, %": printed_entry,
        "ours, %": ours_entry,
        "from published, points": from_printed_entry,
        "from fine-tuning, points": difference_entry,
    }
    is_planned = any(result and result.cell for result in found)
    lines = []
    for kind, entry in kinds.items():
        entries = [entry(result) if result else Cell() for result in found]
        if {entry.text for entry in entries} - {"", "reference"} or (kind == "ours, %" and is_planned):
            lines.append([Cell(row), Cell(kind), *entries])
    return lines


def printed_entry(result: Result) -> Cell:
    """Return the published score."""
    return Cell(result.printed.text, result.printed.value) if result.printed else Cell()


def score_entry(result: Result) -> Cell:
    """Return the measured mean and its interval; empty without runs."""
    if not result.runs:
        return Cell()
    mean, low, high = result.score
    return Cell(wording.estimate(mean, low, high), mean, digests(result))


def ours_entry(result: Result) -> Cell:
    """Return the measured mean, its interval and the number of seeds."""
    entry = score_entry(result)
    if not result.runs:
        return entry
    num = len(result.runs)
    return entry._replace(text=f"{entry.text}, {num} seed{'s' if num > 1 else ''}")


def from_printed_entry(result: Result) -> Cell:
    """Return by how many points the mean is above the published score."""
    points = result.from_printed
    return Cell() if math.isnan(points) else Cell(wording.number(points, sign=True), points, digests(result))


def difference_entry(result: Result) -> Cell:
    """Return the difference from fine-tuning with its interval."""
    if result.cell and result.cell.is_reference and result.runs:
        return Cell("reference")
    difference = result.difference
    if difference is None or math.isnan(difference.points):
        return Cell()
    text = wording.estimate(difference.points, difference.low, difference.high, sign=True)
    reference = tuple(run.digest for run in result.cell.reference) if result.cell else ()
    return Cell(text, difference.points, (*digests(result), *reference))


def digests(result: Result) -> tuple[str, ...]:
    """Return the runs behind a score."""
    return tuple(run.digest for run in result.runs)


def numbers(found: list[Result]) -> pd.DataFrame:
    """Return one row per score, in full precision; scores in percent, differences in points."""
    return pd.DataFrame([_numbers(result) for result in found])


def _numbers(result: Result) -> dict[str, object]:
    """Return the numbers of one score."""
    mean, low, high = result.score
    difference = result.difference or Difference(math.nan, math.nan, math.nan, 0)
    metric = result.runs[0].metric if result.runs else result.printed.quantity if result.printed else ""
    return {
        "panel": result.panel,
        "row": result.row,
        "column": result.column,
        "source": result.cell.source if result.cell else result.printed.source if result.printed else "",
        "metric": METRICS.get(metric, metric),
        "published": result.printed.value if result.printed else math.nan,
        "standing": result.printed.standing if result.printed else "",
        "num_seeds": len(result.runs),
        "num_planned": result.cell.planned if result.cell else 0,
        "score": mean,
        "score_low": low,
        "score_high": high,
        "from_published": result.from_printed,
        "difference": difference.points,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "difference_num_seeds": difference.num_seeds,
        "difference_note": difference.note,
        "p_value": difference.p_value,
        "p_value_holm": difference.p_value_holm,
        "detectable": difference.detectable,
        "runs": " ".join(digests(result)),
    }
