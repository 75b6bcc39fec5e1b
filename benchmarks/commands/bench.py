"""`bench`: plan the runs, do those without a record, and print the table."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ... import InputError
from ...analysis.page_path import page_of
from ...analysis.records.schema import is_done, record_path
from ...datasets import catalog as datasets
from ...methods import catalog as methods
from ..config.compose import compose_request
from ..config.length import num_training_images
from ..config.schema import Request, RunConfig, load_target
from ..launch.estimate import Estimate, Estimator
from ..launch.hint import command_hint
from ..launch.limit import check_time, fit, plan_path, read_plan, write_plan
from ..launch.opening import compared_line, page_line, queue_line
from ..launch.plan import (
    data_sets_of,
    missing,
    plan_runnable,
    row_names,
)
from ..launch.start import (
    check_data,
    check_networks_of,
    check_place,
    check_records,
    drop_incompatible,
    estimator_of,
    prepare_missing,
    print_estimate,
    print_left_out,
    processes_of,
    run_missing,
    say_memory,
    show_runs,
    without_effect,
)
from ..training.problem import check_graphs, device_of
from ..training.record import is_writable, open_results
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
    writes = is_writable(planned.results)
    if writes:
        after_runs(planned)
    else:
        kept = "the page and the kept models stay as they are"
        console.print(f"results={planned.results}: read-only; {kept}", markup=False)
    some_are_done = len(missing(planned.configs, planned.results)) < len(planned.configs)
    comparison = _comparison(planned) if some_are_done else None
    _show(planned, comparison, failed, console)
    if writes:
        _keep(planned, console, comparison)
    if comparison:
        shown = {run.digest for run in comparison.runs}
        check_records([c for c in planned.configs if c.digest not in shown], planned.results)
    return 1 if failed else 0


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
    if wrong := next((o for o in overrides if o.startswith("seed=")), ""):
        raise InputError(f"{wrong}: a bench runs the seeds from 0 on; expected seeds=NUMBER of them")
    noted = StringIO()  # is printed after the first lines
    notes = Console(file=noted, highlight=False, soft_wrap=True, force_jupyter=False, force_terminal=False)
    try:
        return _before_runs(overrides, console, notes, dry_run)
    finally:
        console.print(noted.getvalue(), end="", markup=False, soft_wrap=not console.is_terminal)


def _before_runs(overrides: Sequence[str], console: Console, notes: Console, dry_run: bool) -> Planned:
    request, configs = _plan(overrides, notes, fetch=not dry_run)
    results, processes = Path(request.results), processes_of(request.on, request.cluster)
    open_results(results, data_sets_of(configs), writes=not dry_run)
    console.print(compared_line(request, configs), markup=False)
    console.print(page_line(results), markup=False)
    said = [why_preset(request, overrides, configs[0]), *not_used(overrides, configs)]
    for line in [*said, *without_effect(configs)]:
        notes.print(line, markup=False)
    estimator = None if request.on == "slurm" else estimator_of(configs[0], request.workers, results)
    if estimator is None:
        configs = [replace(c, device="cpu") for c in configs]  # for the checks here; jobs use request.device
    check_networks_of(configs, results, notes, processes)
    if request.minutes is not None:
        request, configs = _fitted(request, overrides, configs, estimator, notes, dry_run)
    configs, _ = drop_incompatible(configs, results, notes, processes, writes=not dry_run)
    if missing(configs, results):  # before they run, since no table would follow
        check_records(configs, results)
    prepare_missing(configs, results, writes=not dry_run)
    first = configs[0]
    notes.print(f"{first.source_name} -> {first.target_name}: {first.describe()}", markup=False)
    if dry_run or estimator:
        say_memory(configs, results, notes, estimator.workers if estimator else 1, dry_run)
    estimate = estimator.of(configs) if estimator else None
    if estimate:
        print_estimate(estimate, console, len(configs))
    else:
        console.print(queue_line(configs, results), markup=False)
    if dry_run:
        from ..launch.power import power_line

        show_runs(configs, results, notes, estimate)
        notes.print(power_line(first, results, request.seeds), markup=False)
    if estimate:
        check_time(request, overrides, estimate.total)
    return Planned(overrides, request, configs, results, estimate)


def _plan(overrides: Sequence[str], console: Console, fetch: bool) -> tuple[Request, list[RunConfig]]:
    """Return the request and its runs; print what is left out."""
    request = compose_request([o for o in overrides if not o.startswith("method.")])
    if check_place(request.on, request.cluster, request.device) == "local":
        check_graphs(request.recipe, device_of(request.device))
    check_data(request, console, fetch)
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
    code = queue_missing(
        planned.configs, planned.results, request.cluster, request.device, command, console, only
    )
    if not missing(planned.configs, planned.results):
        _keep(planned, console)
    return code


def _keep(planned: Planned, console: Console, comparison: "Comparison | None" = None) -> None:
    """Keep the models that were asked for; the choice reads the records with pandas, a slow import."""
    from ..model.keep import keep_models

    keep_models(planned.configs, planned.results, console, comparison)


def after_runs(planned: Planned) -> None:
    """Write the pictures of mistakes and the report, if a run has a record."""
    from ...analysis.report import write_prints, write_report
    from .mistake_images import write_mistake_images

    done = [folder for c in planned.configs if is_done(folder := c.folder(planned.results))]
    if not done:
        return
    page = page_of(planned.results)
    newest = max(record_path(folder).stat().st_mtime for folder in done)
    if not page.exists() or page.stat().st_mtime < newest:
        comparison = _comparison(planned)
        write_mistake_images(planned.configs[0], comparison, planned.results)
        write_prints([comparison], page.parent / "figures")
        write_report(planned.results, page.parent)


def _comparison(planned: Planned) -> "Comparison":
    """Return the comparison that a bench has filled."""
    from ...analysis.report import find_comparison

    first = planned.configs[0]
    return find_comparison(planned.results, first.source_name, first.target_name, first.comparison_id)


def _show(
    planned: Planned, comparison: "Comparison | None", failed: Mapping[str, str], console: Console
) -> None:
    """Print the answer and the table of a bench, unless no run is done, and the errors of its failed runs."""
    from ...analysis.answer import answer
    from ...analysis.tables.comparison_table import markdown

    if comparison:
        if line := _others_line(planned.configs, comparison):
            console.print(line, markup=False)
        width = console.width if console.is_terminal else None
        for text in ["", *answer(comparison), "", markdown(comparison, width)]:
            console.print(text, markup=False, soft_wrap=width is None)  # a terminal breaks no word
        shown_by = command_hint("open", planned.results)
        console.print(f"\nreport: {page_of(planned.results)}, shown by {shown_by}", markup=False)
    for digest, error in failed.items():
        console.print(f"failed: {digest}: {error}", markup=False)


def _others_line(configs: Sequence[RunConfig], comparison: "Comparison") -> str:
    """Return which rows of the table were not asked for: those of earlier runs; empty without any."""
    asked = {methods.load(c.method).label(c.settings) for c in configs}
    others = [label for label in comparison.by_label if label not in asked]
    if not others:
        return ""
    return f"also in the table, from earlier runs of the same setting: {', '.join(others)}"


def why_preset(request: Request, overrides: Sequence[str], config: RunConfig) -> str:
    """Return a line on the preset: why it is used, and the length that it leaves to the number of images."""
    is_given = any(o.startswith("preset=") for o in overrides)
    known = (
        f"the default of {config.target_name}" if datasets.about(request.target) else "the default of a path"
    )
    line = f"preset={request.preset}: {'given' if is_given else known}"
    if request.pretrained and not any(o.startswith("pretrained=") for o in overrides):
        size = f" recipe.image_size={config.recipe.image_size}"
        line += f"; without a source: source=none pretrained=true backbone={request.backbone}{size}"
    left = [name for name in ("steps", "batch_size") if getattr(request.recipe, name) == 0]
    if not left:
        return line
    num_images = num_training_images(load_target(config), config.shots)
    chosen = " and ".join(f"recipe.{name}={getattr(config.recipe, name)}" for name in left)
    return f"{line}; {chosen} by its {num_images:,} training images"
