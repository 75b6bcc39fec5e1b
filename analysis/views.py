"""The one list of tables and figures: those of each kind of suite, and those of every comparison.

A new figure is a module in `analysis/figures` and its name in a list here; page, files and prints follow.
A new table is a function in `analysis/tables` and its name here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import InputError
from .records.comparison import Comparison
from .records.suites import Suite
from .tables import class_table, cost_table, planted_table, score_table
from .tables.paper_tables import PaperTable, SuiteTables, paper_table

if TYPE_CHECKING:  # matplotlib is loaded only when there is something to draw
    from .figures.drawing import Drawing
    from .figures.style import Style


@dataclass(frozen=True)
class View:
    """The tables and figures of one kind of suite.

    `figures` names modules of `analysis/figures`. Each has `suite_drawings(suite, results)`, which yields
    its drawings, none if no run has the data.
    """

    tables: Callable[[Suite, str], SuiteTables]
    figures: tuple[str, ...] = ()
    shows_images: bool = False  # of the classes with the highest and lowest weights


VIEWS = {
    "scores": View(score_table.suite_tables),
    "labels": View(score_table.label_tables),
    "shots": View(score_table.shots_tables, ("shots",)),
    "curves": View(score_table.suite_tables, ("curves",)),
    "classes": View(class_table.suite_tables, ("class_weights",)),
    "pictures": View(class_table.suite_tables, ("class_weights", "class_images"), shows_images=True),
    "cost": View(cost_table.suite_tables),
    "planted": View(planted_table.suite_tables, ("planted", "class_weights")),
}
COMPARISON_FIGURES = ("accuracy", "cost", "curves")  # modules with `comparison_drawing(comparison, look)`


def view_of(suite: Suite) -> View:
    """Return the view of a suite.

    Raises:
        InputError: if this version does not know it.
    """
    if suite.view not in VIEWS:
        known = " or ".join(map(repr, VIEWS))
        raise InputError(f"suite {suite.name}: unknown view {suite.view!r:.60}; this version reads {known}")
    return VIEWS[suite.view]


def suite_section(suite: Suite) -> PaperTable:
    """Return the tables, sentences and notes of a suite. Raises InputError if its view is unknown."""
    title = f"{suite.element}: {suite.title}" if suite.element else suite.title
    return paper_table(suite, view_of(suite).tables(suite, title))


def suite_drawings(suite: Suite, results: Path) -> "Iterator[Drawing]":
    """Yield the figures of a suite; none without runs. Raises InputError if its view is unknown."""
    names = view_of(suite).figures
    if suite.runs:
        for name in names:
            yield from _module(name).suite_drawings(suite, results)


def comparison_drawings(comparison: Comparison, look: "dict[str, Style]") -> "Iterator[tuple[str, Drawing]]":
    """Yield the figures of a comparison, each with its name."""
    for name in COMPARISON_FIGURES:
        if drawing := _module(name).comparison_drawing(comparison, look):
            yield name, drawing


def _module(name: str) -> Any:
    """Import a module of `analysis/figures`."""
    return import_module(f".figures.{name}", __package__)
