"""Build methods for timing: random weights, data in memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ...datasets.base import Batch
from ...methods import catalog
from ...methods.base import Incompatible, Method
from ..config.compose import compose_request, settings_of
from ..config.resolve import run_config
from ..config.schema import RunConfig
from ..training.problem import BuiltProblem, build_problem, device_of

BASE = ("shots=20", "threads=1", "backbone=small", "recipe.batch_size=32", "recipe.lr=0.01")
ON_CPU = {
    "small, 16 px": ("recipe.batch_size=64",),
    "resnet18, 64 px": ("recipe.batch_size=32", "backbone=resnet18", "recipe.image_size=64"),
}
ON_GPU = {  # sizes of the paper
    "inception_v3, 299 px, bf16": (
        "recipe.batch_size=256",
        "backbone=inception_v3",
        "recipe.image_size=299",
        "recipe.precision=bf16",
        "recipe.channels_last=true",
    ),
}
SIZES = ON_CPU | (ON_GPU if torch.cuda.is_available() else {})


class SameBatch:
    """A stream that gives one batch again and again, so that no time is spent on data."""

    weight_C = None

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> "SameBatch":
        return self

    def __next__(self) -> Batch:
        return self.batch


def configured(method: str, *overrides: str) -> RunConfig:
    """Return the settings of a run, by default on the built-in pair of data sets."""
    given = [*BASE, *overrides]
    request = compose_request([o for o in given if not o.startswith("method.")])
    return run_config(request, method, settings_of(method, given), 0)


def build(method: str, *overrides: str) -> tuple[Method, BuiltProblem]:
    """Build a method and its problem, by default on the built-in pair of data sets.

    Raises:
        Incompatible: the method cannot run on the problem.
    """
    config = configured(method, *overrides)
    if device_of(config.device).type == "cpu":
        torch.set_num_threads(1)
    built, cls = build_problem(config), catalog.load(method)
    if reason := cls.why_incompatible(built.problem):
        raise Incompatible(reason)
    return cls(built.problem, config.settings), built


def stepper(method: Any) -> Callable[[], object]:
    """Return a function that takes the method's next step."""
    steps = iter(range(10**9))
    return lambda: method.step(next(steps) % method.recipe.steps)


def flops(method: Method) -> int:
    """Return the number of floating-point operations of a step."""
    with FlopCounterMode(display=False) as counter:
        method.step(0)
    return counter.get_total_flops()
