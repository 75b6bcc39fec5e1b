"""Writes the report: tables, figures and one self-contained HTML page.

Figures and tables of suites: see `views`.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from .. import InputError
from . import speed
from .page import page, run_log
from .page.headline import findings, places
from .records.comparison import Comparison, comparisons
from .records.load import Run, Unread, load_records, runs_frame
from .records.pictures import pictures_path, read_pictures
from .records.suites import load_suite, plans
from .tables import comparison_table
from .tables.paper_tables import file_name, write_section
from .views import comparison_drawings, suite_drawings, suite_section

if TYPE_CHECKING:
    import pandas as pd


def write_report(results: Path, out: Path, prints: bool = False) -> Path:
    """Write tables and `report.html` into `out`, with `prints` figures as PNG and PDF too; return the page.

    Raises:
        InputError: if `results` holds no run. Records and plans that cannot be read are listed on the page,
            records on stderr too.
    """
    found = load_records(results)
    runs, skipped = found.runs, found.skipped
    compared = [(item, comparison_table.comparison_table(item)) for item in comparisons(runs, skipped)]
    for comparison, _ in compared:
        comparison_table.write_table(comparison, out / "tables")
    runs_frame(runs).to_parquet(out / "tables" / "runs.parquet", index=False)
    if prints:
        write_prints([comparison for comparison, _ in compared], out / "figures")
    suites = suite_parts(results, runs, out, prints, found.unread)
    speeds = speed_part(results, found.unread)
    context = page.page_context(
        compared,
        runs,
        [*(run.record for run in runs), *found.others],
        suites,
        run_log.unfinished(results),
        skipped,
        [(str(path.relative_to(results)), reason) for path, reason in found.unread],
        speeds,
        lambda comparison: read_pictures(pictures_path(results, comparison.runs[0].record)),
    )
    (out / "report.html").write_text(page.render(context), encoding="utf-8")
    return out / "report.html"


def suite_parts(
    results: Path, runs: list[Run], out: Path, prints: bool, unread: list[Unread]
) -> list[dict[str, object]]:
    """Write the tables of every planned suite, with `prints` its figures; return their values for the page.

    Plans that cannot be read, or whose images cannot, are added to `unread`.
    """
    parts = []
    for path in plans(results):
        try:
            suite = load_suite(path, results, runs)
            section = suite_section(suite)
            drawings = list(suite_drawings(suite, results))
        except InputError as error:
            unread.append(Unread(path, str(error).removeprefix(f"{path}: ")))
            continue
        write_section(section, out / "tables")
        pictures = []
        if drawings:
            from .page.suite_figures import suite_pictures

            pictures = suite_pictures(suite.name, drawings)
        if prints:
            for number, drawing in enumerate(drawings, start=1):
                drawing.save(out / "figures" / f"{file_name(suite.name)}-{number}")
        parts.append(page.suite_part(section, pictures))
    return parts


def speed_part(results: Path, unread: list[Unread]) -> dict[str, object] | None:
    """Return the values of `make speed` for the page; a file that cannot be read is added to `unread`."""
    try:
        return speed.part(results)
    except InputError as error:
        path = results / speed.FILE
        unread.append(Unread(path, str(error).removeprefix(f"{path}: ")))
        return None


def find_comparison(results: Path, source: str, target: str, comparison_id: str) -> Comparison:
    """Return one comparison of a results folder.

    Raises:
        InputError: if `results` holds no run of it.
    """
    records = load_records(results)
    known = comparisons(records.runs, records.skipped)
    for comparison in known:
        if comparison.recorded == (source, target, comparison_id):
            return comparison
    names = "; ".join(f"{item.source} → {item.target}, comparison {item.comparison_id}" for item in known)
    raise InputError(
        f"no runs of {source} → {target}, comparison {comparison_id} in '{results}'; there are: {names}"
    )


def write_prints(known: list[Comparison], folder: Path) -> None:
    """Write the figures of every comparison, and of all differences, as PNG, PDF and CSV."""
    from .figures import differences, style
    from .figures.drawing import Drawing

    look = style.styles(run.label for comparison in known for run in comparison.runs)
    for comparison in known:
        for name, drawing in comparison_drawings(comparison, look):
            drawing.save(folder / f"{comparison.slug}-{name}")
    frame = differences_frame(known)
    if not frame.empty:
        Drawing(differences.difference_figure(frame, look), frame).save(folder / "differences")


def differences_frame(known: list[Comparison]) -> "pd.DataFrame":
    """Return every difference from fine-tuning that is known: target, label, points, low, high, claimed."""
    import pandas as pd

    named = places(known)
    found = findings([(item, named[item.slug], comparison_table.comparison_table(item)) for item in known])
    rows = [
        {
            "target": item.place,
            "label": item.label,
            "points": item.difference.points,
            "low": item.difference.low,
            "high": item.difference.high,
            "significant": item.difference.is_significant and item.difference.is_tested,
        }
        for item in found
        if not math.isnan(item.difference.points)
    ]
    return pd.DataFrame(rows)
