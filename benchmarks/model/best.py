"""The run that a comparison recommends: `best.json` beside its runs names it."""

import json
from pathlib import Path

from ... import InputError

BEST = "best.json"
BEST_WORD = "best"  # stands for the run that the only such file names


def folder_of(run: str, results: Path) -> Path:
    """Return the folder of a model.

    Args:
        run: `best`, a folder with a `best.json`, or a run's folder.
        results: the results folder, for `best`.

    Raises:
        InputError: there is no such run, or several are the best of something.
    """
    if run != BEST_WORD:
        folder = Path(run)
        return _named(folder / BEST) if (folder / BEST).is_file() else folder
    if not results.is_dir():
        raise InputError(f"results={results}: no such folder; expected the results folder of a comparison")
    found = sorted(results.glob(f"*/{BEST}"))
    if not found:
        raise InputError(
            f"best: no {BEST} in {results}; `transferbench bench` with keep=best or keep=all writes it, and "
            "`transferbench reproduce RUN` makes the model of a finished run again"
        )
    if len(found) > 1:
        places = ", ".join(str(path.parent) for path in found)
        raise InputError(f"best: {results} has {len(found)} of them; expected one of {places}")
    return _named(found[0])


def _named(path: Path) -> Path:
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["run"]
        folder = path.parent / name
        inside = folder.resolve().is_relative_to(path.parent.resolve())
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); repeat the comparison") from error
    if not inside:
        raise InputError(f"{path}: names {name!r:.80}, which is not beside it; repeat the comparison")
    return folder
