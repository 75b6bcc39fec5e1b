"""`bench` and `run`: plan the runs, do those without a record, and print the table."""

import os
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ... import InputError
from ...analysis.records.schema import is_done, record_path
from ...analysis.wording import duration
from ...datasets import catalog as datasets
from ...datasets.download import locate
from ...methods import catalog as methods
from ...slurm.cluster import load as load_cluster
from ..config.compose import compose_request, settings_of
from ..config.length import num_training_images
from ..config.resolve import run_config
from ..config.schema import Request, Role, RunConfig
from ..launch import pool
from ..launch.plan import (
    data_sets_of,
    estimate_seconds,
    large_batches,
    later_trials,
    missing,
    plan_runnable,
    prepare_data,
    run_order,
    why_incompatible,
    without_rows,
)
from ..launch.probe import check_networks
from ..launch.progress import Progress, name_of
from ..model.keep import keep_models
from ..training.problem import device_of
from ..training.record import open_results, write_json
from ..training.tuning import not_used


def bench(overrides: Sequence[str], dry_run: bool = False, only: Container[str] | None = None) -> int:
    """Compare methods.

    Args:
        overrides: the settings, as `name=value`.
        dry_run: print the runs and do none.
        only: digests of the runs that may be submitted to SLURM; None: all.

    Returns:
        The exit code: 1 if a run failed.

    Raises:
        InputError: the request is invalid; no run is started.
    """
    wrong = next((o for o in overrides if o.startswith("method=")), "")
    if wrong and not any(o.startswith("methods=") for o in overrides):
        raise InputError(
            f"{wrong}: one method is for `run`; expected methods={wrong.removeprefix('method=')}"
        )
    console = Console(highlight=False, soft_wrap=True)
    request = compose_request([o for o in overrides if not o.startswith("method.")])
    check_place(request.on, request.cluster, request.device)
    _check_data(request, console, fetch=not dry_run)
    print_left_out([request], console)
    results = Path(request.results)
    configs, left_out = plan_runnable(request, overrides)
    if left_out:
        console.print(f"not run without source images: {', '.join(left_out)} (give source=PATH)")
    processes = processes_of(request.on, request.cluster)
    if not dry_run:
        open_results(results, data_sets_of(configs))
    for line in [why_preset(request, overrides, configs[0]), *not_used(overrides, configs[0].tune)]:
        console.print(line, markup=False)
    if dry_run:
        check_networks_of(configs, results, console, processes)
        from ..launch.power import power_line

        show_runs(configs, results, console)
        console.print(power_line(configs[0], results, request.seeds), markup=False)
        return 0
    if request.on == "slurm":
        configs = [replace(c, device="cpu") for c in configs]  # for the checks here; jobs use request.device
    check_networks_of(configs, results, console, processes)
    configs, _ = drop_incompatible(configs, results, console, processes)
    first = configs[0]
    console.print(f"{first.source_name} -> {first.target_name}: {first.describe()}", markup=False)
    if request.on == "slurm":
        from ..launch.on_slurm import queue_missing

        command = ["bench", *overrides]
        queue_missing(configs, results, request.cluster, request.device, command, console, only)
        if not missing(configs, results):
            keep_models(configs, results, console)
        return 0
    failed = run_missing(configs, results, console, request.workers)
    _show(configs, results, console)
    keep_models(configs, results, console)
    for digest, error in failed.items():
        console.print(f"failed: {digest}: {error}", markup=False)
    return 1 if failed else 0


def why_preset(request: Request, overrides: Sequence[str], config: RunConfig) -> str:
    """Return a line on the preset: why it is used, and the length that it leaves to the number of images."""
    is_given = any(o.startswith("preset=") for o in overrides)
    known = (
        f"the default of {config.target_name}" if datasets.about(request.target) else "the default of a path"
    )
    line = f"preset={request.preset}: {'given' if is_given else known}"
    left = [name for name in ("steps", "batch_size") if getattr(request.recipe, name) == 0]
    if not left:
        return line
    num_images = num_training_images(datasets.load(config.target, draw=config.draw), config.shots)
    chosen = " and ".join(f"recipe.{name}={getattr(config.recipe, name)}" for name in left)
    return f"{line}; {chosen} by its {num_images:,} training images"


def run_single(overrides: Sequence[str]) -> int:
    """Run one method with one seed, in this process or in all processes that torchrun has started.

    Args:
        overrides: the settings, as `name=value`.

    Returns:
        The exit code.

    Raises:
        InputError: the request is invalid; no run is started.
    """
    from ...datasets import distributed

    with distributed.process_group():
        return _run_single(overrides)


