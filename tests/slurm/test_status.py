"""What status says of a run: its folder's word first, then SLURM's."""

import json
import os
import socket
import time
from types import SimpleNamespace

import pytest
from simulated_results import make_record
from transferbench import InputError
from transferbench.benchmarks.commands import slurm_jobs
from transferbench.benchmarks.commands.status import state_of, status, watch
from transferbench.benchmarks.launch import stage_data as staging
from transferbench.benchmarks.launch.on_slurm import _resources
from transferbench.slurm.cluster import Cluster
from transferbench.slurm.queue import Job

BEAT = {"step": 7, "steps": 20, "seconds_left": 3.0, "pid": os.getpid(), "host": socket.gethostname()}


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("job", "state"),
    [
        (None, ("lost", "its process is gone; repeat the command to resume")),
        (Job("7", "PENDING", "Dependency"), ("pending", "job 7 waits for runs that it requires")),
        (Job("7", "PENDING", "QOSMaxJobs"), ("pending", "job 7 waits (QOSMaxJobs)")),
        (Job("7", "RUNNING", "None", "n1"), ("running", "job 7 on n1: starting")),
        (
            Job("7", "TIMEOUT", in_queue=False),
            ("lost", "job 7 reached its time limit before it could save; retry requests more time"),
        ),
        (
            Job("7", "FAILED", "exit code 0:9", in_queue=False),
            ("lost", "job 7 ended as FAILED (exit code 0:9)"),
        ),
    ],
)
def test_a_run_without_a_word_of_its_own_is_told_by_its_job(tmp_path, job, state):
    assert state_of(tmp_path, job) == state


def test_a_living_run_tells_of_itself_and_a_waiting_one_where_it_goes_on(tmp_path):
    write(tmp_path, "heartbeat", {**BEAT, "time": time.time()})
    assert state_of(tmp_path, Job("7", "RUNNING", "None", "n1")) == ("running", "step 7 of 20, 3 s left")
    waits = Job("7", "PENDING", "BeginTime")
    assert state_of(tmp_path, waits) == ("pending", "job 7 waits for its next start, resumes at step 7")


def test_an_error_is_told_by_its_last_line_unless_the_run_is_queued_again(tmp_path):
    write(tmp_path, "error.json", {"error": "RuntimeError: first\nlast line"})
    assert state_of(tmp_path, Job("7", "FAILED", in_queue=False)) == ("failed", "last line")
    assert state_of(tmp_path, Job("8", "PENDING", "None"))[0] == "pending"


def test_watch_ends_when_nothing_goes_on(tmp_path, capsys):
    folder = tmp_path / "a-b" / "m" / "seed0-0123456789"
    folder.mkdir(parents=True)
    write(folder, "config.json", {})
    write(folder, "heartbeat", {**BEAT, "time": time.time()})
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        write(folder, "record.json", make_record())

    assert watch(tmp_path, sleep) == 0
    assert len(slept) == 1
    assert capsys.readouterr().out.split() == ["1", "running", "1", "done"]


