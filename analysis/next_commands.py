"""What to do with the row that is taken: the commands for its model."""

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .records.load import Run

RESULTS = "results"  # the folder that commands take if none is named
MODEL, BEST = "model.json", "best.json"  # of a run's folder, and of the folder of its comparison


def next_commands(runs: Sequence[Run]) -> list[str]:
    """Return the commands that use the model of a row, or the one that makes it again."""
    folders = [run.path.parent for run in runs]
    kept = [folder for folder in folders if (folder / MODEL).is_file()]
    if not kept:
        again = _command("reproduce", str(folders[0]), *_places(runs[0]))
        return [f"{again} makes its model again, elsewhere: none is kept here"] if folders[0].is_dir() else []
    folder = next((folder for folder in kept if _is_best(folder)), kept[0])
    return [_command("predict", str(folder), "PATH"), _command("export", str(folder), "to=onnx")]


def in_results(results: Path) -> list[str]:
    """Return the word that names a results folder; none for the one that commands take anyway."""
    return [] if str(results) in (RESULTS, ".") else [f"results={results}"]


def _places(run: Run) -> list[str]:
    """Return what a record does not tell: where the user's own images and weights are."""
    sets = run.record.get("data_sets") or {}
    roles = [role for role in ("target", "source") if (sets.get(role) or {}).get("place")]
    weights = ["checkpoint"] if (run.record["config"].get("checkpoint")) else []
    return [f"{name}=PATH" for name in (*roles, *weights)]


def _is_best(folder: Path) -> bool:
    """Return whether the folder's comparison names it as the run to predict with."""
    place = folder.parents[1]
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return bool(place / json.loads((place / BEST).read_text(encoding="utf-8"))["run"] == folder)
    return False


def _command(*words: str) -> str:
    return f"`{shlex.join(['transferbench', *words])}`"
