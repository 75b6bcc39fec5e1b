"""The results of `make speed` as a table, and a figure of how cost grows.

`python -m transferbench.analysis.speed results/speed.json [growth.png]`
"""

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import InputError
from ..terminal import configure_output
from .tables.formats import to_markdown
from .tables.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "speed.json"  # in a results folder
COLUMNS = ["figure", "measured", "middle half of the rounds", "target", "met"]


def read(path: Path) -> dict[str, Any]:
    """Read the file that pytest-benchmark wrote.

    Raises: InputError for a file that is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read; expected the figures that `make speed` writes") from error


def figures(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of all cases, in their order."""
    return [figure for case in report["benchmarks"] for figure in case["extra_info"].get("figures", ())]


def met(figure: dict[str, Any]) -> bool | None:
    """Return whether a figure meets its target; None without a target."""
    if figure["most"] is None and figure["least"] is None:
        return None
    above = figure["least"] is None or figure["value"] >= figure["least"]
    return above and (figure["most"] is None or figure["value"] <= figure["most"])


def row(figure: dict[str, Any]) -> list[str]:
    """Return a figure as the cells of a table."""
    wanted = [
        f"{word} {number(figure[key], figure['unit'])}"
        for key, word in (("least", "at least"), ("most", "at most"))
        if figure[key] is not None
    ]
    spread = f"{number(figure['low'], '')} to {number(figure['high'], '')}"
    return [
        figure["what"],
        number(figure["value"], figure["unit"]),
        "" if figure["low"] == figure["high"] else spread,
        ", ".join(wanted),
        {True: "yes", False: "no", None: ""}[met(figure)],
    ]


def number(value: float, unit: str) -> str:
    """Return a number with three significant digits, and more of large numbers."""
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return digits if unit in ("x", "") else f"{digits} {unit}"


def machine(report: dict[str, Any]) -> str:
    """Return the machine and the versions of the measurement."""
    info = report["machine_info"]
    parts = [info["cpu"].get("brand_raw", "unknown CPU"), f"{info['cores']} cores", info["device"]]
    versions = [f"{name} {version}" for name, version in info["versions"].items()]
    commit = report["commit_info"].get("id", "unknown")[:10]
    return ", ".join([*parts, *versions, f"commit {commit}", report["datetime"][:10]])


def markdown(report: dict[str, Any]) -> str:
    """Return all figures as a Markdown table, with the machine above it."""
    return f"{machine(report)}\n\n{to_markdown(_table(map(row, figures(report))))}".rstrip()


def _table(rows: Iterable[Sequence[str]]) -> Table:
    """Return the rows of figures as a table."""
    return Table("Cost per step", COLUMNS, [[Cell(text) for text in texts] for texts in rows])


def part(results: Path) -> dict[str, Any] | None:
    """Return the values for the page from a results folder; None without `speed.json`.

    Raises: InputError for a file that is broken, or of another kind.
    """
    if not (results / FILE).exists():
        return None
    report = read(results / FILE)
    try:
        cells, where = [row(figure) for figure in figures(report)], machine(report)
        "".join([where, *chain(*cells)]).encode()  # else the page could not be written
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{results / FILE}: holds no figures of `make speed` ({error!r:.100})") from error
    return {"machine": where, "grid": _table(cells)}


def growth_figure(report: dict[str, Any]) -> "Figure":
    """Draw milliseconds over source classes, actions, images and candidates, one panel each."""
    from matplotlib.figure import Figure

    curves = [case["extra_info"]["curve"] for case in report["benchmarks"] if "curve" in case["extra_info"]]
    figure = Figure(figsize=(3.2 * len(curves), 2.8), layout="constrained")
    for panel, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        x, y = zip(*curve["points"], strict=True)
        panel.plot(x, y, "o-", color="#1d2330")
        panel.set(xscale="log", ylim=(0, 1.2 * max(y)), xlabel=curve["axis"], ylabel="ms")
        panel.set_title(curve["what"], fontsize=9)
        panel.grid(alpha=0.2)
    return figure


def main(argv: Sequence[str]) -> None:
    """Print the table of a file, and draw its curves where a second path is given."""
    configure_output()
    report = read(Path(argv[0]))
    print(markdown(report))
    for picture in argv[1:]:
        growth_figure(report).savefig(picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1:])
