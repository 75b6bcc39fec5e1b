"""What SLURM is asked for, without a SLURM: its commands are stood in for by scripts on the path."""

import json
import stat
import sys
from functools import partial
from pathlib import Path

import pytest
from transferbench import InputError
from transferbench.slurm import cluster, queue, submit
from transferbench.slurm.snapshot import snapshot

pytest.importorskip("submitit")
GOLDEN = Path(__file__).parent


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Put commands on the path that say what they are told to, and keep what was submitted."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")

    def stand_in(name: str, script: str) -> None:
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod((place / name).stat().st_mode | stat.S_IXUSR)

    stand_in("srun", "")
    stand_in("squeue", "")
    stand_in("sacct", "")
    stand_in("scontrol", "echo 'MaxArraySize            = 1001'")
    stand_in("sbatch", f'cp "$1" {tmp_path}/script$(ls {tmp_path}/script* 2>/dev/null | wc -l)\necho job 7')
    return stand_in


def tasks(number: int, **other) -> list[submit.Task]:
    call = partial(print, "run")
    return [submit.Task(f"d{i}", f"a-b/m/seed{i}-d{i}", call, 60, 4.0, **other) for i in range(number)]


def sent(tmp_path: Path, tasks, name="local", **changes) -> list[str]:
    sweep = submit.new_sweep(tmp_path / "results")
    chosen = cluster.load(name)
    chosen = type(chosen)(**{**vars(chosen), **changes})
    submit.submit(tasks, tmp_path / "results", chosen, sweep, Path("/code"))
    scripts = sorted(tmp_path.glob("script*"), key=lambda p: int(p.name[6:]))
    return [p.read_text().replace(str(sweep), "SWEEP").replace(sweep.name, "NAME") for p in scripts]


@pytest.mark.parametrize("name", cluster.names())
def test_each_cluster_file_asks_for_what_it_says(commands, tmp_path, name):
    (text,) = sent(tmp_path, tasks(3), name)
    text = text.replace(sys.executable, "PYTHON") + "\n"
    assert text == (GOLDEN / f"{name}.sbatch").read_text()


def test_what_others_rest_on_goes_first_and_the_others_wait_for_it(commands, tmp_path):
    first, *rest = tasks(4)
    rest = [submit.Task(**{**vars(t), "after": ("d0",)}) for t in rest]
    one, array = sent(tmp_path, [first, *rest])
    assert "--array" not in one
    assert "--dependency" not in one
    assert "#SBATCH --array=0-2%3" in array
    assert "#SBATCH --dependency=afterany:7" in array
    lines = [json.loads(x) for x in (tmp_path / "results/slurm/jobs.jsonl").read_text().splitlines()]
    assert [(x["digest"], x["job"]) for x in lines] == [
        ("d0", "7"),
        ("d1", "7_0"),
        ("d2", "7_1"),
        ("d3", "7_2"),
    ]


def test_arrays_are_no_larger_than_the_cluster_takes(commands, tmp_path):
    commands("scontrol", "echo 'MaxArraySize            = 4'")
    texts = sent(tmp_path, tasks(7))
    assert [next((w for w in t.split() if "--array" in w), "") for t in texts] == [
        "--array=0-2%3",
        "--array=0-2%3",
        "",
    ]


def test_small_runs_share_a_job_and_its_memory(commands, tmp_path):
    (text,) = sent(tmp_path, tasks(5), runs_per_gpu=2)
    assert "#SBATCH --array=0-2%3" in text
    assert "#SBATCH --ntasks-per-node=2" in text
    assert "#SBATCH --mem=8192M" in text
    assert submit.latest(tmp_path / "results")["d3"].job == "7_1"


def test_a_run_by_several_processes_asks_for_all_of_them(commands, tmp_path):
    (text,) = sent(tmp_path, tasks(1), nodes=2, tasks_per_node=4)
    assert "#SBATCH --nodes=2" in text
    assert "#SBATCH --ntasks-per-node=4" in text
    assert "#SBATCH --mem=16384M" in text


def test_what_is_in_the_queue_is_not_sent_again(commands, tmp_path):
    sent(tmp_path, tasks(2))
    commands("squeue", "echo '7_0|PENDING|Priority||a'\necho '7_1|RUNNING|None|n1|a|b'")
    assert len(sent(tmp_path, tasks(3))) == 2
    assert [x.digest for x in submit.read_jobs(tmp_path / "results")] == ["d0", "d1", "d2"]


@pytest.mark.parametrize(
    ("state", "asked"), [("TIMEOUT", (120, 4.0)), ("OUT_OF_MEMORY", (60, 6)), ("FAILED", (60, 4.0))]
)
def test_a_retry_asks_for_more_of_what_was_too_little(commands, tmp_path, state, asked):
    sent(tmp_path, tasks(1))
    said = {"OUT_OF_MEMORY": "7|FAILED|0:125|n1\n7.0|OUT_OF_MEMORY|0:125|n1"}.get(state, f"7|{state}|1:0|n1")
    commands("sacct", f"printf '%s\\n' '{said}'")
    sent(tmp_path, tasks(1))
    last = submit.latest(tmp_path / "results")["d0"]
    assert (last.minutes, last.memory_gb) == asked


def test_without_an_answer_of_squeue_nothing_is_sent(commands, tmp_path):
    commands("squeue", "exit 1")
    with pytest.raises(InputError, match="squeue does not answer"):
        sent(tmp_path, tasks(1))
    assert not list(tmp_path.glob("script*"))


