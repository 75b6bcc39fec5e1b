"""Writes the report: tables, figures and one self-contained HTML page."""

import re
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from .. import InputError
from . import tables, words
from .comparison import Comparison, comparisons
from .load import METRICS, Run, curve_frame, load, load_skipped, runs_frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .figures import Style

TEMPLATE = Path(__file__).with_name("template.html")
PDF_METADATA = {"CreationDate": None, "Creator": None, "Producer": None}
SVG_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def write_report(results: Path, out: Path) -> Path:
    """Write tables, figures and `report.html` into `out`; return the page.

    Raises:
        InputError: if `results` holds no run, or a record that cannot be read.
    """
    from . import figures

    runs = load(results)
    look = figures.styles(run.label for run in runs)
    sections = []
    for comparison in comparisons(runs, load_skipped(results)):
        tables.write_table(comparison, out / "tables")
        drawn = draw(comparison, look)
        for kind, (figure, frame) in drawn.items():
            save_figure(figure, frame, out / "figures" / f"{comparison.slug}-{kind}")
        sections.append(section(comparison, {kind: svg(figure) for kind, (figure, _) in drawn.items()}))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = out / "report.html"
    page.write_text(
        template.render(
            sections=sections,
            num_runs=len(runs),
            note=tables.METHOD_NOTE,
            ended=max(run.record["ended"] for run in runs)[:16].replace("T", " "),
        ),
        encoding="utf-8",
    )
    return page


def comparison_markdown(results: Path, source: str, target: str, bench: str) -> str:
    """Return one comparison as Markdown: what the bench command prints at its end.

    Raises:
        InputError: if `results` holds no run of this comparison.
    """
    known = comparisons(load(results), load_skipped(results))
    for comparison in known:
        if (comparison.source, comparison.target, comparison.bench) == (source, target, bench):
            return tables.markdown(comparison)
    names = "; ".join(f"{item.source} → {item.target}, bench {item.bench}" for item in known)
    raise InputError(f"no runs of {source} → {target}, bench {bench} in '{results}'; there are: {names}")


def draw(comparison: Comparison, look: "dict[str, Style]") -> dict[str, tuple["Figure", "pd.DataFrame"]]:
    """Return the figures of one comparison, by kind, each with what it draws."""
    from . import figures

    score_name = METRICS[comparison.metric]
    score_name = score_name[0].upper() + score_name[1:]
    frame, curve = runs_frame(comparison.runs), curve_frame(comparison.runs)
    drawn = {
        "accuracy": (figures.accuracy_figure(frame, look, score_name), frame[["label", "seed", "score"]])
    }
    if not curve.empty:
        drawn["curves"] = (figures.curve_figure(curve, look, score_name), curve)
    return drawn


def save_figure(figure: "Figure", frame: "pd.DataFrame", stem: Path) -> None:
    """Write the figure as PNG and PDF and what it draws as CSV; equal figures give equal files."""
    from matplotlib import rc_context

    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{stem}.png", dpi=150, metadata={"Software": None})
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(f"{stem}.pdf", metadata=PDF_METADATA)
    frame.to_csv(f"{stem}.csv", index=False, lineterminator="\n")


def svg(figure: "Figure") -> str:
    """Return the figure as an SVG element for a page: text stays text, ink and paper are the page's."""
    from matplotlib import rc_context

    from .figures import INK, PAPER

    drawn = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "transferbench"}):
        figure.savefig(drawn, format="svg", metadata=SVG_METADATA, facecolor="none")
    element = drawn.getvalue()
    element = element[element.index("<svg") :].replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r' xmlns(:xlink)?="[^"]*"', "", element)
    return re.sub(r' (width|height)="[\d.]+pt"', "", element, count=2)


def section(comparison: Comparison, pictures: dict[str, str]) -> dict[str, Any]:
    """Return what the page shows of one comparison."""
    table = tables.comparison_table(comparison)
    text = tables.readable(table)
    return {
        "title": tables.title(comparison),
        "slug": comparison.slug,
        "bench": comparison.bench,
        "setting": comparison.setting,
        "columns": list(text.columns),
        "rows": text.to_numpy().tolist(),
        "sentences": tables.sentences(table),
        "notes": comparison.notes,
        "pictures": pictures,
        "runs": [run_row(run) for run in comparison.runs],
    }


def run_row(run: Run) -> dict[str, str]:
    """Return one run as the details list shows it."""
    environment, seconds = run.record["environment"], run.record["seconds"]
    return {
        "method": run.label,
        "seed": str(run.seed),
        "digest": run.digest,
        "score, %": words.number(100 * run.score, decimals=2),
        "training": words.duration(seconds["prepare"] + seconds["step"]),
        "device": f"{environment['device']} on {environment['host']}",
        "commit": environment["commit"][:10] + (" + changes" if environment["dirty"] else ""),
        "ended": run.record["ended"],
    }
