"""A run that is asked to stop, and checkpoints by the clock: it goes on at the very step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from processes import LONG, figures
from transferbench.benchmarks import cli
from transferbench.benchmarks.training import heartbeat, interrupt, loop
from transferbench.benchmarks.training.run import run_one
from transferbench.methods import catalog
from transferbench.methods.leap import Leap


@pytest.fixture(autouse=True)
def _not_asked():
    yield
    interrupt._requested.clear()


def steps_of(monkeypatch, name, at=None, then=lambda: None):
    """Note which steps a method takes, and do something once at one of them."""
    taken = []
    cls = catalog.load(name)
    step = cls.step

    def noted(self, t):
        if t == at and t not in taken:
            then()
        taken.append(t)
        return step(self, t)

    monkeypatch.setattr(cls, "step", noted)
    return taken


def test_a_signal_stops_a_run_at_its_next_step(config_of, tmp_path, monkeypatch):
    config = config_of("l2tl", *LONG)
    whole = run_one(config, tmp_path / "whole")
    before = signal.getsignal(signal.SIGUSR2)
    interrupt.on_signal(signal.SIGUSR2)
    taken = steps_of(monkeypatch, "l2tl", 13, lambda: os.kill(os.getpid(), signal.SIGUSR2))
    with pytest.raises(interrupt.Interrupted, match="saved at step 14 of 40"):
        run_one(config, tmp_path / "stopped")
    signal.signal(signal.SIGUSR2, before)
    folder = config.folder(tmp_path / "stopped")
    assert {p.name for p in folder.iterdir()} >= {"checkpoint.pt", "config.json"}
    assert not (folder / "error.json").exists()
    assert not (folder / "heartbeat").exists()
    interrupt._requested.clear()
    assert figures(run_one(config, tmp_path / "stopped")) == figures(whole)
    assert taken == list(range(40))


LEAP = (*LONG, "method.task_steps=3", "method.meta_batch=1", "method.num_images=600")  # ten tasks


def test_a_signal_stops_a_preparation_where_it_may_be_saved(config_of, tmp_path, monkeypatch):
    config = config_of("leap", *LEAP)
    whole = run_one(config, tmp_path / "whole")
    walked = []
    meta_step = Leap.meta_step

    def noted(self):
        walked.append(self.source.drawn)
        if len(walked) == 4:
            interrupt.request()
        meta_step(self)

    monkeypatch.setattr(Leap, "meta_step", noted)
    with pytest.raises(interrupt.Interrupted, match="saved in the middle of its preparation"):
        run_one(config, tmp_path / "stopped")
    spent = torch.load(config.folder(tmp_path / "stopped") / "checkpoint.pt")["clock"]["prepare"]
    interrupt._requested.clear()
    resumed = run_one(config, tmp_path / "stopped")
    assert figures(resumed) == figures(whole)
    assert walked == list(range(10))
    assert 0 < spent < resumed["seconds"]["prepare"]


def test_a_preparation_that_is_killed_goes_on_from_where_the_clock_saved(config_of, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SHARE", 0)
    config = config_of("leap", *LEAP, "checkpoint_minutes=1e-9")
    meta_step = Leap.meta_step
    with monkeypatch.context() as broken:
        broken.setattr(Leap, "meta_step", lambda self: 1 / 0 if self.source.drawn == 7 else meta_step(self))
        with pytest.raises(ZeroDivisionError):
            run_one(config, tmp_path / "broken")
    walked = []
    monkeypatch.setattr(Leap, "meta_step", lambda self: (walked.append(self.source.drawn), meta_step(self)))
    broken = run_one(config, tmp_path / "broken")
    assert walked == [7, 8, 9]
    assert figures(broken) == figures(run_one(config_of("leap", *LEAP), tmp_path / "whole"))


def test_checkpoints_by_the_clock_lie_between_the_evaluations(config_of, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SHARE", 0)
    config = config_of("finetune", *LONG, "checkpoint_minutes=1e-9")
    taken = steps_of(monkeypatch, "finetune", 26, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_one(config, tmp_path / "broken")
    monkeypatch.undo()
    taken += (again := steps_of(monkeypatch, "finetune"))
    broken = run_one(config, tmp_path / "broken")
    assert again[0] == 26
    whole = run_one(config_of("finetune", *LONG), tmp_path / "whole")
    assert figures(broken) == figures(whole)
    assert len(broken["curve"]) == 10


def test_saving_takes_a_hundredth_of_the_time_at_most(config_of, tmp_path, monkeypatch):
    saves = []
    save = loop.Training._save
    monkeypatch.setattr(loop.Training, "_save", lambda self: (saves.append(self.step), save(self)))
    run_one(config_of("scratch", *LONG, "checkpoint_minutes=1e-9"), tmp_path)
    assert saves[0] == 1
    assert len(saves) < 20  # ten evaluations, and few between them: a step is quicker than saving


@contextmanager
def begun(results: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a bench in a new process, and wait until one of its workers takes steps."""
    given = ("methods=scratch", "seeds=2", "recipe.steps=100000", "workers=1", "device=cpu")
    code = (
        "import sys; from transferbench.benchmarks.launch import pool; pool.PATIENCE_SECONDS = 300; "
        "from transferbench.benchmarks.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "bench", *given, f"results={results}"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with subprocess.Popen(command, **piped) as process:
            try:
                while not any(heartbeat.read(path)["step"] for path in results.glob("*/*/*/heartbeat")):
                    time.sleep(0.05)
                    assert process.poll() is None, process.communicate()
                yield process
            finally:
                process.kill()
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_twice_says_one_line_and_saves(tmp_path):
    with begun(tmp_path) as process:
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert error.strip() == "stopped; the same command resumes"
    assert not list(tmp_path.glob("*/*/*/heartbeat"))  # the worker has left by itself
    assert list(tmp_path.glob("*/*/*/checkpoint.pt"))


def test_a_single_run_saves_on_a_signal_and_goes_on(tmp_path, monkeypatch, capfd):
    words = ["run", "target=digits", "source=none", "method=scratch", "backbone=tiny", f"results={tmp_path}"]
    words += ["recipe.image_size=16", "recipe.steps=6"]
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number, last in ((signal.SIGINT, 2), (signal.SIGTERM, 4)):
        taken = steps_of(monkeypatch, "scratch", last, lambda number=number: signal.raise_signal(number))
        previous = signal.getsignal(signal.SIGINT)
        assert cli.main(words) == 130
        signal.signal(signal.SIGINT, previous)
        assert taken == list(range(last - 2 and 3, last + 1))
        assert "stopping after this step" in capfd.readouterr().err
        monkeypatch.undo()
    assert not interrupt.requested()
    taken = steps_of(monkeypatch, "scratch")
    assert cli.main(words) == 0
    assert taken == [5]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_the_shell_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.stopping():
            signal.raise_signal(signal.SIGINT)
            assert not interrupt.requested()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [(["bench"], True), (["suite", "small"], True), (["bench", "--dry-run"], False), (["status"], False)],
)
def test_only_what_keeps_its_work_says_that_it_resumes(monkeypatch, capsys, words, goes_on):
    def stop(_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setitem(cli.COMMANDS, words[0], stop)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(words) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == ("\nstopped; the same command resumes\n" if goes_on else "\nstopped\n")


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    with begun(tmp_path) as process:
        process.kill()
        process.wait()
        end = time.monotonic() + 60
        while list(tmp_path.glob("*/*/*/heartbeat")):
            assert time.monotonic() < end
            time.sleep(0.05)
    assert list(tmp_path.glob("*/*/*/checkpoint.pt"))
