"""What `bench`, `run` and `suite` share: checks, lines on what will run, and the runs."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from ... import InputError
from ...analysis.wording import counted, duration
from ...datasets import catalog as datasets
from ...datasets.download import locate
from ...datasets.reading.balance import balance_line
from ...methods import catalog as methods
from ...methods.base import Method
from ...methods.networks.encoders import has_batch_norms
from ...methods.recipe import TARGET_ONLY, num_parts
from ...slurm.cluster import load as load_cluster
from ..config.compose import about_given
from ..config.schema import Norms, Request, Role, RunConfig, load_target
from ..training.problem import device_of
from ..training.record import check_writable, read, write_json
from . import memory, pool
from .estimate import Estimate, Estimator
from .plan import large_batches, missing, prepare_data, run_order, why_incompatible, without_rows
from .probe import check_networks
from .progress import Progress, name_of


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


def check_data(request: Request, console: Console, fetch: bool = True) -> None:
    """Check that target and source are here, or download them; say which is used of two with one name."""
    locate.set_places(request.data.root, request.data.mirror)
    given = _names_of(request)
    for role, name in given.items():
        about_given(role, name)
    if len(given) == 2 and _is_one(*given.values()):
        raise InputError(
            f"source={given['source']}: these are the target's images; expected others, or source=none"
        )
    say_namesakes(given.items(), console)
    datasets.require(list(given.values()), fetch)


def _is_one(name: str, other: str) -> bool:
    """Return whether two names of data sets are one, or two paths of one place."""
    if not (datasets.is_own(name) and datasets.is_own(other)):
        return name == other
    return Path(name).resolve() == Path(other).resolve()


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
    """Print once which files are not read, and how many images the classes of a user's target have."""
    found: list[str] = []
    for each in of:
        for role, name in _names_of(each).items():
            data = load_target(each) if role == "target" else datasets.load(name, as_source=True)
            found += data.left_out
            found += [balance_line(data)] if role == "target" and datasets.is_own(name) else []
    for line in dict.fromkeys(found):
        console.print(line, markup=False)


def without_effect(configs: Sequence[RunConfig]) -> list[str]:
    """Return a line for each setting that has no effect on a method, or another one on the network."""
    lines: dict[str, None] = {}
    for config in configs:
        if config.bn is not Norms.split and not has_batch_norms(config.backbone, config.backbone_options):
            lines[f"bn={config.bn}: no effect on {config.backbone}, which has no batch norms"] = None
        size = config.recipe.micro_batch
        if num_parts(config.recipe.batch_size, size) > 1 and memory.norms_learn(config):
            sees = f"batch norms of {config.backbone} see at most {size} images at a time, and results differ"
            lines[f"recipe.micro_batch={size}: {sees}; bn=frozen keeps them out of it"] = None
        method = methods.load(config.method)
        for name, default in TARGET_ONLY.items():
            value = getattr(config.recipe, name)
            if value != default and (reason := _why_no_effect(method, name)):
                lines[f"recipe.{name}={value}: no effect on {method.title}, which {reason}"] = None
    return list(lines)


def _why_no_effect(method: type[Method[Any]], name: str) -> str:
    """Return why a setting of training on the target does not change a method; empty if it does."""
    if name == "class_weights":
        return "" if method.weighs_classes else "has no loss"
    if name == "ema" and method.averages_weights:
        return "averages weights itself"
    return "is not trained by steps" if method.closed_form else ""


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


def prepare_missing(configs: Sequence[RunConfig], results: Path, writes: bool = True) -> None:
    """Check that runs without a record have a place, if one is written, and prepare their data.

    Raises:
        InputError: the folder is read-only, or a data set cannot be read.
    """
    todo = missing(configs, results)
    if todo and writes:
        check_writable(results)
    prepare_data(todo)


def check_records(configs: Sequence[RunConfig], results: Path) -> None:
    """Read the records of the runs that are done: their own errors come before those of a table.

    Raises:
        InputError: records are damaged or of a newer version; names them all.
    """
    wrong = []
    for config in configs:
        try:
            read(config.folder(results))
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("; ".join(wrong))


def say_memory(
    configs: Sequence[RunConfig], results: Path, console: Console, workers: int, dry_run: bool = False
) -> None:
    """Print what memory a step of each row takes, for a dry run, and which rows need more than a GPU has.

    Shared pre-trainings are rows, too.

    Args:
        configs: the runs.
        results: the results folder; rows that are done are left out.
        console: where to print.
        workers: runs at a time.
        dry_run: say it of a CPU, too.
    """
    device = device_of(configs[0].device)
    if not missing(configs, results) or not (dry_run or device.type == "cuda"):
        return
    found = memory.by_row([c for c in run_order(configs, results) if c.role is not Role.trial])
    if dry_run and found:
        console.print(memory.memory_line(found), markup=False)
    if device.type == "cuda":
        free, gpus = memory.free_gpu(configs[0].device)
        if line := memory.too_large(found, free, -(-workers // gpus)):
            console.print(line, markup=False)


def estimator_of(config: RunConfig, workers: int, results: Path) -> Estimator:
    """Return the estimator of runs that are like one of them."""
    workers = pool.num_workers(workers, config.device)
    return Estimator(results, workers, pool.num_threads(config.threads, config.device, workers))


def print_estimate(estimate: Estimate, console: Console, num_runs: int) -> None:
    """Print how long the runs without a record take, and when they are done; `num_runs`: those asked for."""
    if not estimate.todo:
        console.print("the run is done" if num_runs == 1 else f"all {num_runs} runs are done")
        return
    more = f" and {len(estimate.later)} trials of the best candidates" if estimate.later else ""
    ends = datetime.now() + timedelta(seconds=estimate.total)  # noqa: DTZ005  (the clock on the wall)
    console.print(
        f"{counted(len(estimate.todo), 'run')} to do{more}, about {duration(estimate.total)} with "
        f"{counted(estimate.workers, 'worker')}: until {ends:%H:%M}"
    )
    if any(config.recipe.compile for config in estimate.todo):
        console.print("recipe.compile=true: a minute or more a run comes on top, to compile")


def show_runs(
    configs: Sequence[RunConfig], results: Path, console: Console, estimate: Estimate | None = None
) -> None:
    """Print every run with its folder, and whether it is done or its estimated time; trials by method."""
    waiting = estimate.todo if estimate else run_order(configs, results)
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
    left = without_rows(configs, reasons)
    if not left:
        words = (f"{c.method} cannot run here: {reason}" for c, reason in reasons.values())
        raise InputError(f"methods: {'; '.join(words)}")
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
    return left, {row: reason for row, (_, reason) in reasons.items()}


def run_missing(
    configs: Sequence[RunConfig], results: Path, console: Console, estimate: Estimate
) -> dict[str, str]:
    """Do all runs without a record, pre-trainings first; return the errors of failed runs, by digest."""
    if not estimate.todo:
        return {}
    with Progress(configs, results, console, estimate) as progress:
        pool.run_all(estimate.todo, results, estimate.workers, progress.report, progress.tick)
    return progress.failed
