"""Reads the plans of suites, and joins the cells of each with the runs that are there."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ... import InputError
from .comparison import REFERENCE, latest
from .load import Run

FORMAT = 1


@dataclass(frozen=True)
class SuiteCell:
    """One cell of a table or one line of a figure: its planned runs and those that are done."""

    row: str
    column: str
    at: float | str | None  # images per class, "all", or None
    source: str
    target: str
    comparison_id: str
    label: str
    method: str
    runs: list[Run]  # done, by seed
    planned: int
    command: str  # that makes its runs
    reason: str  # why it cannot be run, or ""
    reference: list[Run]  # fine-tuning of the same comparison, by seed

    @property
    def is_reference(self) -> bool:
        """Return whether this is the fine-tuning that the others of its comparison are compared with."""
        return self.method == "finetune" and self.label == REFERENCE


@dataclass(frozen=True)
class Suite:
    """The plan of one table or figure, with the runs that are done."""

    name: str
    element: str  # of the paper, "Table 2"; "" for a suite of ours
    title: str
    view: str  # the name of its tables and figures in analysis/views.py
    command: str
    notes: list[str]
    cells: list[SuiteCell]

    @property
    def rows(self) -> list[str]:
        """The names of the rows, in the plan's order."""
        return unique(cell.row for cell in self.cells)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the plan's order."""
        return unique(cell.column for cell in self.cells)

    @property
    def runs(self) -> list[Run]:
        """Every run of the cells and of their references, each once."""
        every = [run for cell in self.cells for run in [*cell.runs, *cell.reference]]
        return list({run.path: run for run in every}.values())


def unique(names: Iterable[str]) -> list[str]:
    """Return the names in the order in which they come first."""
    return list(dict.fromkeys(names))


def load_suites(results: Path, runs: list[Run]) -> list[Suite]:
    """Return the suites that were planned below `results`, by name, with their share of `runs`.

    Raises:
        InputError: if a plan is broken, or of another version.
    """
    return [load_suite(path, results, runs) for path in plans(results)]


def plans(results: Path) -> list[Path]:
    """Return the files of the suites that were planned below `results`."""
    return sorted((results / "suites").glob("*.json"))


def load_suite(path: Path, results: Path, runs: list[Run]) -> Suite:
    """Return one suite with its share of `runs`.

    Raises:
        InputError: if its plan is broken, or of another version.
    """
    plan = _read(path)
    try:
        return _suite(plan, results, {run.path: run for run in runs}, _references(runs))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: no whole plan ({type(error).__name__}: {error}); run `transferbench suite` again"
        ) from error


def _references(runs: list[Run]) -> dict[tuple[str, str, str], list[Run]]:
    """Return the fine-tuning runs of each (source, target, comparison), one per seed."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.method == "finetune" and run.label == REFERENCE:
            groups.setdefault(run.recorded, []).append(run)
    return {key: latest(group)[0][REFERENCE] for key, group in groups.items()}


def _read(path: Path) -> dict[str, Any]:
    """Return one plan as plain JSON, of a known format."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8-sig"))
        json.dumps(plan, ensure_ascii=False).encode()  # else no table could be written
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: broken JSON ({error}); run `transferbench suite` again") from error
    if not isinstance(plan, dict):
        raise InputError(f"{path}: a {type(plan).__name__}, where a plan is a JSON object")
    if plan.get("format") != FORMAT:
        raise InputError(f"{path}: format {plan.get('format')!r:.60} is unknown; this version reads {FORMAT}")
    return plan


def _suite(
    plan: dict[str, Any],
    results: Path,
    by_path: dict[Path, Run],
    references: dict[tuple[str, str, str], list[Run]],
) -> Suite:
    """Return the suite that a plan describes."""
    cells = [_cell(cell, results, by_path, references) for cell in plan["cells"]]
    texts = {name: str(plan[name]) for name in ("name", "element", "title", "view", "command")}
    return Suite(**texts, notes=[str(note) for note in plan["notes"]], cells=cells)


def _cell(
    plan: dict[str, Any],
    results: Path,
    by_path: dict[Path, Run],
    references: dict[tuple[str, str, str], list[Run]],
) -> SuiteCell:
    """Return one cell with its runs that are done."""
    paths = [results / run["record"] for run in plan["runs"]]
    done = sorted({path: by_path[path] for path in paths if path in by_path}.values(), key=_seed)
    texts = {name: str(plan[name]) for name in ("row", "column", "source", "target", "command", "reason")}
    cell = SuiteCell(
        **texts,
        at=plan["at"],
        comparison_id=plan.get("comparison_id") or plan.get("bench") or "",
        label=plan.get("label") or "",
        method=plan.get("method") or "",
        runs=done,
        planned=len(paths),
        reference=[],
    )
    return replace(cell, reference=references.get((cell.source, cell.target, cell.comparison_id), []))


def _seed(run: Run) -> int:
    """Return the sort key of the runs of a cell."""
    return run.seed
