"""`run`: do one run, in this process or in all processes that torchrun has started."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

from ... import InputError
from ...analysis.records.schema import record_path
from ...methods import catalog as methods
from ..config.compose import compose_request, named_rows, settings_of, suite_rows
from ..config.resolve import run_config
from ..config.schema import Request
from ..launch import pool
from ..launch.plan import data_sets_of, why_incompatible
from ..launch.progress import Progress, end_line, refreshed
from ..launch.start import (
    check_data,
    check_networks_of,
    check_place,
    estimator_of,
    prepare_missing,
    print_estimate,
    print_left_out,
    say_memory,
    show_runs,
    without_effect,
)
from ..training import interrupt
from ..training.problem import check_graphs, device_of
from ..training.record import open_results
from ..training.tuning import not_used


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
        return _run(overrides, dry_run)


def _run(overrides: Sequence[str], dry_run: bool) -> int:
    import torch

    from ...datasets import distributed
    from ..training.run import run_one

    request, method = _request(overrides)
    console = Console(highlight=False, soft_wrap=True, quiet=not distributed.is_first())
    check_data(request, console, fetch=not dry_run)
    print_left_out([request], console)
    config = run_config(request, method, settings_of(method, overrides), request.seed)
    results = Path(request.results)
    distributed.on_first(open_results, results, data_sets_of([config]), not dry_run)
    for line in [*_of_bench(overrides), *not_used(overrides, [config]), *without_effect([config])]:
        console.print(line, markup=False)
    check_networks_of([config], results, console, distributed.size())
    prepare_missing([config], results, writes=not dry_run)
    for _, reason in why_incompatible([config], results, distributed.size()).values():
        raise InputError(f"method={method}: cannot run here: {reason}")
    shown: AbstractContextManager[None] = nullcontext()
    if dry_run or distributed.size() == 1:
        say_memory([config], results, console, 1, dry_run)
        estimate = estimator_of(config, 1, results).of([config])
        if dry_run:
            show_runs([config], results, console, estimate)
        print_estimate(estimate, console, 1)
        if estimate.todo:
            shown = refreshed(Progress([config], results, console, estimate))
    if dry_run:
        return 0
    torch.set_num_threads(pool.num_threads(config.threads, config.device, 1))
    with interrupt.stopping(), shown:
        run_one(config, results)
    if not distributed.is_first():
        return 0
    console.print(end_line(config, results), markup=False)
    console.print(f"record: {record_path(config.folder(results))}", markup=False)
    return 0


def _of_bench(overrides: Sequence[str]) -> list[str]:
    """Return a line for each given setting that only `bench` uses."""
    own = {"seeds": "a run has one, seed=NUMBER", "methods": "a run has one, method=NAME"}
    return [f"{o}: not used, {own[name]}" for o in overrides if (name := o.partition("=")[0]) in own]


def _request(overrides: Sequence[str]) -> tuple[Request, str]:
    """Return the request and the name of the method.

    Raises:
        InputError: the method is not given, or a setting is for `bench`.
    """
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
    if method not in methods.names() and method in {**suite_rows(), **named_rows()}:
        raise InputError(f"method={method}: a row of `bench`; expected methods={method} there")
    request = compose_request([o for o in overrides if not o.startswith("method.")])
    if check_place(request.on, request.cluster, request.device) == "local":
        check_graphs(request.recipe, device_of(request.device))
    if request.on != "local":
        raise InputError(
            f"on={request.on}: `run` uses this process; expected on=local, or `bench methods={method}`"
        )
    if request.minutes is not None:
        raise InputError(f"minutes={request.minutes:g}: fits a bench, not a run; expected fewer recipe.steps")
    return request, method
