"""Choose which models of a comparison stay on the disk, and remove the others."""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from ... import InputError
from ...analysis.choice import choose
from ...analysis.records.comparison import REFERENCE, Comparison
from ...analysis.records.load import Run
from ...analysis.records.schema import is_done
from ...analysis.report import find_comparison
from ...analysis.statistics.paired import EQUAL, mean_interval
from ...datasets.files.atomic import atomic_write
from ..config.schema import Keep, RunConfig
from ..launch.hint import command_hint
from ..training.record import read, write_json
from .best import BEST, BEST_WORD, folder_of
from .card import card
from .files import ABOUT, CARD, FILES, again, has_model, read_about, remove_model


def keep_models(
    configs: Sequence[RunConfig], results: Path, console: Console, found: Comparison | None = None
) -> None:
    """Keep the models of a comparison that `keep` asks for, and print where the recommended one lies.

    `found` is that comparison, where it has been read already. With `keep=best` these are the models of the
    recommended row and of fine-tuning. Other runs of the comparison lose theirs, but none that is still
    without a record.
    """
    first = configs[0]
    if first.keep is Keep.none or not any(is_done(c.folder(results)) for c in configs):
        return
    ids = (first.source_name, first.target_name, first.comparison_id)
    comparison = found or find_comparison(results, *ids)
    taken = choose(comparison).taken
    label = taken.label if taken else ""
    pair = first.folder(results).parents[1]
    kept = {
        row: chosen(comparison.by_label[row])
        for row in dict.fromkeys((label, REFERENCE))
        if row in comparison.by_label
    }
    if first.keep is Keep.best:
        _prune(pair, first.comparison_id, {run.path.parent for run in kept.values() if run})
    for row, run in kept.items():
        if run is None:
            folder = ordered(comparison.by_label[row])[0].path.parent
            console.print(f"no model of {row} is here: {again(folder)}", markup=False)
            continue
        _describe(run, comparison)
        console.print(f"model of {row}, seed {run.seed}: {run.path.parent}", markup=False)
    if best := kept.get(label):
        write_json(pair / BEST, {"run": str(best.path.parent.relative_to(pair)), **_named(best, comparison)})
        is_only = len(list(results.glob(f"*/{BEST}"))) == 1
        name = BEST_WORD if is_only else str(pair)
        console.print(f"predict: {command_hint('predict', results, name, 'PATH')}", markup=False)
        return
    if not label:
        console.print("no row is recommended, so none is `best`", markup=False)
    if not _leads_to_a_model(pair):
        (pair / BEST).unlink(missing_ok=True)


def ordered(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of a row: the one with the median holdout score, then the others by distance from it.

    Without holdout scores, as with `protocol=trainval`, by seed: test scores choose no model.
    """
    score = {run.digest: _holdout(run) for run in runs}
    if any(math.isnan(value) for value in score.values()):
        return sorted(runs, key=lambda run: run.seed)
    ranked = sorted(runs, key=lambda run: (score[run.digest], run.seed))
    median = score[ranked[(len(ranked) - 1) // 2].digest]
    return sorted(runs, key=lambda run: (abs(score[run.digest] - median), run.seed))


def _holdout(run: Run) -> float:
    found = (run.record.get("holdout") or {}).get(run.metric)
    return math.nan if found is None else float(found)


def chosen(runs: Sequence[Run]) -> Run | None:
    """Return the first of the ordered runs whose model is here; None if there is none."""
    return next((run for run in ordered(runs) if has_model(run.path.parent)), None)


def _prune(pair: Path, comparison_id: str, kept: set[Path]) -> None:
    """Remove the models of a comparison's finished runs, except the kept ones."""
    found = {path.parent for name in FILES for path in pair.glob(f"*/*/{name}")}  # of killed processes, too
    for folder in found - kept:
        with suppress(InputError):  # a damaged record is of no known comparison
            if (done := read(folder)) and done["comparison_id"] == comparison_id:
                remove_model(folder)


def _named(run: Run, comparison: Comparison) -> dict[str, Any]:
    """Return the identity of a run, and its row's score over seeds."""
    runs = comparison.by_label[run.label]
    mean, low, high = mean_interval([each.score for each in runs])
    is_known = (
        high - low > EQUAL
    )  # equal scores of all seeds, as of a row without chance, say nothing on its noise
    return {
        "label": run.label,
        "seed": run.seed,
        "digest": run.digest,
        "comparison_id": run.comparison_id,
        "score": {
            "metric": run.metric,
            "test": run.score,
            "holdout": None if math.isnan(_holdout(run)) else _holdout(run),
            "mean": mean,
            "interval": [low, high] if is_known else None,
            "seeds": len(runs),
        },
    }


def _describe(run: Run, comparison: Comparison) -> None:
    """Add the scores to a model's description, and write its card."""
    folder = run.path.parent
    found = {"score": _named(run, comparison)["score"], "choice": run.record.get("choice")}
    about = {**read_about(folder), **found}
    write_json(folder / ABOUT, about)
    with atomic_write(folder / CARD) as draft:
        draft.write_text(card(about, run), encoding="utf-8")


def _leads_to_a_model(pair: Path) -> bool:
    with suppress(InputError):
        return has_model(folder_of(str(pair), pair))
    return False
