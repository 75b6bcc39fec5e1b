"""What the run folders say: done, running, failed or lost."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import InputError
from ..analysis.words import duration
from . import claim


def state_of(folder: Path) -> tuple[str, str]:
    """Tell a run's state, and a few words on it."""
    if (folder / "record.json").exists():
        done = json.loads((folder / "record.json").read_text())
        scores = done["test"] or done["holdout"] or {}
        score = scores.get(done["metric"])
        return "done", "" if score is None else f"{100 * score:.1f} %"
    beat = claim.read(folder / "heartbeat")
    if claim.living(folder / "heartbeat") and beat:
        left = "" if beat["seconds_left"] is None else f", {duration(beat['seconds_left'])} left"
        return "running", f"step {beat['step']} of {beat['steps']}{left}"
    if (folder / "error.json").exists():
        return "failed", json.loads((folder / "error.json").read_text())["error"]
    return "lost", "its process is gone; the same command goes on with it"


def status(results: Path) -> int:
    """Print the state of every run. Raises: InputError for a folder without runs."""
    folders = sorted(p.parent for p in results.glob("*/*/*/config.json"))
    if not folders:
        raise InputError(
            f"results={results}: no runs there; `transferbench bench results={results}` makes some"
        )
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None)
    for heading in ("run", "state", ""):
        table.add_column(heading)
    count: dict[str, int] = {}
    for folder in folders:
        state, words = state_of(folder)
        count[state] = count.get(state, 0) + 1
        table.add_row(str(folder.relative_to(results)), state, words)
    console.print(table)
    console.print(", ".join(f"{n} {state}" for state, n in sorted(count.items())))
    return 0
