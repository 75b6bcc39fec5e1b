"""Plan a comparison: its runs (rows x seeds), and their order."""

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...analysis.records.schema import is_done
from ...methods import catalog as methods
from ...methods.base import Method
from ...methods.recipe import SOFTENING
from ...user_text import one_form
from ..config.compose import rows, suite_rows
from ..config.resolve import run_config
from ..config.schema import Protocol, Request, RunConfig, load_target
from ..training.problem import build_problem, check_target
from ..training.run import first_stage, requirements
from ..training.tuning import KEPT, last_round
from .probe import try_method


def plan(request: Request, overrides: Sequence[str]) -> list[RunConfig]:
    """Return the runs of a comparison, seed by seed.

    Args:
        request: the request.
        overrides: the settings it was composed from.

    Raises:
        InputError: the target cannot be classified, or a method lacks source images or weights.
    """
    check_target(load_target(request))
    chosen = rows(request, overrides)
    return [
        run_config(request, method, settings, seed)
        for seed in range(request.seeds)
        for method, settings in chosen
    ]


def plan_runnable(request: Request, overrides: Sequence[str]) -> tuple[list[RunConfig], list[str]]:
    """Plan a comparison; with `source=none`, leave out default rows that need a source.

    Returns:
        The runs, and the names of the rows that are left out.
    """
    if request.methods:
        return plan(request, overrides), []
    keep = row_names(request)
    out = [name for name in suite_rows() if name not in keep]
    return plan(replace(request, methods=",".join(keep)), overrides), out


def row_names(request: Request) -> list[str]:
    """Return the names of the rows of a comparison; default rows are those that run with its source."""
    if request.methods:
        return one_form(request.methods).split(",")
    has_weights = request.pretrained or request.checkpoint is not None

    def runs(method: type[Method[Any]]) -> bool:
        return not method.needs_source and (has_weights or not method.uses_pretraining)

    return [
        name
        for name, row in suite_rows().items()
        if request.source != "none" or runs(methods.load(row["method"]))
    ]


def why_incompatible(
    configs: Sequence[RunConfig], results: Path, processes: int = 1
) -> dict[str, tuple[RunConfig, str]]:
    """Find the rows whose method cannot run on its problem, and build the methods of the others, once a row.

    Rows that are done are not checked.

    Args:
        configs: the runs.
        results: the results folder.
        processes: number of processes that share each run.

    Returns:
        The first run and the reason of every incompatible row, by `row_of`.

    Raises:
        InputError: a setting of a method does not fit the network or the images.
    """
    reasons = {}
    for config in {row_of(c): c for c in reversed(missing(configs, results))}.values():
        problem = build_problem(first_stage(config) or config).problem
        method = methods.load(config.method)
        general = (
            _why_not_data_parallel(config, processes)
            or _why_not_soft(config)
            or _why_not_in_parts(config)
            or _why_no_graphs(config)
        )
        if reason := general or method.why_incompatible(problem) or try_method(config, problem):
            reasons[row_of(config)] = (config, reason)
    return reasons


def _why_not_data_parallel(config: RunConfig, processes: int) -> str:
    """Return why the batches of a run cannot be split among processes; empty if they can."""
    if processes > 1 and not methods.load(config.method).data_parallel:
        return f"its batches cannot be split over {processes} processes"
    if processes > 1 and config.recipe.compile:
        return f"recipe.compile=true supports one process; there are {processes}"
    recipe = config.recipe
    sizes = {"recipe.batch_size": recipe.batch_size}
    if methods.load(config.method).needs_source:
        sizes["recipe.source_batch_size"] = recipe.source_size
    sizes["source_recipe.batch_size"] = config.source_recipe.batch_size
    for name, size in sizes.items():
        if size % processes:
            return f"{name}={size} is not a multiple of {processes} processes"
    if processes > 1 and (recipe.mixup or recipe.cutmix) and recipe.batch_size // processes % 2:
        return f"recipe.batch_size={recipe.batch_size} on {processes} processes gives no pairs to mix"
    return ""


def _why_not_soft(config: RunConfig) -> str:
    """Return why a method cannot train on class probabilities; empty if it can, or labels are classes."""
    given = [f"recipe.{name}" for name in SOFTENING if getattr(config.recipe, name)]
    if not given or methods.load(config.method).takes_soft_labels:
        return ""
    return f"it needs the class of each training image, and {given[0]} makes labels probabilities"


