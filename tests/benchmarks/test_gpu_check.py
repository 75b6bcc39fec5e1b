"""The check of a GPU, with other questions: it stops in time, goes on where it was, and says what failed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transferbench.benchmarks.speed import gpu_check
from transferbench.benchmarks.speed.gpu_check import PARTS, Part, check


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setattr(gpu_check, "device_name", lambda: "a GPU")


def part(name: str, code: str, seconds: float = 30) -> Part:
    return Part(name, seconds, "it passes", (sys.executable, "-c", code))


def test_parts_that_passed_are_not_repeated(tmp_path, capsys):
    log = tmp_path / "log"
    count = f"open({str(log)!r}, 'a').write('x')"
    parts = [part("good", count), part("bad", f"{count}; print('no kernel'); raise SystemExit(3)")]
    assert not check(parts, tmp_path)
    assert not check(parts, tmp_path)
    assert log.read_text() == "xxx"  # the good part once
    text = (tmp_path / "gpu-check.md").read_text()
    assert "| good | it passes | passed" in text
    assert "FAILED (3)" in text
    assert "no kernel" in text
    assert check([parts[0], part("bad", count)], tmp_path)
    known = json.loads((tmp_path / "gpu-check.json").read_text())["answers"]
    assert {name: answer["passed"] for name, answer in known.items()} == {"good": True, "bad": True}


def test_it_stops_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "LEAST_SECONDS", 0.5)
    begin = time.monotonic()
    sleeps = [part(name, "import time; print('begun', flush=True); time.sleep(60)") for name in "abc"]
    assert not check(sleeps, tmp_path, limit=3)
    assert time.monotonic() - begin < 10
    text = (tmp_path / "gpu-check.md").read_text()
    assert "FAILED (out of time)" in text
    assert "begun" in text
    assert text.count("not asked") == 2


def test_another_gpu_is_asked_anew(tmp_path, monkeypatch):
    good = [part("good", "pass")]
    assert check(good, tmp_path)
    monkeypatch.setattr(gpu_check, "device_name", lambda: "another GPU")
    assert gpu_check._answers(tmp_path) == {}


def test_the_questions_can_be_asked():
    """Each names files that exist, and all together fit into the time."""
    root = Path(gpu_check.__file__).parents[2]
    for each in PARTS:
        for word in each.command:
            if word.startswith(("tests/", "benchmarks/")):
                assert (root / word).exists(), word
    assert sum(each.seconds for each in PARTS[:4]) < gpu_check.LIMIT_SECONDS


def test_without_a_gpu_it_says_so_in_one_line():
    command = [sys.executable, "-m", "transferbench.benchmarks.speed.gpu_check"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no GPU here: torch")
    assert done.stderr.count("\n") == 1
