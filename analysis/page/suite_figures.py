"""The figures of suites for the page: those that the paper has as figures, drawn from our runs."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ..figures import class_images, paper, planted
from ..figures.inline_svg import inline_svg
from ..figures.style import Style, styles
from ..records.load import METRICS, curve_frame
from ..records.suites import Cell, Suite
from ..statistics.paired import paired_difference
from ..statistics.ranking import ranking, weights_frame
from .page_tables import Picture, csv_address

COLUMNS = 3  # targets beside each other, at most
PX = 96  # of an inch


def suite_pictures(suite: Suite, results: Path) -> list[Picture]:
    """Return the figures of a suite with the data behind each; none where nothing has run."""
    return [
        _picture(f"{suite.name}-{number}", figure, said, caption, frame)
        for number, (figure, said, caption, frame) in enumerate(_drawn(suite, results), start=1)
    ]


def _drawn(suite: Suite, results: Path) -> Iterator[tuple[Figure, str, str, pd.DataFrame]]:
    """Yield each figure, its words, what stands below it, and its data."""
    look = styles(suite.rows)
    runs = suite.runs
    name = METRICS[runs[0].metric]
    name = name[0].upper() + name[1:]
    if suite.view == "shots":
        frame, differences = _shots(suite), _differences(suite)
        if not frame.empty:
            yield (
                paper.shots_figure(frame, differences, look, name, _columns(frame)),
                paper.shots_alternative(frame, differences, name),
                "Small points are seeds, large ones means, bars 95\N{NO-BREAK SPACE}% intervals.",
                frame,
            )
    elif suite.view == "curves":
        frame = _curves(suite)
        if not frame.empty:
            yield (
                paper.curves_figure(frame, look, name, _columns(frame)),
                paper.curves_alternative(frame, name),
                "Thick lines are means, thin lines seeds; what lies below the later steps is cut off.",
                frame,
            )
    else:
        if suite.view == "planted":
            yield from _planted(suite, look)
        for cell in suite.cells:
            yield from _learned(suite, cell, results)


def _planted(suite: Suite, look: dict[str, Style]) -> Iterator[tuple[Figure, str, str, pd.DataFrame]]:
    """Yield what methods found of a known truth, once uniform weights are there to measure from."""
    frame = planted.planted_frame(suite)
    if frame["points"].notna().any():
        yield (
            planted.planted_figure(frame, look),
            planted.planted_alternative(frame),
            "Bars are 95\N{NO-BREAK SPACE}% intervals over seeds; broken lines are chance, and the oracle.",
            frame,
        )


def _learned(suite: Suite, cell: Cell, results: Path) -> Iterator[tuple[Figure, str, str, pd.DataFrame]]:
    """Yield the weights of the classes that a cell's runs learned, and images of them, if any."""
    weights = weights_frame(cell.runs)
    if len(weights) < 2:
        return
    title = f"{cell.row} on {cell.column}: source classes of the highest and lowest weight, a point a seed."
    numbers = weights.reset_index().melt("class", value_name="weight")
    yield class_images.weights_figure(weights), class_images.weights_alternative(weights), title, numbers
    path = results / "suites" / "pictures" / f"{cell.source}-{cell.target}.json"
    if suite.view == "pictures" and path.exists():
        pictures = class_images.read_pictures(path)
        yield (
            class_images.class_pictures_figure(pictures, weights, columns=COLUMNS),
            class_images.class_pictures_alternative(pictures, weights),
            f"Images of {cell.column}, and of the source classes of the highest and lowest weight.",
            ranking(weights),
        )


def _columns(frame: pd.DataFrame) -> int:
    """Return how many targets to set beside each other so that the rows are as long as each other."""
    num_targets = frame["target"].nunique()
    return math.ceil(num_targets / math.ceil(num_targets / COLUMNS))


def _shots(suite: Suite) -> pd.DataFrame:
    """Return one row a run: target, label, at, seed and score."""
    rows = [
        {"target": cell.column, "label": cell.row, "at": _at(cell), "seed": run.seed, "score": run.score}
        for cell in suite.cells
        for run in cell.runs
    ]
    return pd.DataFrame(rows, columns=["target", "label", "at", "seed", "score"])


def _differences(suite: Suite) -> pd.DataFrame:
    """Return one row a cell that has fine-tuning beside it: by how many points it is above."""
    rows = []
    for cell in suite.cells:
        if cell.runs and cell.reference and not cell.is_reference:
            found = paired_difference(cell.runs, cell.reference)
            rows.append((cell.column, cell.row, _at(cell), found.points, found.low, found.high))
    return pd.DataFrame(rows, columns=["target", "label", "at", "points", "low", "high"])


def _at(cell: Cell) -> int | str:
    """Return how many images a class, or that all are used."""
    return "all" if cell.at in (None, "all") else int(float(cell.at))


def _curves(suite: Suite) -> pd.DataFrame:
    """Return one row a run and step of every cell: target, label, seed, step and score."""
    frames = [
        curve_frame(cell.runs).assign(target=cell.column, label=cell.row) for cell in suite.cells if cell.runs
    ]
    return pd.concat(frames, ignore_index=True)[["target", "label", "seed", "step", "score"]]


def _picture(name: str, figure: Figure, said: str, caption: str, frame: pd.DataFrame) -> Picture:
    """Return a figure for the page; a wide one is scrolled on a phone."""
    width = round(figure.get_figwidth() * PX)
    element = inline_svg(figure, name, said).replace("<svg", f'<svg style="max-width:{width}px"', 1)
    return Picture(element, caption, csv_address(frame), f"{name}.csv", width if width > 500 else 0)