def _run_single(overrides: Sequence[str]) -> int:
    import torch

    from ...datasets import distributed
    from ..training.run import run_one

    given = dict(o.partition("=")[::2] for o in overrides)
    method = given.get("method")
    if method is None:
        raise InputError(
            "method: not given; expected method=NAME, as `transferbench run target=digits method=l2tl`"
        )
    if method == "pretrain":
        raise InputError(
            "method=pretrain: source pre-training runs when a method needs it; expected another method, "
            "as method=finetune"
        )
    request = compose_request([o for o in overrides if not o.startswith("method.")])
    check_place(request.on, request.cluster, request.device)
    if request.on != "local":
        raise InputError(
            f"on={request.on}: `run` uses this process; expected on=local, or `bench methods={method}`"
        )
    console = Console(highlight=False, soft_wrap=True, quiet=not distributed.is_first())
    _check_data(request, console)
    print_left_out([request], console)
    config = run_config(request, method, settings_of(method, overrides), request.seed)
    results = Path(request.results)
    distributed.on_first(open_results, results, data_sets_of([config]))
    for line in not_used(overrides, config.tune):
        console.print(line, markup=False)
    check_networks_of([config], results, console, distributed.size())
    prepare_data([config])
    for _, reason in why_incompatible([config], results, distributed.size()).values():
        raise InputError(f"method={method}: cannot run here: {reason}")
    torch.set_num_threads(pool.num_threads(config.threads, config.device, 1))
    run_one(config, results)
    if not distributed.is_first():
        return 0
    with Progress([config], results, console) as progress:
        progress.report(config, None)
    console.print(f"record: {record_path(config.folder(results))}", markup=False)
    return 0


def processes_of(on: str, cluster: str | None) -> int:
    """Return the number of processes that share each run.

    Raises:
        InputError: torchrun started several processes, which only `run` supports.
    """
    if on == "slurm":
        return load_cluster(cluster).processes
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("torchrun: its processes share one run; expected `transferbench run method=NAME`")
    return 1


def check_place(on: str, cluster: str | None, device: str) -> str:
    """Check the place of the runs and return `on`.

    Raises:
        InputError: the place, cluster or device is not known or not here.
    """
    if on not in ("local", "slurm"):
        raise InputError(f"on={on}: not known; known: local, slurm")
    if on == "slurm":
        load_cluster(cluster)
    elif cluster:
        raise InputError(f"cluster={cluster}: not used here; expected on=slurm with it")
    else:
        device_of(device)
    return on


def _check_data(request: Request, console: Console, fetch: bool = True) -> None:
    """Check that target and source are here, or download them; say which is used of two with one name."""
    locate.set_places(request.data.root, request.data.mirror)
    given = _names_of(request)
    say_namesakes(given.items(), console)
    datasets.require(list(given.values()), fetch)


def _names_of(request: Request | RunConfig) -> dict[str, str]:
    """Return the names of the target and, if there is one, of the source, by role."""
    about = datasets.about(request.target)
    source = request.source or (about.source if about else None)
    given = {"target": request.target, "source": source}
    return {role: name for role, name in given.items() if name and name != "none"}


def say_namesakes(given: Iterable[tuple[str, str]], console: Console) -> None:
    """Print a line for each known data set that is also a folder or tar here, given by role and name."""
    lines = [line for role, name in given for line in datasets.namesakes(role, name)]
    for line in dict.fromkeys(lines):
        console.print(line, markup=False)


def print_left_out(of: Sequence[Request | RunConfig], console: Console) -> None:
    """Print which files of targets and sources are not read, each once."""
    wanted = dict.fromkeys((name, name != each.target) for each in of for name in _names_of(each).values())
    found = [line for name, as_source in wanted for line in datasets.load(name, as_source).left_out]
    for line in dict.fromkeys(found):
        console.print(line, markup=False)


def check_networks_of(
    configs: Sequence[RunConfig], results: Path, console: Console, processes: int = 1
) -> None:
    """Take a step with each network of the runs without a record; print notes on its weights and batches.

    Args:
        configs: the runs.
        results: the results folder.
        console: where to print.
        processes: number of processes that share each run.

    Raises:
        InputError: a network cannot be trained.
    """
    waiting = missing(configs, results)
    for note in [*large_batches(waiting), *check_networks(waiting, processes)]:
        console.print(note, markup=False)


