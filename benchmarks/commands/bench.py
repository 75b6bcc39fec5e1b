"""`bench` and `run`: plan the runs, do those without a record, and print the table."""

import os
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ... import InputError
from ...analysis.records.schema import is_done, record_path
from ...analysis.wording import counted, duration
from ...datasets import catalog as datasets
from ...datasets.download import locate
from ...methods import catalog as methods
from ...slurm.cluster import load as load_cluster
from ..config.compose import compose_request, settings_of
from ..config.length import num_training_images
from ..config.resolve import run_config
from ..config.schema import Request, Role, RunConfig
from ..launch import pool
from ..launch.estimate import Estimate, Estimator
from ..launch.limit import check_time, fit, plan_path, read_plan, write_plan
from ..launch.plan import (
    data_sets_of,
    large_batches,
    missing,
    plan_runnable,
    prepare_data,
    row_names,
    run_order,
    why_incompatible,
    without_rows,
)
from ..launch.power import power_line
from ..launch.probe import check_networks
from ..launch.progress import Progress, end_line, name_of
from ..training.problem import device_of
from ..training.record import open_results, write_json
from ..training.tuning import not_used

if TYPE_CHECKING:
    from ...analysis.records.comparison import Comparison


@dataclass(frozen=True)
class Planned:
    """A bench before its first run: what was asked for, and the runs; no estimate for SLURM."""

    overrides: Sequence[str]
    request: Request
    configs: list[RunConfig]
    results: Path
    estimate: Estimate | None


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
    console = Console(highlight=False, soft_wrap=True)
    planned = before_runs(overrides, console, dry_run)
    if dry_run:
        return 0
    if planned.estimate is None:
        return submit(planned, console, only)
    failed = run_missing(planned.configs, planned.results, console, planned.estimate)
    after_runs(planned)
    return _show(planned, failed, console)


def before_runs(overrides: Sequence[str], console: Console, dry_run: bool = False) -> Planned:
    """Check the request, its data and its networks, and print what is to be known before the first run.

    Args:
        overrides: the settings, as `name=value`.
        console: where to print.
        dry_run: download nothing and write nothing; print the runs.

    Raises:
        InputError: the request is invalid, or takes longer than it may.
    """
    wrong = next((o for o in overrides if o.startswith("method=")), "")
    if wrong and not any(o.startswith("methods=") for o in overrides):
        raise InputError(
            f"{wrong}: one method is for `run`; expected methods={wrong.removeprefix('method=')}"
        )
    request, configs = _plan(overrides, console, fetch=not dry_run)
    results, processes = Path(request.results), processes_of(request.on, request.cluster)
    open_results(results, data_sets_of(configs), writes=not dry_run)
    for line in [why_preset(request, overrides, configs[0]), *not_used(overrides, configs[0].tune)]:
        console.print(line, markup=False)
    estimator = None if request.on == "slurm" else estimator_of(configs[0], request.workers, results)
    if estimator is None:
        configs = [replace(c, device="cpu") for c in configs]  # for the checks here; jobs use request.device
    check_networks_of(configs, results, console, processes)
    if request.minutes is not None:
        request, configs = _fitted(request, overrides, configs, estimator, console, dry_run)
    configs, _ = drop_incompatible(configs, results, console, processes, writes=not dry_run)
    prepare_data(configs)
    first = configs[0]
    console.print(f"{first.source_name} -> {first.target_name}: {first.describe()}", markup=False)
    estimate = estimator.of(configs) if estimator else None
    if dry_run:
        show_runs(configs, results, console, estimate)
        console.print(power_line(first, results, request.seeds), markup=False)
    if estimate:
        print_estimate(estimate, console)
        check_time(request, overrides, estimate.total)
    return Planned(overrides, request, configs, results, estimate)


