"""Heartbeats: a live run is not taken, a dead one is, and no clock is believed."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deaths import FORK, start
from transferbench.benchmarks.training import heartbeat
from transferbench.benchmarks.training.heartbeat import Claim, Taken, living
from transferbench.datasets.files import processes as alive
from transferbench.datasets.files.processes import is_alive, process_name

CLOCKS = "a clock an hour off, forwards or backwards"
DEAD = "16 processes at one dead run"
ELSEWHERE = "ffffffff-1-1"  # a process of another machine


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(heartbeat, "PERIOD_SECONDS", 0.05)


def beat_of(folder: Path, process: str, age: float = 0.0) -> Path:
    """Leave the heartbeat of another process, stamped so long ago by the file system."""
    path, draft = folder / "heartbeat", folder / "other"
    draft.write_text(f'{{"token": "other", "process": "{process}"}}')
    stamp = draft.stat().st_mtime - age
    os.utime(draft, (stamp, stamp))
    draft.replace(path)
    return path


def take(folder: Path) -> bool:
    mine = Claim(folder, 10)
    if taken := mine.take():
        mine.release()
    return taken


def test_a_process_is_known_until_it_ends(tmp_path):
    def work():
        (tmp_path / "draft").write_text(process_name())
        (tmp_path / "draft").replace(tmp_path / "name")
        time.sleep(60)

    process = start(work)
    while not (tmp_path / "name").exists():
        time.sleep(0.01)
    name = (tmp_path / "name").read_text()
    assert is_alive(name)
    assert is_alive(process_name())
    machine, pid, began = name.split("-")
    assert is_alive(f"{machine}-{pid}-{int(began) + 1}") is False  # its number was given to another process
    assert is_alive(f"{'0' * 8}-{pid}-{began}") is None
    os.kill(process.pid, signal.SIGSTOP)
    assert is_alive(name)
    process.kill()
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert is_alive(name) is False  # though nobody has asked for its exit code yet
    process.join()
    assert is_alive(name) is False
    assert is_alive("") is None


def test_without_proc_a_number_has_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(alive, "PROC", tmp_path)
    alive._machine.cache_clear()
    assert is_alive(process_name())
    alive._machine.cache_clear()


@pytest.mark.usefixtures("quick")
def test_a_stopped_process_keeps_its_run(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "DEAD_AFTER_SECONDS", 0.1)

    def hold():
        Claim(tmp_path, 10).take()
        time.sleep(60)

    process = start(hold)
    while not (tmp_path / "heartbeat").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    assert not take(tmp_path)
    process.kill()
    process.join()
    assert take(tmp_path)


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
@pytest.mark.parametrize("whose", ["of this machine", "of the file system"])
def test_a_clock_an_hour_off(tmp_path, monkeypatch, tally, off, whose):
    """A run of another machine that beats is not taken over, one that does not is."""
    monkeypatch.setattr(heartbeat, "PERIOD_SECONDS", 0.3)  # on a busy machine a beat may come late
    not_taken, taken = tmp_path / "beats", tmp_path / "dead"
    not_taken.mkdir()
    taken.mkdir()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + (off if whose == "of this machine" else 0))
    stamp_off = off if whose == "of the file system" else 0

    def beats():
        while True:
            beat_of(not_taken, ELSEWHERE, age=-stamp_off)
            time.sleep(0.02)

    process = start(beats)
    while not (not_taken / "heartbeat").exists():
        time.sleep(0.01)
    rounds = tally.times(1, 5)
    doubled = sum(take(not_taken) for _ in range(rounds))
    process.kill()
    process.join()
    lost = 0
    for _ in range(rounds):
        beat_of(taken, ELSEWHERE, age=200 - stamp_off)
        lost += not take(taken)
    tally.note(CLOCKS, f"{off:+.0f} s, {whose}", 2 * rounds, doubled=doubled, lost=lost)


def test_a_young_beat_from_elsewhere_counts_as_alive(tmp_path):
    assert living(beat_of(tmp_path, ELSEWHERE, age=60))
    assert not living(beat_of(tmp_path, ELSEWHERE, age=180))
    assert not living(tmp_path / "none")


@pytest.mark.usefixtures("quick")
def test_one_of_many_takes_a_dead_run(tmp_path, tally):
    def try_it(folder: Path, together: Any) -> None:
        mine = Claim(folder, 10)
        together.wait()
        if mine.take():
            with (folder / "takers").open("a") as f:
                f.write("x")
        together.wait()  # who has it lives until all have tried

    rounds, doubled, lost = tally.times(2, 10), 0, 0
    for n in range(rounds):
        folder = tmp_path / str(n)
        folder.mkdir()
        dead = FORK.Process(target=lambda folder=folder: Claim(folder, 10).take())
        dead.start()
        dead.join()
        assert (folder / "heartbeat").exists()
        together = FORK.Barrier(16)
        processes = [start(partial(try_it, folder, together)) for _ in range(16)]
        for process in processes:
            process.join()
        takers = (folder / "takers").read_text() if (folder / "takers").exists() else ""
        doubled, lost = doubled + max(0, len(takers) - 1), lost + (not takers)
    tally.note(DEAD, "forked at one moment", rounds, doubled=doubled, lost=lost)


@pytest.mark.usefixtures("quick")
def test_who_was_taken_over_notices_and_leaves_it(tmp_path):
    mine = Claim(tmp_path, 10)
    assert mine.take()
    mine.check()
    beat_of(tmp_path, process_name())
    with pytest.raises(Taken, match="taken over by another process"):
        mine.check()
    time.sleep(0.2)
    with pytest.raises(Taken):
        mine.beat(1, None)
    mine.release()
    assert heartbeat.read(tmp_path / "heartbeat")["token"] == "other"


@pytest.mark.usefixtures("quick")
def test_a_heartbeat_goes_on_where_nothing_can_be_written(tmp_path, monkeypatch):
    mine = Claim(tmp_path, 10)
    assert mine.take()
    real = Path.write_text

    def full(path: Path, *args: object, **options: object) -> int:
        if path.name.startswith("heartbeat"):
            raise OSError(28, "No space left on device")
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", full)
    os.utime(mine.path, (0, 0))
    time.sleep(0.3)
    assert mine.path.stat().st_mtime > 1e9
    mine.release()
    assert not list(tmp_path.iterdir())