def show_runs(configs: Sequence[RunConfig], results: Path, console: Console) -> int:
    """Print every run with its folder, and whether it is done or its estimated time; return the exit code."""
    waiting = run_order(configs, results)
    workers = pool.num_workers(0, "auto")
    threads = pool.num_threads(configs[0].threads, configs[0].device, workers)
    later = later_trials(waiting, results)
    guess = estimate_seconds([*waiting, *later], threads)
    for config in {c.digest: c for c in [*waiting, *configs] if c.role is not Role.trial}.values():
        state = f"about {duration(guess[config.digest])}" if config.digest in guess else "done"
        console.print(f"{name_of(config):40} {config.folder(results)}  {state}", markup=False)
    more = f" and {len(later)} trials of the best candidates" if later else ""
    _show_trials([c for c in [*waiting, *later] if c.role is Role.trial], guess, console)
    console.print(
        f"{len(waiting)} runs to do{more}, about {duration(sum(guess.values()) / workers)} with "
        f"{workers} workers (estimated from one forward pass)"
    )
    return 0


def _show_trials(trials: Sequence[RunConfig], guess: Mapping[str, float], console: Console) -> None:
    """Print a line for the trials of each method."""
    of_method: dict[str, list[RunConfig]] = defaultdict(list)
    for trial in trials:
        of_method[trial.method].append(trial)
    for method, own in of_method.items():
        steps = sum(trial.recipe.steps for trial in own)
        took = duration(sum(guess[trial.digest] for trial in own))
        title = methods.load(method).title
        console.print(f"{title}, {len(own)} trials of {steps:,} steps in all  about {took}", markup=False)


def drop_incompatible(
    configs: Sequence[RunConfig], results: Path, console: Console, processes: int = 1
) -> tuple[list[RunConfig], dict[str, str]]:
    """Leave out rows whose method cannot run on the problem; print the reason, and write it for the tables.

    Args:
        configs: the runs.
        results: the results folder.
        console: where to print.
        processes: number of processes that share each run.

    Returns:
        The runs that are left; the reason of each row that is left out, by `plan.row_of`.

    Raises:
        InputError: no run is left.
    """
    reasons = why_incompatible(configs, results, processes)
    for config, reason in reasons.values():
        label = methods.load(config.method).label(config.settings)
        console.print(f"not run: {label}: {reason}", markup=False)
        folder = config.folder(results).parent
        folder.mkdir(parents=True, exist_ok=True)
        names = {
            "source": config.source_name,
            "target": config.target_name,
            "comparison_id": config.comparison_id,
            "fingerprints": config.data,
            "data_sets": config.data_sets,
        }
        write_json(
            folder / f"skipped-{config.comparison_id}.json", {**names, "label": label, "reason": reason}
        )
    if not (left := without_rows(configs, reasons)):
        raise InputError(f"methods: none can run here: {'; '.join(reason for _, reason in reasons.values())}")
    return left, {row: reason for row, (_, reason) in reasons.items()}


def run_missing(
    configs: Sequence[RunConfig], results: Path, console: Console, workers: int = 0
) -> dict[str, str]:
    """Do all runs without a record, pre-trainings first; return the errors of failed runs, by digest."""
    todo = run_order(configs, results)
    if not todo:
        console.print(f"all {len(configs)} runs are done")
        return {}
    prepare_data(configs)
    workers = pool.num_workers(workers, configs[0].device)
    with Progress(todo, results, console) as progress:
        pool.run_all(todo, results, workers, progress.report, progress.tick)
    return progress.failed


def _show(configs: Sequence[RunConfig], results: Path, console: Console) -> None:
    """Write the report and print the table of this comparison."""
    from ...analysis.report import find_comparison, write_prints, write_report
    from ...analysis.tables.comparison_table import markdown

    first = configs[0]
    if len(missing(configs, results)) == len(configs):
        return
    page = results / "report" / "report.html"
    done = [folder for c in configs if is_done(folder := c.folder(results))]
    newest = max(record_path(folder).stat().st_mtime for folder in done)
    comparison = find_comparison(results, first.source_name, first.target_name, first.comparison_id)
    if not page.exists() or page.stat().st_mtime < newest:
        write_prints([comparison], page.parent / "figures")
        write_report(results, page.parent)
    console.print()
    console.print(markdown(comparison), markup=False)
    console.print(f"\nreport: {page}", markup=False)