def _plan(overrides: Sequence[str], console: Console, fetch: bool) -> tuple[Request, list[RunConfig]]:
    """Return the request and its runs; print what is left out."""
    request = compose_request([o for o in overrides if not o.startswith("method.")])
    check_place(request.on, request.cluster, request.device)
    _check_data(request, console, fetch)
    print_left_out([request], console)
    configs, left_out = plan_runnable(request, overrides)
    if left_out:
        console.print(f"not run without source images: {', '.join(left_out)} (give source=PATH)")
    return request, configs


def _fitted(
    request: Request,
    overrides: Sequence[str],
    configs: Sequence[RunConfig],
    estimator: Estimator | None,
    console: Console,
    dry_run: bool,
) -> tuple[Request, list[RunConfig]]:
    """Fit a bench to its minutes, as before if the same command was fitted before; print what is cut."""
    minutes = request.minutes
    assert minutes is not None
    if estimator is None:
        raise InputError(f"minutes={minutes:g}: fits a bench to this machine; expected on=local with it")
    path = plan_path(overrides, request, configs)
    settings = read_plan(path)
    said = "as before" if settings is not None else "to fit in"
    if settings is None:
        names = row_names(request)
        settings = fit(minutes, overrides, names, configs, lambda runs: estimator.of(runs).total)
        if not dry_run:
            write_plan(path, overrides, settings)
    cut = " ".join(settings) or "nothing is cut"
    console.print(f"minutes={minutes:g}: {said}: {cut}", markup=False)
    replaced = {o.partition("=")[0] for o in settings}
    given = [*(o for o in overrides if o.partition("=")[0] not in replaced), *settings]
    again = compose_request([o for o in given if not o.startswith("method.")])
    return again, plan_runnable(again, given)[0]


def submit(planned: Planned, console: Console, only: Container[str] | None = None) -> int:
    """Submit the runs without a record to SLURM; return the exit code."""
    from ..launch.on_slurm import queue_missing

    command, request = ["bench", *planned.overrides], planned.request
    return queue_missing(
        planned.configs, planned.results, request.cluster, request.device, command, console, only
    )


def after_runs(planned: Planned) -> None:
    """Write the report, if a run has a record."""
    from ...analysis.report import write_prints, write_report

    done = [folder for c in planned.configs if is_done(folder := c.folder(planned.results))]
    if not done:
        return
    page = page_of(planned.results)
    newest = max(record_path(folder).stat().st_mtime for folder in done)
    if not page.exists() or page.stat().st_mtime < newest:
        write_prints([_comparison(planned)], page.parent / "figures")
        write_report(planned.results, page.parent)


def page_of(results: Path) -> Path:
    """Return the path of the report page of a results folder."""
    return results / "report" / "report.html"


def _comparison(planned: Planned) -> "Comparison":
    """Return the comparison that a bench has filled."""
    from ...analysis.report import find_comparison

    first = planned.configs[0]
    return find_comparison(planned.results, first.source_name, first.target_name, first.comparison_id)


def _show(planned: Planned, failed: Mapping[str, str], console: Console) -> int:
    """Print the table of a bench and the errors of its failed runs; return the exit code."""
    from ...analysis.tables.comparison_table import markdown

    if len(missing(planned.configs, planned.results)) < len(planned.configs):
        console.print()
        console.print(markdown(_comparison(planned)), markup=False)
        console.print(f"\nreport: {page_of(planned.results)}", markup=False)
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


def run_single(overrides: Sequence[str], dry_run: bool = False) -> int:
    """Run one method with one seed, in this process or in all processes that torchrun has started.

    Args:
        overrides: the settings, as `name=value`.
        dry_run: print the run and do nothing.

    Returns:
        The exit code.

    Raises:
        InputError: the request is invalid; no run is started.
    """
    from ...datasets import distributed

    with distributed.process_group():
        return _run_single(overrides, dry_run)


