"""What a comparison consists of: rows x seeds, the runs they rest on first, and what it may cost."""

import time
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ...datasets import catalog as datasets
from ...methods import catalog as methods
from ...methods.networks.network import Network
from ..config.compose import rows, suite_rows
from ..config.resolve import run_config
from ..config.schema import Request, RunConfig
from ..training.problem import check_target, pose
from ..training.run import requirements


def plan(request: Request, overrides: Sequence[str]) -> list[RunConfig]:
    """List the runs of a comparison, seed by seed.

    Raises: InputError for anything in the request that cannot be run.
    """
    check_target(datasets.load(request.target))
    chosen = rows(request, overrides)
    return [
        run_config(request, method, settings, seed)
        for seed in range(request.seeds)
        for method, settings in chosen
    ]


def plan_runnable(request: Request, overrides: Sequence[str]) -> tuple[list[RunConfig], list[str]]:
    """Plan, but without a source leave out of the default rows what needs one; gives their names too."""
    if request.methods or request.source != "none":
        return plan(request, overrides), []
    has_weights = request.pretrained or request.checkpoint is not None
    keep: list[str] = []
    out: list[str] = []
    for name, row in suite_rows().items():
        cls = methods.load(row["method"])
        runs = not cls.needs_source and (has_weights or not cls.uses_pretraining)
        (keep if runs else out).append(name)
    return plan(replace(request, methods=",".join(keep)), overrides), out


def why_incompatible(
    configs: Sequence[RunConfig], results: Path, processes: int = 1
) -> dict[str, tuple[RunConfig, str]]:
    """Ask each method that has something to do whether it can run on the problem, by so many processes.

    Returns: the first run and the reason of every row that cannot, by `row_of`.
    """
    reasons = {}
    for config in {row_of(c): c for c in reversed(missing(configs, results))}.values():
        posed = pose(config, load_weights=lambda net: None, pretrain=lambda *a, **k: None, controls=None)
        if reason := _unsplit(config, processes) or methods.load(config.method).why_incompatible(
            posed.problem
        ):
            reasons[row_of(config)] = (config, reason)
    return reasons


def _unsplit(config: RunConfig, processes: int) -> str:
    """Say why the batches of a run cannot be split among processes; empty where they can."""
    if processes > 1 and not methods.load(config.method).data_parallel:
        return f"its batches cannot be split over {processes} processes"
    if processes > 1 and config.recipe.compile:
        return f"recipe.compile=true is for one process, and here are {processes}"
    for name in ("recipe", "source_recipe"):
        size = getattr(config, name).batch_size
        if size % processes:
            return f"{name}.batch_size={size} is no multiple of {processes} processes"
    return ""


def images_of(configs: Sequence[RunConfig]) -> set[str]:
    """Give the names or places of all data sets that runs read."""
    return {place for c in configs for place in (c.source, c.target)}


def without(configs: Sequence[RunConfig], rows_out: Container[str]) -> list[RunConfig]:
    """Leave out the runs of some rows."""
    return [c for c in configs if row_of(c) not in rows_out]


def row_of(config: RunConfig) -> str:
    """Name what is equal in the runs of one row of one comparison."""
    return f"{config.comparison_id} {config.method} {config.settings}"


def in_order(configs: Sequence[RunConfig], results: Path) -> list[RunConfig]:
    """List what has no record yet: shared pre-trainings, what needs none, trials, the others seed by seed.

    The dearest row of a seed comes first, so that no worker has long to do when the others have ended. A run
    that is begun before what it rests on has ended waits for it.
    """
    waiting = missing(configs, results)
    needed = [r for c in waiting for r in requirements(c)]
    free = [c for c in waiting if not requirements(c)]
    first = [r for r in needed if r.method == "pretrain"] + free
    second = [r for r in needed if r.method != "pretrain"]
    return missing([*first, *second, *sorted(waiting, key=lambda c: (c.seed, -_num_passes(c)))], results)


def missing(configs: Sequence[RunConfig], results: Path) -> list[RunConfig]:
    """Keep each configuration that has no record, once."""
    unique = {c.digest: c for c in configs}
    return [c for c in unique.values() if not (c.folder(results) / "record.json").exists()]


def prepare_data(configs: Sequence[RunConfig]) -> None:
    """Decode what the runs will read, before they fight over it, and build the network once.

    Raises: InputError for an image that cannot be read, too few images for the shots, an unknown
        backbone, or weights that do not fit.
    """
    by_problem = {(c.comparison_id, c.seed): c for c in configs}
    for config in by_problem.values():
        posed = pose(config, load_weights=lambda net: None, pretrain=lambda *a, **k: None, controls=None)
    posed.problem.network()


def estimate_seconds(configs: Sequence[RunConfig], threads: int) -> dict[str, float]:
    """Guess the seconds of each run: a forward pass is timed."""
    torch.set_num_threads(threads)
    per_image: dict[tuple[str, int], float] = {}
    guess = {}
    for c in configs:
        network = (c.backbone, c.recipe.image_size)
        if network not in per_image:
            per_image[network] = _forward_seconds(c)
        guess[c.digest] = _num_passes(c) * per_image[network]
    return guess


def _num_passes(config: RunConfig) -> int:
    """Count the forward passes of images in a run: a trained image counts three."""
    method, source = methods.load(config.method), config.source_recipe
    trained, judged = method.images_per_step(config.settings, config.recipe.batch_size)
    before = 3 * source.batch_size * source.steps if method.pretrains else 0
    return before + (3 * trained + judged) * config.recipe.steps


def _forward_seconds(config: RunConfig) -> float:
    """Time the forward pass of one batch, an image."""
    posed = pose(config, load_weights=lambda net: None, pretrain=lambda *a, **k: None, controls=None)
    net = posed.problem.network(pretrained=False)
    count = min(config.recipe.batch_size, 64)
    size = config.recipe.image_size
    x = torch.randn(count, 3, size, size, device=posed.problem.device)
    with torch.no_grad():
        return min(_seconds(net, x) for _ in range(5)) / count  # the first warms up, others may be disturbed


def _seconds(net: Network, x: torch.Tensor) -> float:
    begin = time.perf_counter()
    net.features(x).sum().item()
    return time.perf_counter() - begin