def test_a_refusal_is_told_in_one_line(commands, tmp_path):
    commands("sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    with pytest.raises(InputError, match="^cluster=local: sbatch: .*invalid partition specified: gpu$"):
        sent(tmp_path, tasks(1))


def test_absent_commands_are_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert queue.queued() is None
    assert queue.jobs(["7"]) is None
    assert queue.finished(["7"]) == {}
    assert queue.largest_array() == 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin: gpu", "no setting 'partitoin'; did you mean 'partition'?"),
        ("minutes: long", "minutes=long: expected a whole number"),
        ("memory_gb: true", "memory_gb=True: expected a number"),
        ("setup: module load", "setup=module load: expected a list of shell lines"),
        ("minutes: 0", "minutes=0: expected more than 0"),
        ("{runs_per_gpu: 2, nodes: 3}", "runs_per_gpu=2 with 3 processes per run; expected 1 of either"),
        ("- gpu", "expected names and values"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_cluster_file_is_told_in_one_line(tmp_path, text, words):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        cluster.load(str(tmp_path / "mine.yaml"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [(None, "cluster: missing"), ("locale", "did you mean 'local'"), ("/nowhere.yaml", "no such file")],
)
def test_an_unknown_cluster_is_told_in_one_line(name, words):
    with pytest.raises(InputError, match=words):
        cluster.load(name)


def test_a_snapshot_is_the_tree_as_it_is_and_leaves_the_index_alone(tmp_path):
    import subprocess

    root = tmp_path / "repository"
    root.mkdir()

    def git(*words):
        given = ["-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(["git", "-C", root, *given], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (root / "a.py").write_text("1")
    (root / "b.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    results = root / "results"
    clean = snapshot(results, root)
    assert clean.name == git("rev-parse", "HEAD")[:12]
    assert snapshot(results, root) == clean
    (root / "a.py").write_text("2")
    (root / "b.py").unlink()
    (root / "new.py").write_text("3")
    changed = snapshot(results, root)
    assert changed != clean
    assert {p.name: p.read_text() for p in (changed / "transferbench").glob("*.py")} == {
        "a.py": "2",
        "new.py": "3",
    }
    assert (clean / "transferbench" / "a.py").read_text() == "1"
    about = json.loads((changed / "transferbench" / "COMMIT").read_text())
    assert (about["commit"], about["dirty"]) == (git("rev-parse", "HEAD").strip(), True)
    assert git("diff", "--cached", "--name-only") == ""
    assert not list((results / "code").glob("*.draft"))


def test_git_that_refuses_or_is_missing_is_one_line(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    with pytest.raises(InputError, match=r"rev-parse fails \(.+\); jobs run a copy"):
        snapshot(tmp_path / "results", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"git: No such file or directory; jobs run .*, so install it"):
        snapshot(tmp_path / "results", tmp_path)
    assert not (tmp_path / "results").exists()


def test_drafts_of_a_killed_process_are_swept(tmp_path):
    code = tmp_path / "results" / "code"
    (code / "0123.0123456789abcdef.draft" / "transferbench").mkdir(parents=True)
    assert snapshot(tmp_path / "results").parent == code
    assert [p.name for p in code.iterdir() if p.suffix == ".draft"] == []


# --- jobs.jsonl, after a kill or a full disk -------------------------------------------------------


def cut(tmp_path: Path, num_bytes: int) -> Path:
    """Tear the last line of what was submitted."""
    path = tmp_path / "results" / "slurm" / "jobs.jsonl"
    path.write_bytes(path.read_bytes()[:-num_bytes])
    return path


@pytest.mark.parametrize("num_bytes", [1, 2, 90])
def test_a_torn_line_takes_nothing_else_with_it(commands, tmp_path, capsys, num_bytes):
    """Neither what stands before it, nor what is written after it; one that lacks its end alone is whole."""
    sent(tmp_path, tasks(3))
    path = cut(tmp_path, num_bytes)
    kept = ["d0", "d1", "d2"][: 3 if num_bytes == 1 else 2]
    for _ in range(2):
        assert list(submit.latest(tmp_path / "results")) == kept
    said = capsys.readouterr().err
    assert said.count("\n") == (num_bytes > 1)
    assert said.startswith(f"transferbench: skipped: {path}: line 3 is not a job (") or num_bytes == 1
    sent(tmp_path, tasks(5)[3:])
    assert list(submit.latest(tmp_path / "results")) == [*kept, "d3", "d4"]


def test_jobs_that_nobody_wrote_down_are_cancelled_and_sent_once(commands, tmp_path, capsys):
    """A process was killed between SLURM's answer and its note of it."""
    sent(tmp_path, tasks(3))
    cut(tmp_path, 90)
    (sweep,) = (p.name for p in (tmp_path / "results" / "slurm").iterdir() if p.is_dir())
    own = [f"echo '7_{i}|PENDING|Priority||transferbench-{sweep}'" for i in range(3)]
    commands(
        "squeue",
        "\n".join([*own, "echo '8|RUNNING|None|n1|transferbench-other'", "echo '9|RUNNING|None|n1|x'"]),
    )
    commands("scancel", f'echo "$@" >> {tmp_path}/cancelled')
    scripts = sent(tmp_path, tasks(3))
    assert (tmp_path / "cancelled").read_text() == "7_2\n"
    assert len(scripts) == 2
    assert [x.digest for x in submit.read_jobs(tmp_path / "results")] == ["d0", "d1", "d2"]
    assert "canceled 7_2: the submitting process ended" in capsys.readouterr().err
