"""Workers that are killed, and what becomes of the other runs."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from transferbench.benchmarks.launch import pool

PATIENCE_SECONDS = 60.0  # of a run that waits for another, in a test


def _await(*paths: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not all(path.exists() for path in paths) and time.monotonic() < end:
        time.sleep(0.01)


def _played(config: SimpleNamespace, results: Path) -> None:
    """Play a run: one dies whenever it is tried, its neighbor is long at work then, the others meet."""
    is_new = not (results / config.name).exists()
    (results / config.name).touch()
    if config.name == "dies":
        _await(results / "neighbor")
        os.kill(os.getpid(), signal.SIGKILL)
    if config.name == "neighbor" and is_new:
        time.sleep(PATIENCE_SECONDS)
    if config.name in ("third", "fourth"):
        _await(results / "third", results / "fourth")
        assert all((results / name).exists() for name in ("third", "fourth"))


@pytest.mark.usefixtures("forked")
def test_a_killed_worker_costs_its_own_run_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(pool, "_work", _played)
    names = ("dies", "neighbor", "third", "fourth")
    configs = [SimpleNamespace(name=name, threads=1, device="cpu") for name in names]
    ends = []
    pool.run_all(configs, tmp_path, 2, lambda config, error: ends.append((config.name, error)), lambda: None)
    assert ends[:2] == [("dies", "its process was killed (out of memory?)"), ("neighbor", None)]
    assert sorted(ends[2:]) == [("fourth", None), ("third", None)]
