"""No command needs more than Windows has: here its modules and functions are taken away on Linux."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

POOR = Path(__file__).parent / "fixtures" / "windows"


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(POOR), os.environ.get("PYTHONPATH", "")))
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_modules_are_taken_away(tmp_path):
    for gone in ("import fcntl", "import resource", "import os; os.getuid()"):
        assert run("-c", gone, cwd=tmp_path).returncode == 1


@pytest.mark.parametrize("words", [["--help"], ["data", "list"], ["methods"]], ids=" ".join)
def test_commands_start(words, tmp_path):
    done = run("-m", "transferbench.benchmarks.cli", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_bench_goes_from_images_to_the_page(tmp_path):
    words = "bench target=digits source=glyphs methods=scratch seeds=1 workers=1 backbone=tiny"
    steps = "recipe.steps=4 recipe.evaluations=2 recipe.image_size=16"
    done = run("-m", "transferbench.benchmarks.cli", *words.split(), *steps.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("record.json"))) == 1
    assert (tmp_path / "results" / "report" / "report.html").exists()


def test_a_lock_is_held_and_waited_for(tmp_path):
    code = """if True:
        import sys, subprocess
        from pathlib import Path
        from transferbench.file_lock import lock, try_lock
        with open("x.lock", "a", encoding="utf-8") as file, open("x.lock", "a", encoding="utf-8") as other:
            lock(file)
            assert not try_lock(other)
            file.close()
            assert try_lock(other)
    """
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
