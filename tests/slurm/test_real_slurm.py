"""A real SLURM on this machine: queued, broken in every way a cluster knows, and done all the same."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import faults
import pytest
import timm
import torch
import trees
import yaml
from processes import in_two
from storm import figures, records
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.commands.bench import bench as bench_command
from transferbench.benchmarks.commands.status import states
from transferbench.benchmarks.config.compose import compose_request, settings_of
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.training.run import run_one
from transferbench.slurm import queue, submit

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
if os.environ.get("TRANSFERBENCH_SLURM_TESTS") != "1":
    pytest.skip("a real SLURM is started by `make slurm-test`", allow_module_level=True)
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
    "source_recipe.seed=0",
    "checkpoint_minutes=0.02",
    "threads=1",
]
SOME_STEPS = "recipe.steps=1500"  # some ten seconds of work, so that a fault meets it on a fast machine too
SOME_TIME = ("methods=scratch", SOME_STEPS)
CLUSTER = "memory_gb: 1.5\nminutes: 20\nsignal_seconds: 20\narray_parallelism: 4\n"


@pytest.fixture(scope="session", autouse=True)
def _slurm():
    installed = shutil.which("scontrol")
    ran = installed and not subprocess.run([installed, "ping"], check=False, capture_output=True).returncode
    subprocess.run([HERE / "start.sh"], check=True)
    yield
    if not ran:
        subprocess.run([HERE / "start.sh", "stop"], check=True)


@pytest.fixture
def bench(tmp_path):
    """Queue a bench; gives its results folder and its jobs."""

    results = tmp_path / "results"

    def queued(cluster: str, *overrides: str) -> tuple[Path, dict[str, submit.Submitted]]:
        path = tmp_path / "mine.yaml"
        path.write_text(CLUSTER + cluster)
        command = ["bench", *LONG, *overrides, f"results={results}", "on=slurm", f"cluster={path}"]
        assert main(command) == 0
        return results, submit.latest(results)

    yield queued
    if ids := [line.job for line in submit.read_jobs(results)]:
        subprocess.run(["scancel", *ids], check=False)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """Give the figures of a run that nothing disturbs."""
    done = {}

    def run(*overrides: str, method: str = "scratch", seed: int = 0, by: Callable = lambda f, *a: [f(*a)]):
        key = (method, seed, overrides, by)
        if key not in done:
            given = [o for o in (*LONG, *overrides) if not o.startswith("methods=")]
            config = run_config(compose_request(given), method, settings_of(method, given), seed)
            done[key] = figures(by(run_one, config, tmp_path_factory.mktemp("unbroken"))[0])
        return done[key]

    return run


def record(results: Path, line: submit.Submitted, seconds: float = faults.PATIENCE_SECONDS):
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
    results, lines = bench("partition: low\n", *SOME_TIME)
    (line,) = lines.values()
    faults.reaches(results / line.folder, 60)
    fault(results / line.folder, line.job)
    assert record(results, line) == unbroken(*SOME_TIME)
    assert (restarts(line.job) > 0) == again


def test_a_run_goes_on_after_its_time_limit(bench, unbroken):
    longer = ("methods=scratch", "recipe.steps=5000", "recipe.batch_size=32")  # about a minute of work
    results, lines = bench("sbatch: {time: 1}\n", *longer)
    (line,) = lines.values()
    assert record(results, line) == unbroken(*longer)
    assert restarts(line.job) > 0


def test_every_path_may_hold_blanks_and_signs(tmp_path, monkeypatch, capsys):
    """A comma, brackets, quotes, signs of the shell, and a percent sign, in every path that a run reads."""
    odd = tmp_path / 'it\'s 100% "mine", [best]=1 $HOME #2 ~x & (y); *'
    target = trees.tree(odd / "my photos, [a]=1")
    source = trees.tree(odd / "other 100%", ("p", "q", "r"))
    weights = odd / "my 'weights' 5%.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), weights)
    cluster = odd / "my cluster.yaml"
    cluster.write_text(CLUSTER)
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(odd / "cache 7%"))
    results = odd / "results 50%, so far"
    command = ["bench", *LONG, "recipe.steps=4", "backbone=test_resnet", f"target={target}"]
    command += ["tune=off", f"source={source}", f"results={results}", "on=slurm", f"cluster={cluster}"]
    for given in (["methods=finetune,scratch"], ["methods=finetune", f"checkpoint={weights}"]):
        assert main([*command, *given]) == 0
    lines = submit.latest(results)
    assert len(lines) == 5  # two pre-trainings, one from the weights
    try:
        for line in lines.values():
            record(results, line, 120)
    finally:
        subprocess.run(["scancel", *(line.job for line in lines.values())], check=False)
    for line in lines.values():
        logs = sorted((results / "slurm" / line.sweep).glob(f"{line.job}_0_log.*"))
        assert [path.suffix for path in logs] == [".err", ".out"]
    assert main(["logs", next(iter(lines)), f"results={results}"]) == 0
    assert main(["status", f"results={results}"]) == 0
    assert "5 done" in capsys.readouterr().out


def test_what_is_queued_is_not_queued_twice_and_cancel_takes_it_out(bench, capsys):
    results, lines = bench("sbatch: {begin: now+1hour}\n", "methods=scratch,finetune")
    bench("", "methods=scratch,finetune")
    assert len(submit.read_jobs(results)) == len(lines) == 3
    assert "0 runs are queued in 0 jobs; 3 were in the queue already" in capsys.readouterr().out
    assert {s.word for s in states(results)} == {"pending"}
    assert main(["cancel", f"results={results}"]) == 0
    faults.until(lambda: not set(queue.queued()) & {x.job for x in lines.values()}, "an empty queue")
    assert {s.word for s in states(results)} == {"lost"}
    assert all("was cancelled" in s.about for s in states(results))
    assert main(["retry", "--lost", f"results={results}"]) == 0
    assert len(submit.read_jobs(results)) == 6


def test_a_cancelled_run_saves_and_is_not_put_back(bench):
    results, lines = bench("", *SOME_TIME)
    (line,) = lines.values()
    faults.reaches(results / line.folder, 30)
    assert main(["cancel", "scratch", f"results={results}"]) == 0
    faults.until(lambda: line.job not in queue.queued(), "an empty queue")
    time.sleep(3)
    assert queue.finished([line.job])[line.job].state == "CANCELLED"
    assert (results / line.folder / "checkpoint.pt").exists()


@pytest.mark.parametrize("at", ["checkpoint", "record"])
def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(bench, unbroken, tmp_path, at):
    overrides = (*SOME_TIME, *(("checkpoint_minutes=60",) if at == "record" else ()))
    with faults.small_disk(tmp_path / "results", megabytes=48):
        results, lines = bench("", *overrides)
        (line,) = lines.values()
        if at == "record":
            with faults.stopped_after(results / line.folder, points=3):
                faults.fill(results)
        else:
            faults.reaches(results / line.folder, 60)
            faults.fill(results)
        faults.until(lambda: line.job not in queue.queued(), "an empty queue")
        (state,) = states(results)
        assert (state.word, "no space left" in state.about) == ("lost", True), state
        assert not (results / line.folder / "record.json").exists()
        (results / "ballast").unlink()
        assert main(["retry", f"results={results}"]) == 0
        assert record(results, line) == unbroken(*SOME_TIME)


@pytest.fixture
def tree(tmp_path):
    """Clone the code; gives its folder, and a caller of commands of it."""
    place = tmp_path / "tree"
    subprocess.run(["git", "clone", "-q", ROOT, place / "transferbench"], check=True)

    def command(*words) -> str:
        code = "import sys; from transferbench.benchmarks.cli import main; sys.exit(main(sys.argv[1:]))"
        path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        done = [sys.executable, "-c", code, *words, f"results={tmp_path / 'results'}"]
        return subprocess.run(done, capture_output=True, text=True, check=True, env=environment).stdout

    return place / "transferbench", command


def test_a_bench_of_twelve_runs_is_disturbed_and_comes_to_its_report(tmp_path, tree, unbroken):
    """Its code has a mistake in one method; a process is killed, and all that runs is preempted once."""
    (root, command), results = tree, tmp_path / "results"
    method = root / "methods" / "l2sp.py"
    right = method.read_text()
    method.write_text(right.replace("def step(", "def step(self, t):\n        1 / 0\n\n    def was_step(", 1))
    assert "1 / 0" in method.read_text()
    cluster = tmp_path / "mine.yaml"
    cluster.write_text(CLUSTER + "partition: low\n")
    twelve = [*LONG, SOME_STEPS, "seeds=3", "methods=scratch,finetune,l2sp,linear_probe"]
    faults.said("scontrol", "update", "partitionname=low", "state=down")  # no run ends before it is watched
    command("bench", *twelve, "on=slurm", f"cluster={cluster}")
    method.write_text(right)  # a job runs what it was submitted with
    faults.said("scontrol", "update", "partitionname=low", "state=up")
    lines = submit.latest(results)
    assert len(lines) == 13  # with the pre-training, which nine of them wait for
    of = {f"{x.folder.split('/')[-2]} {x.folder.split('/')[-1].split('-')[0]}": x for x in lines.values()}
    disturbed = {}
    for name, fault in (("scratch", faults.kill_process), ("finetune", faults.preempt)):
        line = faults.until(lambda n=name: runs_at(results, of, n, 30), f"{name} runs")
        fault(results / line.folder, line.job)
        disturbed[name] = line
    faults.until(lambda: not set(queue.queued()) & {x.job for x in lines.values()}, "an empty queue")
    words = {(s.name.split("/")[1], s.word, s.about) for s in states(results)}
    failed = {w for w in words if w[1] != "done"}
    assert failed == {("l2sp", "failed", "ZeroDivisionError: division by zero")}
    assert "ZeroDivisionError" in command("logs", "l2sp/seed1")
    command("retry", "--failed")
    again = submit.latest(results)
    assert len(submit.read_jobs(results)) == 13 + 3
    for line in again.values():
        record(results, line)
    for name, line in disturbed.items():
        seed = int(line.folder.split("seed")[1].split("-")[0])
        assert record(results, line) == unbroken(SOME_STEPS, method=name, seed=seed)
        assert restarts(line.job) > 0
    dirty = {
        name: json.loads((results / line.folder / "record.json").read_text())["environment"]["dirty"]
        for name, line in of.items()
    }
    assert {name.split()[0] for name, changed in dirty.items() if not changed} == {"l2sp"}
    table = command("bench", *twelve)
    for title in ("From scratch", "Fine-tuning", "L2-SP", "Linear probe"):
        assert re.search(rf"\| {title} +\| 3 ", table), table
    assert (results / "report" / "report.html").exists()


def test_a_tuned_bench_chooses_as_at_home(bench, tmp_path, capsys):
    """The jobs of two seeds share the trials of each row; a killed trial does not change the choice."""
    tuned = ["tune=auto", "seeds=2", "methods=scratch,linear_probe", "recipe.steps=900"]
    results, lines = bench("partition: low\n", *tuned)
    of_trials = [line for line in lines.values() if "seed10000" in line.folder]
    killed = faults.until(lambda: _first_alive(results, of_trials), "a trial runs")
    faults.kill_process(results / killed.folder, killed.job)
    for line in lines.values():
        record(results, line)
    home = tmp_path / "home"
    assert main(["bench", *LONG, *tuned, "workers=1", f"results={home}"]) == 0
    there, here = records(results), records(home)
    assert there.keys() == here.keys()
    for folder, own in here.items():
        assert _choice(there[folder]) == _choice(own)
        assert there[folder]["test"] == own["test"]


def _first_alive(results: Path, lines: list) -> submit.Submitted | None:
    return next((line for line in lines if faults.lives(results / line.folder)), None)


def _choice(done: dict) -> dict:
    return {k: v for k, v in (done["choice"] or {}).items() if k != "seconds"}


def runs_at(results, of, method: str, step: int):
    """Find a run of a method that has taken so many steps and still runs."""
    for name, line in of.items():
        if name.startswith(method):
            folder = results / line.folder
            beat = faults.beat_of(folder)
            if step <= beat.get("step", 0) < beat["steps"] - 60 and faults.lives(folder):
                return line
    return None


@pytest.mark.parametrize("fault", [faults.preempt, faults.kill_process])
def test_a_run_by_two_processes_on_two_nodes_goes_on(bench, unbroken, fault):
    more = ("methods=scratch", "recipe.steps=400")
    results, lines = bench("partition: low\nnodes: 2\n", *more)
    (line,) = lines.values()
    faults.reaches(results / line.folder, 60)
    fault(results / line.folder, line.job)
    assert record(results, line) == unbroken(*more, by=in_two)
    assert restarts(line.job) > 0
    environment = json.loads((results / line.folder / "record.json").read_text())["environment"]
    assert environment["world_size"] == 2


def test_what_cannot_be_split_is_left_out_before_anything_is_queued(tmp_path, capsys):
    cluster = tmp_path / "mine.yaml"
    cluster.write_text(CLUSTER + "tasks_per_node: 2\n")
    with pytest.raises(InputError, match="its batches cannot be split over 2 processes"):
        bench_command([*LONG, "methods=reweight", "on=slurm", f"cluster={cluster}", f"results={tmp_path}/r"])


@pytest.mark.parametrize(
    ("asked", "state", "more"),
    [
        ("minutes: 1\nsignal_seconds: 0\nsetup: ['[ -e {mended} ] || sleep 300']", "TIMEOUT", (2, 1.5)),
        ("memory_gb: 0.1\nrestarts: 0", "OUT_OF_MEMORY", (20, 1)),
    ],
    ids=["time", "memory"],
)
def test_a_retry_asks_for_more_of_what_was_too_little(tmp_path, asked, state, more):
    results, cluster = tmp_path / "results", tmp_path / "mine.yaml"
    own = {**yaml.safe_load(CLUSTER), **yaml.safe_load(asked.format(mended=tmp_path / "mended"))}
    cluster.write_text(yaml.safe_dump(own))
    assert (
        main(["bench", *LONG, "methods=scratch", "on=slurm", f"cluster={cluster}", f"results={results}"]) == 0
    )
    (first,) = submit.latest(results).values()
    faults.until(lambda: first.job not in queue.queued(), "an empty queue")
    faults.until(lambda: queue.finished([first.job])[first.job].state == state, state, 30)
    assert [s.word for s in states(results)] == ["lost"]
    (tmp_path / "mended").touch()
    assert main(["retry", f"results={results}"]) == 0
    (second,) = submit.latest(results).values()
    assert (second.minutes, second.memory_gb) == more
    record(results, second)


def test_a_suite_goes_in_packs_that_share_a_gpu_and_images_on_the_node(tmp_path):
    results, cluster, scratch = tmp_path / "results", tmp_path / "mine.yaml", tmp_path / "scratch"
    cluster.write_text(CLUSTER + f"gres: gpu:1\nruns_per_gpu: 2\nmax_array: 2\nscratch: {scratch}\n")
    short = [o for o in LONG if not o.startswith(("recipe.steps", "seeds"))]
    command = ["suite", "figure4", "source=glyphs", "targets=digits", "seeds=2", "recipe.steps=12", *short]
    assert main([*command, f"results={results}", "on=slurm", f"cluster={cluster}"]) == 0
    lines = submit.latest(results)
    assert len(lines) == 7
    packs = Counter(x.job for x in lines.values() if "pretrain" not in x.folder)
    assert list(packs.values()) == [2, 2, 2]
    assert len({job.partition("_")[0] for job in packs}) == 2  # arrays of two packs and of one
    for line in lines.values():
        record(results, line)
    for job in packs:
        given = faults.said("sacct", "-n", "-X", "-P", "-o", "AllocTRES", "-j", job)
        assert "gres/gpu=1" in given
    assert {"digits", "glyphs"} <= {p.name.split("-")[0] for p in scratch.iterdir()}
    assert main([*command, f"results={results}"]) == 0
    assert (results / "report").is_dir()


def test_arrays_are_cut_where_slurm_cuts_them(bench):
    assert queue.largest_array() == 6
    results, lines = bench("sbatch: {begin: now+1hour}\n", "methods=scratch", "seeds=8")
    sizes = Counter(line.job.partition("_")[0] for line in lines.values())
    assert sorted(sizes.values()) == [2, 6]
    assert {s.word for s in states(results)} == {"pending"}
