"""Writes a table as Markdown, LaTeX, CSV and Parquet; no name in it breaks any of them."""

import re
from collections.abc import Sequence
from pathlib import Path

from ... import printable
from ..wording import MINUS
from .csv_text import csv_text
from .table import Table

# characters with a meaning in Markdown; the bar is escaped in cells only
MARKDOWN = re.compile(
    r"[\\`*\[\]>~$]|<(?=[A-Za-z/!?])|&(?=#?\w+;)"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside of a word an underscore has none
)
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row these two would be arguments of the end of the one before
    "*": "{*}",
    "--": "-{}",  # the first of two that would be a dash
    MINUS: "$-$",
    "\N{EN DASH}": "--",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
}


def markdown_text(text: str) -> str:
    """Return `text` escaped, which Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\g<0>", printable(text))


def to_markdown(table: Table) -> str:
    """Return the table in Markdown, aligned in its source too; the first column is on the left."""
    rows = _markdown_rows(table)
    widths = _widths(rows)
    rule = [("-" * width) if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def narrowed(table: Table, width: int, least: Sequence[str]) -> Table:
    """Return the table with the columns whose lines in Markdown fit into some characters, two at least.

    Args:
        table: the table.
        width: characters of a line.
        least: names of columns in the order in which they are left out; then those on the right.
    """
    widths = dict(zip(table.columns, _widths(_markdown_rows(table)), strict=True))
    others = [name for name in reversed(table.columns) if name not in least]
    order = [*(name for name in least if name in widths), *others]
    while len(widths) > 2 and sum(widths.values()) + 3 * len(widths) + 1 > width:
        del widths[order.pop(0)]
    kept = [i for i, name in enumerate(table.columns) if name in widths]
    return Table(table.title, list(widths), [[row[i] for i in kept] for row in table.rows])


def _markdown_rows(table: Table) -> list[list[str]]:
    rows = [[_markdown_cell(name) for name in table.columns]]
    return rows + [[_markdown_cell(cell.text) for cell in row] for row in table.rows]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the characters of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _markdown_cell(text: str) -> str:
    """Return the text with nothing in it that would end a cell or a row."""
    return markdown_text(text).replace("|", "\\|")


def latex_text(text: str) -> str:
    """Return `text` escaped, which LaTeX prints as it is."""
    signs = printable(text)
    pairs = zip(signs, f"{signs[1:]} ", strict=False)
    return "".join(LATEX["--"] if pair == ("-", "-") else LATEX.get(pair[0], pair[0]) for pair in pairs)


def to_latex(table: Table, label: str) -> str:
    """Return the table in LaTeX, for a document that uses booktabs."""
    kinds = "".join("r" if table.is_numeric(i) else "l" for i in range(len(table.columns)))
    head = _latex_row(table.columns)
    body = [_latex_row([cell.text for cell in row]) for row in table.rows]
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(table.title)}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', label)}}}",
        rf"  \begin{{tabular}}{{{kinds}}}",
        r"    \toprule",
        head,
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(texts: Sequence[str]) -> str:
    """Return one row of a tabular."""
    return f"    {' & '.join(latex_text(text) for text in texts)} \\\\"


def write_numbers(table: Table, stem: Path) -> None:
    """Write the numbers of a table as CSV and as Parquet, next to each other."""
    Path(f"{stem}.csv").write_text(csv_text(table.numbers), encoding="utf-8")
    table.numbers.to_parquet(f"{stem}.parquet", index=False)
