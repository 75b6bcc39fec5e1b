"""Fixtures of all tests: a separate cache, and problems small enough for a CPU."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import Loopback, loopback
from suited import SUITED
from transferbench.benchmarks.config.compose import compose_request, settings_of
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.config.schema import Request, RunConfig
from transferbench.benchmarks.training.pretraining import without_target
from transferbench.benchmarks.training.problem import BuiltProblem, build_problem
from transferbench.datasets import catalog as datasets
from transferbench.methods import catalog
from transferbench.methods.base import Method

torch.set_num_threads(1)
frozen = [0]  # how many modules there were at each
TINY = (
    "backbone=tiny",
    "recipe.batch_size=16",
    "recipe.image_size=16",
    "recipe.evaluations=3",
    "source_recipe.steps=6",
    "source_recipe.batch_size=16",
    "source_recipe.seed=0",
)


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from tests that do not ask for one, and start the threads of gradients."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # The first gradient starts a thread for each device, and where there is one forbids to fork. It may not
    # be in one of the tests that pretend a GPU.
    torch.zeros(1, requires_grad=True).sum().backward()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setenv("TRANSFERBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(os, "fsync", lambda number: None)  # no test cuts the power
    yield
    patch.undo()
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _collected() -> None:
    """Freeze imported modules: each run starts with a garbage collection, which torch makes slow."""
    if len(sys.modules) > frozen[-1]:
        frozen.append(len(sys.modules))
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="module")
def forked() -> Iterator[None]:
    """Fork the workers of a bench: they need not import torch again. test_reproduce.py spawns them."""
    fork = multiprocessing.get_context("fork")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda kind: fork)
        yield


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@cache
def composed(overrides: tuple[str, ...]) -> Request:
    """Compose a request once: that takes longer than many of the tests."""
    return compose_request(overrides)


@pytest.fixture(scope="session")
def config_of() -> Callable[..., RunConfig]:
    """Make a run configuration of the embedded pair from a method and overrides."""

    def build(method: str, *overrides: str) -> RunConfig:
        given = [*TINY, *SUITED.get(method, ()), *overrides]
        request = composed(tuple(o for o in given if not o.startswith("method.")))
        config = run_config(request, method, settings_of(method, given), request.seed)
        return without_target(config) if method == "pretrain" else config

    return build


@pytest.fixture(scope="session")
def built_of() -> Callable[[RunConfig], BuiltProblem]:
    """Build a problem whose networks start from random weights."""
    return build_problem


@pytest.fixture(scope="session")
def build(
    config_of: Callable[..., RunConfig], built_of: Callable[..., BuiltProblem]
) -> Callable[..., Method]:
    """Build a method by name, on the embedded pair."""

    def method(name: str, *overrides: str) -> Method:
        config = config_of(name, *overrides)
        return catalog.load(name)(built_of(config).problem, config.settings)

    return method


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without network, with a separate cache and data root."""
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("TRANSFERBENCH_MIRROR", raising=False)
    (tmp_path / "data").mkdir()
    datasets.load.cache_clear()
    yield tmp_path / "data"
    datasets.load.cache_clear()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A mirror on the loopback interface, the only one that is used."""
    (tmp_path / "served").mkdir()
    with loopback(tmp_path / "served") as server:
        monkeypatch.setenv("TRANSFERBENCH_MIRROR", server.url)
        yield server
