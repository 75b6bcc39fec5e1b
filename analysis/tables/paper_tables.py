"""A suite as one section of text: tables, sentences, missing cells and notes."""

import re
from dataclasses import dataclass
from pathlib import Path

from .. import wording
from ..records.comparison import compare
from ..records.load import Run
from ..records.published import of_element
from ..records.suites import Suite, unique
from .formats import markdown_text, to_latex, to_markdown, write_numbers
from .table import SuiteTables, Table


@dataclass(frozen=True)
class Missing:
    """A cell that lacks runs, and the command that makes them."""

    row: str
    column: str
    num_done: int
    num_planned: int
    text: str  # the command that fills it; or the reason why it cannot be run
    is_command: bool


@dataclass(frozen=True)
class PaperTable:
    """The text and tables of one suite; nothing is escaped yet."""

    name: str
    element: str  # of the paper; "" for a suite of ours
    title: str
    view: str
    command: str
    tables: list[Table]  # the first is the paper's own
    sentences: list[str]
    notes: list[str]
    missing: list[Missing]
    digests: list[str]  # every run that the section rests on


def paper_table(suite: Suite, made: SuiteTables) -> PaperTable:
    """Return the section of a suite, given its tables."""
    return PaperTable(
        suite.name,
        suite.element,
        suite.title,
        suite.view,
        suite.command,
        made.tables,
        made.sentences,
        unique([*suite.notes, *_printed_notes(suite), *made.notes, *_run_notes(suite)]),
        missing(suite),
        [run.digest for run in suite.runs],
    )


def _printed_notes(suite: Suite) -> list[str]:
    """Return the notes on the published numbers of the suite's columns, one a note, with their rows."""
    if not {item.source for item in of_element(suite.element)} & {cell.source for cell in suite.cells}:
        return []
    targets = {"", *(cell.target for cell in suite.cells)}
    rows_by_note: dict[str, list[str]] = {}
    for item in of_element(suite.element):
        if item.note and item.target in targets:
            rows_by_note.setdefault(item.note, []).append(item.row)
    return [f"{wording.listing(unique(rows))}: {note}." for note, rows in rows_by_note.items()]


def _run_notes(suite: Suite) -> list[str]:
    """Return notes on differences between the runs of a comparison, such as machines or commits."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in suite.runs:
        groups.setdefault((run.source, run.target, run.comparison_id), []).append(run)
    return [note for runs in groups.values() for note in compare(runs).notes]


def missing(suite: Suite) -> list[Missing]:
    """Return the cells that lack runs, each with the command that fills it or why it cannot be run."""
    return [
        Missing(
            cell.row,
            cell.column if cell.at is None else f"{cell.column}, {cell.at}",
            len(cell.runs),
            cell.planned,
            cell.reason or cell.command,
            not cell.reason,
        )
        for cell in suite.cells
        if len(cell.runs) < cell.planned or not cell.planned
    ]


def missing_line(item: Missing) -> str:
    """Return one line of the list of missing cells, before its command or reason."""
    if item.num_planned and item.num_done:
        return f"{item.row}, {item.column}: {item.num_planned - item.num_done} of {item.num_planned} runs"
    return f"{item.row}, {item.column}"


def to_text(section: PaperTable) -> str:
    """Return a section in Markdown."""
    lines = [f"## {markdown_text(section.tables[0].title)}", ""]
    for i, table in enumerate(section.tables):
        lines += [f"### {markdown_text(table.title)}", ""] if i else []
        lines += [to_markdown(table)] if table.rows else ["Nothing to show.", ""]
        if i == 0:
            lines += [f"- {markdown_text(claim)}" for claim in section.sentences] + [""]
    if section.missing:
        lines += ["Not run yet, or incomplete:", ""]
        lines += [f"- {_missing_text(item)}" for item in section.missing] + [""]
    lines += ["Notes:", *[f"- {markdown_text(note)}" for note in section.notes], ""]
    return "\n".join([*lines, f"Made by {_code(section.command)}.", ""])


def _missing_text(item: Missing) -> str:
    """Return one line of the list of missing cells, in Markdown."""
    what = _code(item.text) if item.is_command else markdown_text(f"cannot be run: {item.text}")
    return f"{markdown_text(missing_line(item))}: {what}"


def _code(text: str) -> str:
    """Return text as a code span of Markdown, whatever ticks it holds."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{' '.join(text.split())}{pad}{fence}"


def write_section(section: PaperTable, folder: Path) -> None:
    """Write a section as Markdown and LaTeX, and the numbers of each table as CSV and Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = file_name(section.name)
    latex = "\n".join(to_latex(table, f"{stem} {table.slug}".strip()) for table in section.tables)
    (folder / f"{stem}.md").write_text(to_text(section), encoding="utf-8")
    (folder / f"{stem}.tex").write_text(latex, encoding="utf-8")
    for table in section.tables:
        write_numbers(table, folder / "-".join(filter(None, (stem, file_name(table.slug)))))


def file_name(name: str) -> str:
    """Return a name for files."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:120]