def submitted(results, **jobs):
    """Write the jobs of runs, by the folder of each; return their digests."""
    lines = [
        {"digest": f"{number}" * 10, "folder": f"a-b/{name}/seed0-{f'{number}' * 10}", "job": job, "time": "",
         "cluster": "local", "sweep": "s", "minutes": 5, "memory_gb": 1.0}
        for number, (name, job) in enumerate(jobs.items())
    ]  # fmt: skip
    (results / "slurm").mkdir(parents=True)
    (results / "slurm" / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        (results / line["folder"]).mkdir(parents=True)
        write(results / line["folder"], "config.json", {})
    return [line["digest"] for line in lines]


def test_runs_in_the_job_of_a_cancelled_one_are_named(tmp_path, capsys, monkeypatch):
    submitted(tmp_path, l2tl="7_0", datl="7_0", uot="7_1")
    cancelled = []
    monkeypatch.setattr(slurm_jobs.queue, "queued", lambda: {"7_0": None, "7_1": None})
    monkeypatch.setattr(slurm_jobs.queue, "cancel", cancelled.append)
    monkeypatch.setattr(slurm_jobs, "matching", lambda results, name: [SimpleNamespace(digest="0" * 10)])
    assert slurm_jobs.cancel(tmp_path, ["l2tl"]) == 0
    said = capsys.readouterr().out
    assert "cancelled too, in the same job: a-b/datl/seed0-1111111111" in said
    assert "uot" not in said
    assert cancelled == [["7_0"]]


def test_a_submission_that_is_refused_stops_no_other(tmp_path, capsys, monkeypatch):
    digests = submitted(tmp_path, l2tl="7_0")
    for name, target in (("a", "gone"), ("b", "digits")):
        (tmp_path / "slurm" / name).mkdir()
        write(tmp_path / "slurm" / name, "sweep.json", {"command": ["bench", f"target={target}"]})
    monkeypatch.setattr(
        slurm_jobs, "states", lambda results: [SimpleNamespace(digest=digests[0], word="failed")]
    )
    done = []

    def bench(overrides, only):
        if "target=gone" in overrides:
            raise InputError("gone: no such file or folder")
        done.append((overrides, only))
        return 0

    monkeypatch.setattr("transferbench.benchmarks.commands.bench.bench", bench)
    assert slurm_jobs.retry(tmp_path) == 2
    assert capsys.readouterr().err == "not resubmitted: bench target=gone: gone: no such file or folder\n"
    assert done == [(["target=digits", f"results={tmp_path}"], {digests[0]})]


def test_time_and_memory_come_from_like_runs(config_of):
    config = config_of("finetune")
    asks = Cluster("mine", memory_gb=8, minutes=240)
    assert _resources(config, [], asks) == (240, 8.0)
    like = {
        "method": "finetune",
        "config": config.resolved(),
        "seconds": {"prepare": 60.0, "step": 1000.0},
        "peak_memory_bytes": 2**30,
        "environment": {"device": "cpu (x86_64)"},
    }
    assert _resources(config, [like], asks) == (40, 2.0)
    assert _resources(config, [like | {"environment": {"device": "NVIDIA"}}], asks) == (40, 8.0)
    assert _resources(config, [like | {"seconds": {"prepare": 0.0, "step": 1e6}}], asks)[0] == 240
    assert _resources(config_of("finetune", "recipe.steps=77"), [like], asks) == (240, 8.0)


def test_the_job_of_a_tuned_run_has_time_for_the_last_round(config_of):
    config = config_of("finetune", "tune=auto")
    like = {
        "method": "finetune",
        "config": config_of("finetune").resolved(),
        "seconds": {"prepare": 0.0, "step": 600.0},
        "peak_memory_bytes": None,
        "environment": {"device": "NVIDIA"},
    }
    asks = Cluster("mine", memory_gb=8, minutes=1000)
    assert _resources(config_of("finetune"), [like], asks)[0] == 40
    assert _resources(config, [like], asks)[0] == 80  # three trials of the same length


def test_images_are_copied_to_a_nodes_disk_once(tmp_path, monkeypatch):
    shared, scratch = tmp_path / "shared", tmp_path / "scratch"
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(shared))
    shared.mkdir()
    for name in ("digits-train-32px-ab.pixels.npy", "dtd-train-32px-ab.pixels.npy", "digits-x.npy.1.draft"):
        (shared / name).write_text(name)
    staging.stage({"digits"}, scratch)
    assert os.environ["TRANSFERBENCH_CACHE"] == str(scratch)
    assert [p.name for p in scratch.iterdir()] == ["digits-train-32px-ab.pixels.npy"]
    (copy,) = scratch.iterdir()
    before = copy.stat().st_ino
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(shared))
    staging.stage({"digits"}, scratch)
    assert copy.stat().st_ino == before


def test_the_table_of_a_pipe_has_whole_paths_and_a_file_holds_no_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    folder = tmp_path / "a-b" / "a_method_of_a_long_name" / "seed0-0123456789"
    folder.mkdir(parents=True)
    write(folder, "config.json", {})
    write(folder, "error.json", {"error": "OSError: " + "a long reason, " * 20})
    assert status(tmp_path) == 0
    said = capsys.readouterr().out
    assert "a-b/a_method_of_a_long_name/seed0-0123456789" in said
    assert "a long reason, " * 19 in said
    with pytest.raises(InputError, match="not a folder"):
        status(folder / "config.json")
