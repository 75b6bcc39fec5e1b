"""`screen`: score backbones and sources on the labeled images of a target, before anything is trained."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Grid

from ...analysis.figures.screening import screening_drawing
from ...analysis.records.load import METRICS, load_any
from ...analysis.records.screens import folder_of, told_apart
from ...analysis.screening import CLOSE, FITTED, SCORES, encoder_table, ranked, source_table
from ...analysis.screening_agreement import agreement_lines, agreements
from ...analysis.tables.table import Table
from ...analysis.wording import duration
from ...datasets import catalog as datasets
from ...datasets.download import locate
from ..launch import pool
from ..launch.probe import check_networks
from ..launch.start import say_namesakes
from ..screening.candidates import Candidate, check_classes, screening_of
from ..screening.record import encoder_scored, pair_scored, waits
from ..training.problem import device_of
from ..training.record import open_results

ENCODER_TITLES = {**FITTED, **{name: title for name, (title, _) in SCORES.items()}}
SOURCE_TITLES = {name: title for name, (title, _, _) in CLOSE.items()}
UP = dict.fromkeys(ENCODER_TITLES, True)
CLOSER = {name: up for name, (_, _, up) in CLOSE.items()}
WIDTH = 240  # characters, when the output goes into a file or a pipe


def screen(overrides: Sequence[str]) -> int:
    """Score backbones and sources on the labeled images of a target; return the exit code.

    Args:
        overrides: the settings, as `name=value`.

    Raises:
        InputError: the request is invalid; nothing is scored.
    """
    asked = screening_of(overrides)
    request, results = asked.request, Path(asked.request.results)
    console = Console(highlight=False, soft_wrap=True)
    device_of(request.device)
    locate.set_places(request.data.root, request.data.mirror)
    say_namesakes([("target", request.target), *(("sources", s) for s in asked.data[1:])], console)
    datasets.require(asked.data)
    check_classes(asked)
    open_results(results, asked.data)
    torch.set_num_threads(pool.num_threads(request.threads, request.device, 1))
    encoders, pairs = asked.encoders(), asked.pairs()
    for candidate in [c for c in encoders if waits(c, results)]:
        encoders.remove(candidate)
        console.print(f"left out: {candidate.label}: a bench has to pre-train it first", markup=False)
    check_networks([candidate.config for candidate in encoders])
    of_encoders = _each(encoders, lambda c: encoder_scored(c, results), console)
    of_pairs = _each(pairs, lambda c: pair_scored(c, results, asked.source_images), console)
    _show(encoder_table(of_encoders), console)
    if of_pairs:
        _show(source_table(of_pairs), console)
    runs = load_any(results)
    for line in [
        *agreement_lines(agreements(of_encoders, runs, UP), ENCODER_TITLES, "backbones"),
        *agreement_lines(agreements(of_pairs, runs, CLOSER), SOURCE_TITLES, "sources"),
    ]:
        console.print(line, markup=False)
    ranking = ranked(of_encoders)
    stem = folder_of(results) / f"ranking-{encoders[0].config.target_name}"
    screening_drawing(ranking, METRICS[ranking[0].screen["metric"]]).save(stem)
    console.print(f"figure: {stem}.png", markup=False)
    place = next(i for i, scores in enumerate(of_encoders) if scores is ranking[0].screen)
    rest = [word for word in asked.rest if not word.startswith("seed=")]
    command = shlex.join(["transferbench", "bench", *rest, *encoders[place].bench_settings])
    console.print(f"measure the best: {command}", markup=False)
    return 0


def _each(
    candidates: Sequence[Candidate], score: Callable[[Candidate], dict[str, Any]], console: Console
) -> list[dict[str, Any]]:
    """Return the scores of each candidate; print a line as each is done."""
    found = []
    for candidate in candidates:
        found.append(score(candidate))
        of = f" with {candidate.config.source_name}" if found[-1]["kind"] == "source" else ""
        console.print(f"{candidate.label}{of}: {duration(found[-1]['seconds']['whole'])}", markup=False)
    return told_apart(found)


def _show(table: Table, console: Console) -> None:
    """Print a table; a pipe gets it without line breaks in its rows."""
    grid = Grid(box=None, title=table.title, title_justify="left", title_style="bold")
    for index, name in enumerate(table.columns):
        grid.add_column(name, justify="left" if index < 2 else "right")
    for row in table.rows:
        grid.add_row(*(cell.text for cell in row))
    console.print()
    Console(highlight=False, width=None if console.is_terminal else WIDTH).print(grid, markup=False)
