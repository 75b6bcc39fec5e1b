"""Workers whose process ends, and what becomes of their runs and of the others."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transferbench.benchmarks.launch import pool

KILLED = (
    "its process was killed, also without others (out of memory?); expected less than recipe.batch_size=8, "
    "or a smaller recipe.image_size; the other runs are done"
)
RECIPE = SimpleNamespace(batch_size=8)
PATIENCE_SECONDS = 60.0  # of a run that waits for another, in a test


def _await(*paths: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not all(path.exists() for path in paths) and time.monotonic() < end:
        time.sleep(0.01)


def _played(config: SimpleNamespace, results: Path) -> None:
    """Play a run: one dies whenever it is tried, in the middle of its neighbor, then the others meet."""
    with (results / config.name).open("a") as f:
        f.write("x")
    if config.name == "dies":
        _await(results / "neighbor")
        os.kill(os.getpid(), signal.SIGKILL)
    if config.name == "neighbor":
        _await(results / "third")  # comes in the place of the dead one
    if config.name in ("third", "fourth"):
        _await(results / "third", results / "fourth")
        assert all((results / name).exists() for name in ("third", "fourth"))


def ends_of(names: tuple[str, ...], results: Path, workers: int) -> list[tuple[str, str | None]]:
    """Run all; return how each ended, in their order."""
    same = {"threads": 1, "device": "cpu", "role": "run", "recipe": RECIPE}
    configs = [SimpleNamespace(name=name, **same) for name in names]
    ends: list[tuple[str, str | None]] = []
    pool.run_all(configs, results, workers, lambda c, error: ends.append((c.name, error)), lambda: None)
    return ends


@pytest.mark.usefixtures("forked")
def test_a_killed_worker_costs_its_own_run_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(pool, "_work", _played)
    ends = ends_of(("dies", "neighbor", "third", "fourth"), tmp_path, 2)
    assert sorted(ends[:3]) == [("fourth", None), ("neighbor", None), ("third", None)]
    assert ends[3:] == [("dies", KILLED)]
    tried = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert tried == {"dies": 2, "neighbor": 1, "third": 1, "fourth": 1}


def _ended(config: SimpleNamespace, results: Path) -> None:
    """Let the process end in the way that the run is called."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if config.name.startswith("SIG"):
        signal.signal(signal.Signals[config.name], signal.SIG_DFL) if config.name != "SIGKILL" else None
        os.write(2, b"first\nlast \x1b[31m\n\n")
        os.kill(os.getpid(), signal.Signals[config.name])
    if config.name.startswith("code"):
        os.write(2, b"" if config.name == "code 3" else b"wrong number of arguments \xff")  # no line end
        os._exit(int(config.name.split()[1]))
    if config.name == "exit":
        raise SystemExit("a library left")


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SIGKILL", KILLED),
        ("SIGSEGV", "its process was ended by SIGSEGV: last [31m"),
        ("SIGABRT", "its process was ended by SIGABRT: last [31m"),
        ("SIGBUS", "its process was ended by SIGBUS: last [31m"),
        ("SIGTERM", "its process was ended by SIGTERM: last [31m"),
        ("code 3", "its process ended with exit code 3"),
        ("code 0", "its process ended with exit code 0: wrong number of arguments \\xff"),
        ("code 137", "its process ended with exit code 137: wrong number of arguments \\xff"),
        ("exit", "SystemExit: a library left"),
        ("fine", None),
    ],
)
def test_the_end_of_a_worker_is_told_as_what_it_is(monkeypatch, tmp_path, capfd, name, reason):
    monkeypatch.setattr(pool, "_work", _ended)
    monkeypatch.setattr(pool, "ECHO_SECONDS", 60)
    assert ends_of((name, "fine"), tmp_path, 1) in (
        [("fine", None), (name, reason)],  # repeated after all others
        [(name, reason), ("fine", None)],
    )
    shown = capfd.readouterr().err
    assert shown.count("last") == (2 if name.startswith("SIG") else 0)


@pytest.mark.usefixtures("forked")
def test_what_a_worker_writes_is_shown(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(pool, "_work", lambda config, results: os.write(2, f"{config.name}\n".encode()))
    ends_of(("one", "two", "three"), tmp_path, 2)
    assert sorted(capfd.readouterr().err.split()) == ["one", "three", "two"]


START = """
from pathlib import Path
from types import SimpleNamespace
from transferbench.benchmarks.launch import pool

config = SimpleNamespace(threads=1, device="cpu")
pool.run_all([config], Path("."), 1, lambda config, error: print(error), lambda: None)
"""


def test_a_worker_that_cannot_start_says_why(tmp_path):
    """As with a library that is broken in new processes only."""
    site = tmp_path / "sitecustomize.py"
    site.write_text(
        "import sys\nif '--multiprocessing-fork' in sys.orig_argv: raise SystemExit('no libcuda.so')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", START],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("its process ended with exit code 1: ")
    assert "no libcuda.so" in done.stderr


@pytest.mark.parametrize(("device", "workers"), [("cpu", pool.num_cores()), ("cuda", 3), ("cuda:1", 1)])
def test_runs_at_a_time_follow_the_device(monkeypatch, device, workers):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert pool.num_workers(0, device) == workers
    assert pool.num_workers(5, device) == 5


@pytest.mark.parametrize(("device", "taken"), [("cpu", []), ("cuda:1", []), ("cuda", [1]), ("auto", [1])])
def test_a_worker_takes_its_share_of_the_gpus_for_runs_that_use_one(monkeypatch, device, taken):
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    pool._take_gpu(device, place=4)
    assert chosen == taken


def test_a_worker_freezes_what_its_first_run_has_imported(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(pool, "_start_worker", lambda place, threads: None)
    monkeypatch.setattr(pool, "_outcome", lambda config, results: done.append("run"))
    monkeypatch.setattr(pool.gc, "freeze", lambda: done.append("freeze"))
    near, far = multiprocessing.Pipe()
    for config in (*[SimpleNamespace(device="cpu")] * 3, None):
        near.send(config)
    pool._serve(far, 0, 1, tmp_path)
    assert done == ["run", "freeze", "run", "run"]