def _run_single(overrides: Sequence[str], dry_run: bool) -> int:
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
    if request.minutes is not None:
        raise InputError(f"minutes={request.minutes:g}: fits a bench, not a run; expected fewer recipe.steps")
    console = Console(highlight=False, soft_wrap=True, quiet=not distributed.is_first())
    _check_data(request, console, fetch=not dry_run)
    print_left_out([request], console)
    config = run_config(request, method, settings_of(method, overrides), request.seed)
    results = Path(request.results)
    distributed.on_first(open_results, results, data_sets_of([config]), not dry_run)
    for line in not_used(overrides, config.tune):
        console.print(line, markup=False)
    check_networks_of([config], results, console, distributed.size())
    prepare_data([config])
    for _, reason in why_incompatible([config], results, distributed.size()).values():
        raise InputError(f"method={method}: cannot run here: {reason}")
    if dry_run or distributed.size() == 1:
        estimate = estimator_of(config, 1, results).of([config])
        if dry_run:
            show_runs([config], results, console, estimate)
        print_estimate(estimate, console)
    if dry_run:
        return 0
    torch.set_num_threads(pool.num_threads(config.threads, config.device, 1))
    run_one(config, results)
    if not distributed.is_first():
        return 0
    console.print(end_line(config, results), markup=False)
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


def estimator_of(config: RunConfig, workers: int, results: Path) -> Estimator:
    """Return the estimator of runs that are like one of them."""
    workers = pool.num_workers(workers, config.device)
    return Estimator(results, workers, pool.num_threads(config.threads, config.device, workers))


def print_estimate(estimate: Estimate, console: Console) -> None:
    """Print how long the runs without a record take, and when they are done."""
    if not estimate.seconds:
        return
    more = f" and {len(estimate.later)} trials of the best candidates" if estimate.later else ""
    ends = datetime.now() + timedelta(seconds=estimate.total)  # noqa: DTZ005  (the clock on the wall)
    console.print(
        f"{counted(len(estimate.todo), 'run')} to do{more}, about {duration(estimate.total)} with "
        f"{counted(estimate.workers, 'worker')}: until {ends:%H:%M}"
    )


def show_runs(
    configs: Sequence[RunConfig], results: Path, console: Console, estimate: Estimate | None = None
) -> None:
    """Print every run with its folder, and whether it is done or its estimated time; trials by method."""
    waiting = run_order(configs, results)
    seconds = estimate.seconds if estimate else {}
    todo = {c.digest for c in waiting}
    for config in {c.digest: c for c in [*waiting, *configs] if c.role is not Role.trial}.values():
        about = f"about {duration(seconds[config.digest])}" if config.digest in seconds else "to do"
        state = about if config.digest in todo else "done"
        console.print(f"{name_of(config):40} {config.folder(results)}  {state}", markup=False)
    if estimate:
        _show_trials([c for c in [*waiting, *estimate.later] if c.role is Role.trial], seconds, console)


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
    configs: Sequence[RunConfig], results: Path, console: Console, processes: int = 1, writes: bool = True
) -> tuple[list[RunConfig], dict[str, str]]:
    """Leave out rows whose method cannot run on the problem; print the reason, and write it for the tables.

    Args:
        configs: the runs.
        results: the results folder.
        console: where to print.
        processes: number of processes that share each run.
        writes: whether to write the reason.

    Returns:
        The runs that are left; the reason of each row that is left out, by `plan.row_of`.

    Raises:
        InputError: no run is left.
    """
    reasons = why_incompatible(configs, results, processes)
    for config, reason in reasons.values():
        label = methods.load(config.method).label(config.settings)
        console.print(f"not run: {label}: {reason}", markup=False)
        if not writes:
            continue
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
    configs: Sequence[RunConfig], results: Path, console: Console, estimate: Estimate
) -> dict[str, str]:
    """Do all runs without a record, pre-trainings first; return the errors of failed runs, by digest."""
    if not estimate.todo:
        console.print(f"all {len(configs)} runs are done")
        return {}
    with Progress(estimate.todo, results, console, estimate) as progress:
        pool.run_all(estimate.todo, results, estimate.workers, progress.report, progress.tick)
    return progress.failed
