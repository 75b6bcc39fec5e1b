"""One table as Markdown, LaTeX, CSV and Parquet; a name cannot break any of them."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ... import printable
from ..wording import MINUS
from .comparison_table import markdown_table
from .csv_text import csv_text

# what Markdown reads as more than text; the bar is left to tables.markdown_table
MARKDOWN = re.compile(r"[\\`*_\[\]>~$]|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
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


@dataclass(frozen=True)
class Entry:
    """One cell of a table: what is read, the runs behind it, and the number to sort by."""

    text: str = ""
    digests: tuple[str, ...] = ()
    value: float = math.nan


@dataclass(frozen=True)
class Table:
    """A table as it is read, and its numbers in full precision, one row a number's place."""

    title: str
    columns: list[str]
    rows: list[list[Entry]]
    numbers: pd.DataFrame
    slug: str = ""  # ends the names of its files; "" for the first table of a suite

    @property
    def texts(self) -> pd.DataFrame:
        """What is read, without the runs."""
        return pd.DataFrame([[entry.text for entry in row] for row in self.rows], columns=self.columns)

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, so that it stands on the right."""
        return any(not math.isnan(row[column].value) for row in self.rows)


@dataclass(frozen=True)
class SuiteTables:
    """The tables of a suite, the sentences that they support, and notes on how to read them."""

    tables: list[Table]  # the first is the paper's own
    sentences: list[str]
    notes: list[str]


def markdown_text(text: str) -> str:
    """Return `text` so that Markdown shows it as it is."""
    return MARKDOWN.sub(r"\\\g<0>", printable(text))


def to_markdown(table: Table) -> str:
    """Return the table in Markdown."""
    texts = table.texts.map(markdown_text)
    texts.columns = [markdown_text(name) for name in table.columns]
    return markdown_table(texts)


def latex_text(text: str) -> str:
    """Return `text` so that LaTeX prints it as it is."""
    signs = printable(text)
    pairs = zip(signs, f"{signs[1:]} ", strict=False)
    return "".join(LATEX["--"] if pair == ("-", "-") else LATEX.get(pair[0], pair[0]) for pair in pairs)


def to_latex(table: Table, label: str) -> str:
    """Return the table in LaTeX, for a document that uses booktabs."""
    kinds = "".join("r" if table.is_numeric(i) else "l" for i in range(len(table.columns)))
    head = _latex_row(table.columns)
    body = [_latex_row([entry.text for entry in row]) for row in table.rows]
    lines = [
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


def _latex_row(texts: list[str]) -> str:
    """Return one row of a tabular."""
    return f"    {' & '.join(latex_text(text) for text in texts)} \\\\"


def write_numbers(table: Table, stem: Path) -> None:
    """Write the numbers of a table as CSV and as Parquet, next to each other."""
    Path(f"{stem}.csv").write_text(csv_text(table.numbers), encoding="utf-8")
    table.numbers.to_parquet(f"{stem}.parquet", index=False)
