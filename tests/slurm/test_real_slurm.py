"""A real SLURM on this machine: queued, broken in every way a cluster knows, and done all the same."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import faults
import pytest
from storm import figures
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config import compose_request, settings_of
from transferbench.benchmarks.resolve import run_config
from transferbench.benchmarks.run import run_one
from transferbench.benchmarks.status import states
from transferbench.slurm import launch, queue

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
if os.environ.get("TRANSFERBENCH_SLURM_TESTS") != "1":
    pytest.skip("a real SLURM is started by .ci/run: TRANSFERBENCH_SLURM_TESTS=1", allow_module_level=True)
if os.getuid() != 0 or not Path("/etc/debian_version").exists():
    pytest.skip("a real SLURM needs root, on Debian, to be started here", allow_module_level=True)

LONG = [
    "seeds=1",
    "recipe.steps=240",
    "recipe.evaluations=3",
    "recipe.batch_size=4",
    "recipe.image_size=16",
    "source_recipe.steps=20",
    "source_recipe.batch_size=4",
    "checkpoint_minutes=0.02",
    "threads=1",
]
CLUSTER = "memory_gb: 1.5\nminutes: 20\nsignal_seconds: 20\narray_parallelism: 4\n"


@pytest.fixture(scope="session", autouse=True)
def _slurm():
    ran = subprocess.run(["scontrol", "ping"], check=False, capture_output=True).returncode == 0
    subprocess.run([HERE / "start.sh"], check=True)
    yield
    if not ran:
        subprocess.run([HERE / "start.sh", "stop"], check=True)


@pytest.fixture
def bench(tmp_path):
    """Queue a bench; gives its results folder and its jobs."""

    results = tmp_path / "results"

    def queued(cluster: str, *overrides: str) -> tuple[Path, dict[str, launch.Submitted]]:
        path = tmp_path / "mine.yaml"
        path.write_text(CLUSTER + cluster)
        command = ["bench", *LONG, *overrides, f"results={results}", "on=slurm", f"cluster={path}"]
        assert main(command) == 0
        return results, launch.latest(results)

    yield queued
    if ids := [line.job for line in launch.read(results)]:
        subprocess.run(["scancel", *ids], check=False)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """Give the figures of a run that nothing disturbs."""
    done = {}

    def run(*overrides: str):
        if overrides not in done:
            given = [o for o in (*LONG, *overrides) if not o.startswith("methods=")]
            config = run_config(compose_request(given), "scratch", settings_of("scratch", given), 0)
            done[overrides] = figures(run_one(config, tmp_path_factory.mktemp("unbroken")))
        return done[overrides]

    return run


def record(results: Path, line: launch.Submitted, seconds: float = faults.PATIENCE_SECONDS):
    path = results / line.folder / "record.json"
    faults.until(path.exists, f"{line.folder}: a record", seconds)
    return figures(json.loads(path.read_text()))


def restarts(job: str) -> int:
    shown = faults.said("scontrol", "show", "job", job)
    return int(shown.split("Restarts=")[1].split()[0])


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        (faults.preempt, True),
        (faults.requeue, True),
        (faults.signal_job, True),
        (faults.kill_process, True),
        (faults.lose_node, True),
        (faults.restart_slurmd, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_whatever_happens_to_a_job_its_run_ends_as_if_nothing_had(bench, unbroken, fault, again):
    results, lines = bench("partition: low\n", "methods=scratch")
    (line,) = lines.values()
    faults.reaches(results / line.folder, 60)
    fault(results / line.folder, line.job)
    assert record(results, line) == unbroken()
    assert (restarts(line.job) > 0) == again


def test_a_run_goes_on_after_its_time_limit(bench, unbroken):
    longer = ("methods=scratch", "recipe.steps=1200")
    results, lines = bench("minutes: 1\n".replace("minutes: 1", "sbatch: {time: 1}"), *longer)
    (line,) = lines.values()
    assert record(results, line) == unbroken(*longer)
    assert restarts(line.job) > 0


def test_what_is_queued_is_not_queued_twice_and_cancel_takes_it_out(bench, capsys):
    results, lines = bench("sbatch: {begin: now+1hour}\n", "methods=scratch,finetune")
    bench("", "methods=scratch,finetune")
    assert len(launch.read(results)) == len(lines) == 3
    assert "0 runs are queued in 0 jobs; 3 were in the queue already" in capsys.readouterr().out
    assert {s.word for s in states(results)} == {"pending"}
    assert main(["cancel", f"results={results}"]) == 0
    faults.until(lambda: not set(queue.queued()) & {x.job for x in lines.values()}, "an empty queue")
    assert {s.word for s in states(results)} == {"lost"}
    assert all("was cancelled" in s.about for s in states(results))
    assert main(["retry", "--lost", f"results={results}"]) == 0
    assert len(launch.read(results)) == 6


def test_a_cancelled_run_saves_and_is_not_put_back(bench):
    results, lines = bench("", "methods=scratch")
    (line,) = lines.values()
    faults.reaches(results / line.folder, 30)
    assert main(["cancel", "scratch", f"results={results}"]) == 0
    faults.until(lambda: line.job not in queue.queued(), "an empty queue")
    time.sleep(3)
    assert queue.ended([line.job])[line.job].state == "CANCELLED"
    assert (results / line.folder / "checkpoint.pt").exists()


@pytest.mark.parametrize("at", ["checkpoint", "record"])
def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(bench, unbroken, tmp_path, at):
    overrides = ("methods=scratch", *(("checkpoint_minutes=60",) if at == "record" else ()))
    with faults.small_disk(tmp_path / "results", megabytes=48):
        results, lines = bench("", *overrides)
        (line,) = lines.values()
        faults.reaches(results / line.folder, 60)
        if at == "record":  # its last checkpoint is written: what comes is the judgement and the record
            path = results / line.folder / "metrics.jsonl"
            faults.until(lambda: path.exists() and len(path.read_text().splitlines()) == 3, "the last point")
            time.sleep(0.5)
        faults.fill(results)
        faults.until(lambda: line.job not in queue.queued(), "an empty queue")
        (state,) = states(results)
        assert (state.word, "no space left" in state.about) == ("lost", True), state
        (results / "ballast").unlink()
        assert main(["retry", f"results={results}"]) == 0
        assert record(results, line) == unbroken()


def test_a_failing_method_fails_alone_and_is_mended(tmp_path):
    tree, results = tmp_path / "tree", tmp_path / "results"
    subprocess.run(["git", "clone", "-q", ROOT, tree / "transferbench"], check=True)
    method = tree / "transferbench" / "methods" / "l2sp.py"
    right = method.read_text()
    method.write_text(
        right.replace("def step(", "def step(self, t):\n        return 1 / 0\n\n    def was_step(", 1)
    )
    assert "1 / 0" in method.read_text()
    cluster = tmp_path / "mine.yaml"
    cluster.write_text(CLUSTER)

    def command(*words):
        code = "import sys; from transferbench.benchmarks.cli import main; sys.exit(main(sys.argv[1:]))"
        path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        done = [sys.executable, "-c", code, *words, f"results={results}"]
        return subprocess.run(done, capture_output=True, text=True, check=True, env=environment).stdout

    short = [*LONG, "recipe.steps=12", "methods=scratch,l2sp,finetune"]
    command("bench", *short, "on=slurm", f"cluster={cluster}")
    lines = launch.latest(results)
    method.write_text(right)  # a job runs what it was submitted with
    faults.until(lambda: not set(queue.queued()) & {x.job for x in lines.values()}, "an empty queue")
    words = {s.name.split("/")[1]: (s.word, s.about) for s in states(results)}
    assert words.pop("l2sp") == ("failed", "ZeroDivisionError: division by zero")
    assert {word for word, _ in words.values()} == {"done"}
    assert "ZeroDivisionError" in command("logs", "l2sp")
    command("retry", "--failed")
    assert len(launch.read(results)) == len(lines) + 1
    (line,) = [x for x in launch.latest(results).values() if "l2sp" in x.folder]
    record(results, line)
    environments = {
        line.folder: json.loads((results / line.folder / "record.json").read_text())["environment"]["dirty"]
        for line in lines.values()
    }
    assert [name for name, dirty in environments.items() if not dirty] == [line.folder]
