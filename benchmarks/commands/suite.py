"""`suite`: do the missing runs of the paper's tables and figures, then print them."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ... import InputError
from ...analysis.wording import counted
from ..config.compose import compose_request, read_suite, split_override
from ..config.compose import suites as suite_names
from ..config.schema import Keep, Request, RunConfig
from ..launch.plan import data_sets_of
from ..launch.start import (
    check_networks_of,
    check_place,
    drop_incompatible,
    estimator_of,
    prepare_missing,
    print_estimate,
    print_left_out,
    processes_of,
    run_missing,
    say_namesakes,
    show_runs,
)
from ..launch.suite_plan import Cell, Suite, cells, load, not_taken, write_plan
from ..training import record
from .class_images import write_class_images

SHARED = ("results", "on", "cluster", "device", "workers", "keep")


def suite(
    name: str, overrides: Sequence[str], dry_run: bool = False, only: Container[str] | None = None
) -> int:
    """Run a suite.

    Args:
        name: name of the suite.
        overrides: the settings, as `name=value`.
        dry_run: print the runs and do none.
        only: digests of the runs that may be submitted to SLURM; None: all.

    Returns:
        The exit code: 1 if a run failed.

    Raises:
        InputError: the request is invalid; no run is started.
    """
    console = Console(highlight=False, soft_wrap=True)
    given = dict(map(split_override, overrides))
    request = _request(given)
    results = Path(request.results)
    on = check_place(request.on, request.cluster, request.device)
    planned = _planned(name, overrides, console, dry_run)
    configs = list({c.digest: c for _, of in planned for cell in of for c in cell.configs}.values())
    if not configs:
        return 0
    print_left_out(configs, console)
    record.open_results(results, data_sets_of(configs), writes=not dry_run)
    processes = processes_of(on, request.cluster)
    configs = [replace(c, keep=request.keep if "keep" in given else Keep.none) for c in configs]
    if on == "slurm":
        configs = [replace(c, device="cpu") for c in configs]  # for the checks here; jobs use the given one
    check_networks_of(configs, results, console, processes)
    left, incompatible = drop_incompatible(configs, results, console, processes, writes=not dry_run)
    prepare_missing(left, results, writes=not dry_run)
    estimate = estimator_of(left[0], request.workers, results).of(left) if on == "local" else None
    if dry_run:
        show_runs(left, results, console, estimate)
    if estimate:
        print_estimate(estimate, console, len(left))
    if dry_run:
        return 0
    for each, of in planned:
        write_plan(each, of, incompatible, results)
    if estimate is None:
        from ..launch.on_slurm import queue_missing

        command = ["suite", name, *overrides]
        assert request.cluster
        return queue_missing(left, results, request.cluster, request.device, command, console, only)
    failed = run_missing(left, results, console, estimate)
    from ..model.keep import keep_models

    _finish(planned, results, console)
    groups: dict[tuple[Path, str], list[RunConfig]] = {}
    for config in left:
        groups.setdefault((config.folder(results).parents[1], config.comparison_id), []).append(config)
    for group in groups.values():
        keep_models(group, results, console)
    return 1 if failed else 0


def _request(given: Mapping[str, str]) -> Request:
    """Return a request with the settings that all runs of a suite share: where they run, what they keep."""
    return compose_request([f"{key}={given[key]}" for key in SHARED if key in given])


def _planned(
    name: str, overrides: Sequence[str], console: Console, dry_run: bool
) -> list[tuple[Suite, list[Cell]]]:
    """Return the suites with their cells; print which have no images.

    Raises:
        InputError: a setting is wrong, or no images are here, unless `dry_run`.
    """
    given = dict(map(split_override, overrides))
    if "minutes" in given:
        raise InputError(
            f"minutes={given['minutes']}: fits a bench, not a suite; expected fewer recipe.steps"
        )
    suites = load(name, overrides)
    for line in not_taken(suites, overrides):
        console.print(line, markup=False)
    places = [("source", each.source) for each in suites]
    places += [("targets", target) for each in suites for target in each.targets]
    say_namesakes(places, console)
    planned = [(each, cells(each, fetch=not dry_run)) for each in suites]
    for reason in dict.fromkeys(cell.reason for _, of in planned for cell in of if cell.reason):
        console.print(f"left out: {reason}", markup=False)
    if dry_run:
        _print_without_images(planned, console)
    elif not any(cell.configs for _, of in planned for cell in of):
        raise InputError(f"suite {name}: none of its images are here; see `transferbench data list`")
    return planned


def _finish(planned: Sequence[tuple[Suite, Sequence[Cell]]], results: Path, console: Console) -> None:
    """Write the images of classes and mistakes, and print the tables."""
    from ...analysis.records.comparison import comparisons
    from ...analysis.records.load import load_any
    from ...analysis.views import VIEWS
    from .mistake_images import write_mistake_images

    for each, of in planned:
        if each.view in VIEWS and VIEWS[each.view].shows_images:
            _write_class_images(of, results)
    configs = [config for _, of in planned for cell in of for config in cell.configs]
    by_comparison = {(c.source_name, c.target_name, c.comparison_id): c for c in configs}
    for comparison in comparisons(load_any(results)):
        if config := by_comparison.get(comparison.recorded):
            write_mistake_images(config, comparison, results)
    _show([each.name for each, _ in planned], results, console)


def _print_without_images(planned: Sequence[tuple[Suite, Sequence[Cell]]], console: Console) -> None:
    """Print what a suite would run on images that are not here: rows, targets and the number of runs."""
    for each, cells_ in planned:
        if not (empty := [cell for cell in cells_ if cell.reason]):
            continue
        rows, targets = (list(dict.fromkeys(getattr(c, of) for c in empty)) for of in ("row", "target"))
        console.print(
            f"{each.name}, without its images: {counted(len(empty) * each.num_seeds, 'run')} of "
            f"{counted(len(rows), 'row')} ({', '.join(rows)}) on {', '.join(targets)} "
            f"with source {each.source}, {counted(each.num_seeds, 'seed')}",
            markup=False,
        )


def print_suites() -> int:
    """Print the suites with their titles; return the exit code."""
    for name in suite_names():
        found = read_suite(name)
        title = ": ".join(filter(None, (found.get("element"), found.get("title"))))
        print(f"{name:10} {title}")
    return 0


def _write_class_images(planned: Sequence[Cell], results: Path) -> None:
    """Write images of the classes with the largest and smallest weights, for methods that learn weights."""
    for cell in planned:
        done = [found for c in cell.configs if (found := record.read(c.folder(results)))]
        weights = [found["class_weights"] for found in done if found["class_weights"]]
        if weights:
            mean = {name: sum(w[name] for w in weights) / len(weights) for name in weights[0]}
            first = cell.configs[0]
            pair = first.folder(results).relative_to(results).parts[0]
            write_class_images(first.source, cell.target, mean, results, pair)


def _show(names: Sequence[str], results: Path, console: Console) -> None:
    """Write the report and print the tables of these suites."""
    from ...analysis.records.load import load as load_runs
    from ...analysis.records.suites import load_suites
    from ...analysis.report import write_report
    from ...analysis.tables.paper_tables import to_text
    from ...analysis.views import suite_section

    page = write_report(results, results / "report")
    for found in load_suites(results, load_runs(results)):
        if found.name in names:
            console.print("\n" + to_text(suite_section(found)), markup=False)
    console.print(f"\nreport: {page}", markup=False)