def _why_not_in_parts(config: RunConfig) -> str:
    """Return why a method cannot train on parts of a batch; empty if it can, or batches are whole."""
    size, method = config.recipe.micro_batch, methods.load(config.method)
    if not size or method.trains_in_parts or method.closed_form:
        return ""
    return f"it needs whole batches, and recipe.micro_batch={size} splits them; expected 0"


def _why_no_graphs(config: RunConfig) -> str:
    """Return why the kernels of a run cannot be captured in CUDA graphs; empty if they can, or need not."""
    method = methods.load(config.method)
    if not config.recipe.cuda_graphs or method.closed_form or method.trains_in_parts:
        return ""
    return "it takes several passes a step, and recipe.cuda_graphs=true captures one; expected false"


def data_sets_of(configs: Sequence[RunConfig]) -> set[str]:
    """Return the names or paths of all data sets that runs read."""
    return {place for c in configs for place in (c.source, c.target)}


def large_batches(configs: Sequence[RunConfig]) -> list[str]:
    """Return a note for each target that has fewer training images than a batch."""
    notes: dict[str, None] = {}
    for config in configs:
        parts = ("train", "holdout") if config.protocol is Protocol.trainval else ("train",)
        num_images = sum(num_labels(config, part) for part in parts)
        if (size := config.recipe.batch_size) > num_images:
            times = f"{size / num_images:.1f} times"
            of = f"the {num_images} training images of {config.target_name}"
            notes[f"recipe.batch_size={size}: each step reads {of} {times}"] = None
    return list(notes)


def num_labels(config: RunConfig, part: str) -> int:
    """Return the number of labeled images that a run has of the `train` or `holdout` part of its target."""
    target = load_target(config)
    shots = config.drawn[part]
    whole = len(target.part(part).labels)
    return min(whole, shots * len(target.classes)) if shots else whole


def without_rows(configs: Sequence[RunConfig], rows_out: Container[str]) -> list[RunConfig]:
    """Return the runs that belong to none of some rows, each named by `row_of`."""
    return [c for c in configs if row_of(c) not in rows_out]


def row_of(config: RunConfig) -> str:
    """Return a key that is equal for all runs of one row of one comparison."""
    return f"{config.comparison_id} {config.method} {config.settings}"


def run_order(configs: Sequence[RunConfig], results: Path) -> list[RunConfig]:
    """Return all runs without a record, in the order in which they should start.

    Order: shared pre-trainings, runs that require no other run, trials, all others seed by seed. Within a
    seed the most expensive row comes first, to keep all workers busy until the end. A run that starts
    before its requirements are done waits for them.
    """
    waiting = missing(configs, results)
    needed = [r for c in waiting for r in requirements(c)]
    free = [c for c in waiting if not requirements(c)]
    first = [r for r in needed if r.method == "pretrain"] + free
    second = [r for r in needed if r.method != "pretrain"]
    return missing([*first, *second, *sorted(waiting, key=lambda c: (c.seed, -_num_passes(c)))], results)


def later_trials(configs: Sequence[RunConfig], results: Path) -> list[RunConfig]:
    """Return as many trials as the last round of each row's tuning still needs, with its steps.

    Which of the candidates go on is known only after the first round; those that have begun are among them.
    """
    known = {c.digest for c in configs}
    later = []
    for of_candidates in {row_of(c): last_round(c) for c in configs}.values():
        begun_first = sorted(of_candidates, key=lambda own: len(missing(own, results)))
        later += [trial for own in begun_first[:KEPT] for trial in own]
    return [trial for trial in missing(later, results) if trial.digest not in known]


def missing(configs: Sequence[RunConfig], results: Path) -> list[RunConfig]:
    """Return the runs without a record, each once."""
    unique = {c.digest: c for c in configs}
    return [c for c in unique.values() if not is_done(c.folder(results))]


def prepare_data(configs: Sequence[RunConfig]) -> None:
    """Decode the images of all runs into the cache; a GPU is left to the workers.

    Raises:
        InputError: an image cannot be read, or a class has fewer images than the shots.
    """
    for config in {(c.comparison_id, c.seed): c for c in configs}.values():
        build_problem(replace(config, device="cpu"))


def _num_passes(config: RunConfig) -> int:
    """Return the number of forward passes of single images in a run; a trained image counts as three."""
    method, source = methods.load(config.method), config.source_recipe
    if method.closed_form:
        return sum(num_labels(config, part) for part in ("train", "holdout"))
    trained, judged = method.images_per_step(config.settings, config.recipe)
    before = 3 * source.batch_size * source.steps if method.pretrains else 0
    stages = 2 if first_stage(config) else 1
    return before + (3 * trained + judged) * config.recipe.steps * stages
