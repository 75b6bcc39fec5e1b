"""What processes leave for each other, damaged: heartbeats, errors, and the list of what SLURM was given."""

import json
from typing import Any

import pytest
from hostile import damaged, files_below, fuzz, wrong
from hypothesis import strategies as st
from transferbench import InputError
from transferbench.analysis.page import run_log
from transferbench.benchmarks.commands import slurm_jobs, status
from transferbench.benchmarks.training import heartbeat
from transferbench.benchmarks.training.heartbeat import Claim
from transferbench.datasets.files.processes import process_name
from transferbench.slurm import queue, submit

BEAT = {
    **{"step": 3, "steps": 20, "first": 0, "holdout": {"top1": 0.5, "loss": 1.0}, "token": "a"},
    **{"process": "ffffffff-1-1", "pid": 1, "host": "n1", "time": 1.8e9, "seconds_left": 7.5},
}
LINE = {
    **{
        "digest": "0123456789",
        "folder": "a-b/m/seed0-0123456789",
        "job": "7_1",
        "time": "2026-01-02T03:04:05Z",
    },
    **{"cluster": "local", "sweep": "20260102-030405-ab12", "minutes": 60, "memory_gb": 4.0},
}


@pytest.fixture
def run(tmp_path):
    """A run that is not finished."""
    folder = tmp_path / "results" / LINE["folder"]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def processes() -> st.SearchStrategy[str]:
    """Names of processes: of this machine, and what looks like one."""
    machine, pid, begun = process_name().split("-")
    parts = st.sampled_from([machine, pid, begun, "0", "1", "-1", "9" * 30, "9" * 5000, "", "x", "٣", "²"])
    return st.lists(parts, max_size=4).map("-".join)


def test_hostile_heartbeats_and_errors(tally, not_yet, monkeypatch, run):
    """The run is taken over or left, and everybody who shows it says something."""
    not_yet("hostile heartbeats", "-")
    monkeypatch.setattr(heartbeat, "PERIOD_SECONDS", 1e-3)
    results, beat = run.parents[2], run / "heartbeat"
    before, seen = files_below(results.parent), set()

    def check(given: tuple[Any, Any]) -> None:
        for path, content in zip((beat, run / "error.json"), given, strict=True):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            path.write_bytes(data) if content is not None else path.unlink(missing_ok=True)
        for job in (None, queue.Job("7", "PENDING", "None"), queue.Job("7", "TIMEOUT", in_queue=False)):
            word, about = status.state_of(run, job)
            assert word in ("running", "pending", "failed", "lost")
            assert about.isprintable()
        (left,) = run_log.unfinished(results)
        "".join(left).encode()
        mine = Claim(run, 20)
        seen.add(taken := mine.take())
        if taken:
            mine.release()
        assert not beat.exists() or not taken
        assert files_below(results.parent) - before <= {beat, run / "error.json", run / "heartbeat.lock"}

    own = st.builds(lambda beat, name: beat | {"process": name}, st.just(BEAT), processes())
    beats = st.one_of(wrong(BEAT), damaged([json.dumps(BEAT).encode()]), own, st.just([[]]))
    errors = {"error": "ValueError: first\nlast", "traceback": "x", "time": "2026-01-02T03:04:05Z"}
    given = st.tuples(beats, st.one_of(st.none(), wrong(errors), damaged([json.dumps(errors).encode()])))
    tried = fuzz(check, given, tally.times(60, 3000), tally.is_long)
    assert seen == {True, False}
    tally.note("hostile heartbeats", "-", tried)


def test_a_damaged_list_of_jobs(tally, not_yet, monkeypatch, run):
    """Whole lines count, before and behind a wrong one, and so does what is added later."""
    not_yet("hostile lists of jobs", "-")
    monkeypatch.setenv("PATH", "/nowhere")
    results = run.parents[2]
    path = results / "slurm" / "jobs.jsonl"
    path.parent.mkdir()
    first, last, added = (LINE | {"digest": name} for name in ("first", "last", "added"))
    before, seen = files_below(results.parent), set()

    def check(content: dict[str, Any] | bytes) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode() + b"\n"
        path.write_bytes(json.dumps(first).encode() + b"\n" + data)
        if not isinstance(content, bytes):
            submit._append(results, [submit.Submitted(**last)])
        submit._append(results, [submit.Submitted(**added)])
        found = submit.read_jobs(results)
        names = [line.digest for line in found]
        assert names[0] == "first"
        assert names[-1] == "added"
        assert isinstance(content, bytes) or names[-2] == "last"
        seen.add(len(found) > 2 + (not isinstance(content, bytes)))
        for line in found:
            place = (results / line.folder).resolve()
            assert place.is_relative_to(results.resolve())
            assert (results / "slurm" / line.sweep).resolve().parent == path.parent.resolve()
        assert all(state.word in ("lost", "done") for state in status.states(results))
        try:
            slurm_jobs.logs(results, LINE["folder"])
        except InputError as error:
            assert str(error).isprintable()  # noqa: PT017
        assert files_below(results.parent) - before == {path}

    line = json.dumps(LINE).encode()
    inputs = st.one_of(st.just(LINE), wrong(LINE), damaged([line + b"\n", line]))
    tried = fuzz(check, inputs, tally.times(60, 3000), tally.is_long)
    assert seen == {True, False}
    tally.note("hostile lists of jobs", "-", tried)
