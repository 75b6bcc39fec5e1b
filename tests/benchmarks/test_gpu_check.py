"""The check of a GPU, with other questions: it stops in time, goes on where it was, and says what failed."""

import json
import os
import signal
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


@pytest.fixture
def limit_from(monkeypatch):
    """Let the limit of a part run from when a file of the part is there: a busy machine starts it late."""

    def begin(begun: Path) -> None:
        wait = subprocess.Popen.wait

        def wait_from(process: subprocess.Popen, timeout: float | None = None) -> int:
            while timeout is not None and not begun.exists() and process.poll() is None:
                time.sleep(0.01)
            return wait(process, timeout)

        monkeypatch.setattr(subprocess.Popen, "wait", wait_from)

    return begin


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
    known = json.loads((tmp_path / "gpu-check.json").read_text())["devices"]["a GPU"]
    assert {name: answer["passed"] for name, answer in known.items()} == {"good": True, "bad": True}


def test_it_stops_by_itself(tmp_path, monkeypatch, limit_from):
    monkeypatch.setattr(gpu_check, "LEAST_SECONDS", 0.5)
    begun = tmp_path / "begun"
    limit_from(begun)
    code = f"import time; print('begun', flush=True); open({str(begun)!r}, 'w'); time.sleep(600)"
    begin = time.monotonic()
    assert not check([part(name, code) for name in "abc"], tmp_path, limit=3)
    assert time.monotonic() - begin < 300
    text = (tmp_path / "gpu-check.md").read_text()
    assert "FAILED (out of time)" in text
    assert "begun" in text
    assert text.count("not asked") == 2


def test_another_gpu_is_asked_anew(tmp_path, monkeypatch):
    good = [part("good", "pass")]
    assert check(good, tmp_path)
    monkeypatch.setattr(gpu_check, "device_name", lambda: "another GPU")
    assert gpu_check._answers(good, tmp_path) == {}
    assert check(good, tmp_path)
    monkeypatch.setattr(gpu_check, "device_name", lambda: "a GPU")
    monkeypatch.setattr(gpu_check, "asked", lambda *_: pytest.fail("it was asked again"))
    assert check(good, tmp_path)  # the answers of both are kept


def test_what_other_code_has_passed_is_asked_after_what_failed(tmp_path, monkeypatch, capsys):
    parts = [part("good", "pass"), part("bad", "raise SystemExit(1)")]
    check(parts, tmp_path)
    monkeypatch.setattr(gpu_check, "code_fingerprint", lambda folders: "other")
    assert "passed in 0 s, by other code" in gpu_check._verdict(gpu_check._answers(parts, tmp_path)["good"])
    capsys.readouterr()
    check(parts, tmp_path)
    asked = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "it passes" in line]
    assert asked == ["bad", "good"]


def test_a_part_out_of_time_says_what_failed_before_and_where_it_was(tmp_path, monkeypatch, limit_from):
    monkeypatch.setattr(gpu_check, "GRACE_SECONDS", 60)
    begun = tmp_path / "begun"
    limit_from(begun)
    last = f"def test_two(): open({str(begun)!r}, 'w'); time.sleep(600)\n"
    answer = gpu_check.asked(
        pytest_part(tmp_path, f"import time\ndef test_one(): assert 1 + 1 == 3\n{last}"), 0.5
    )
    assert answer["exit"] == "out of time"
    assert "E   assert (1 + 1) == 3" in answer["output"]
    assert "test_one.py:3: KeyboardInterrupt" in answer["output"]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"devices": {"a GPU": {"good": "yes"}}}',
        '{"devices": {"a GPU": {"good": {"passed": true}}}}',
        '{"devices": {"a GPU": []}}',
        '{"devices": 3}',
        "[" * 20000,
    ],
)
def test_a_damaged_file_is_asked_anew(tmp_path, text):
    (tmp_path / "gpu-check.json").write_text(text)
    assert check([part("good", "print('asked')")], tmp_path)
    assert "asked" in (tmp_path / "gpu-check.md").read_text()


def test_another_command_is_asked_anew(tmp_path):
    assert check([part("good", "pass")], tmp_path)
    assert not check([part("good", "raise SystemExit(1)")], tmp_path)


def pytest_part(tmp_path, text, *more):
    (tmp_path / "test_one.py").write_text(text)
    return Part(
        "tests", 60, "it passes", (*gpu_check.TESTS, "-c", os.devnull, *more, str(tmp_path / "test_one.py"))
    )


def test_skipped_tests_do_not_pass(tmp_path):
    passes = "def test_one(): pass\n"
    skipped = "import pytest\n@pytest.mark.skip\ndef test_two(): pass\n"
    assert gpu_check.asked(pytest_part(tmp_path, passes), 60)["passed"]
    answer = gpu_check.asked(pytest_part(tmp_path, passes + skipped), 60)
    assert answer["exit"] == "tests were skipped, or none ran"


@pytest.mark.parametrize(("bound", "code"), [(2, "0"), (0.5, "beyond its bound: a ratio")])
def test_a_figure_beyond_its_bound_does_not_pass(tmp_path, monkeypatch, bound, code):
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)  # several workers do not measure
    text = (
        "from transferbench.benchmarks.speed.interleaved import show\n"
        f"def test_one(benchmark): show(benchmark, 'a ratio', 1.0, most={bound}); benchmark(int)\n"
    )
    figures = f"--benchmark-json={gpu_check.FOLDER}/{gpu_check.FIGURES}"
    answer = gpu_check.asked(pytest_part(tmp_path, text, figures), 60)
    assert answer["exit"] == code, answer["output"]
    assert answer["output"].startswith(f"a ratio: 1 x, at most {bound}")


def test_a_part_that_measured_nothing_does_not_pass(tmp_path):
    figures = f"--benchmark-json={gpu_check.FOLDER}/{gpu_check.FIGURES}"
    answer = gpu_check.asked(pytest_part(tmp_path, "def test_one(): pass\n", figures), 60)
    assert answer["exit"] == "measured nothing"


@pytest.mark.parametrize(
    ("name", "content"),
    [(gpu_check.FIGURES, '{"bench'), (gpu_check.FIGURES, "[]"), (gpu_check.JUNIT, "<testsuite")],
)
def test_a_report_that_was_cut_fails_and_stops_nothing(tmp_path, name, content):
    writes = f"open({gpu_check.FOLDER + '/' + name!r}, 'w').write({content!r})"
    assert not check([part("cut", writes), part("good", "pass")], tmp_path)
    text = (tmp_path / "gpu-check.md").read_text()
    assert "| cut | it passes | FAILED (its report cannot be read: " in text
    assert "| good | it passes | passed" in text


def test_a_part_that_cannot_start_or_is_killed_says_so(tmp_path):
    missing = Part("missing", 120, "it passes", ("/nonexistent/program",))
    assert gpu_check.asked(missing, 120)["exit"].startswith("could not be asked: [Errno 2]")
    killed = part("killed", "import os; os.kill(os.getpid(), 9)")
    assert gpu_check.asked(killed, 120)["exit"] == "killed by SIGKILL"


def test_what_a_terminal_would_obey_is_left_out(tmp_path):
    check([part("odd", "print('```' + chr(27) + '[31m' + chr(0xd800), end='')")], tmp_path)
    check([part("odd", "print('```' + chr(27) + '[31m', end='')")], tmp_path)
    text = (tmp_path / "gpu-check.md").read_text()
    assert "~~~~~~~~\n```?[31m\n~~~~~~~~" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_part_too(tmp_path, number):
    alive = tmp_path / "alive"
    part_code = f"import time\nwhile True: open({str(alive)!r}, 'a').write('x'); time.sleep(0.05)"
    code = (
        "import sys, torch\n"
        "from transferbench.benchmarks.speed import gpu_check\n"
        "torch.cuda.is_available = lambda: True\n"
        "torch.cuda.device_count = lambda: 1\n"
        "gpu_check.device_name = lambda: 'a GPU'\n"
        "wait = gpu_check.subprocess.Popen.wait\n"
        "def show_and_wait(*given): open('waits', 'w'); return wait(*given)\n"
        "gpu_check.subprocess.Popen.wait = show_and_wait\n"
        f"gpu_check.PARTS = (gpu_check.Part('slow', 60, 'it ends', (sys.executable, '-c', {part_code!r})),)\n"
        "sys.argv = ['gpu_check']\n"
        "sys.exit(gpu_check.main())\n"
    )
    heard = lambda: signal.signal(number, signal.SIG_DFL)  # noqa: E731  (tests in the background ignore some)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:
        while not (alive.exists() and (tmp_path / "waits").exists()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, said) == (130, "stopped; call again to go on\n")
    size = alive.stat().st_size
    time.sleep(0.3)
    assert alive.stat().st_size == size


def test_what_a_part_started_ends_with_it(tmp_path, limit_from):
    """A grandchild would go on using the GPU."""
    alive = tmp_path / "alive"
    limit_from(alive)
    child = f"import time\nwhile True: open({str(alive)!r}, 'a').write('x'); time.sleep(0.05)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], capture_output=True)"
    answer = gpu_check.asked(part("hangs", code, 0.2), 0.2)
    assert answer["exit"] == "out of time"
    size = alive.stat().st_size
    time.sleep(0.3)
    assert alive.stat().st_size == size


def test_parts_that_were_not_asked_come_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "LEAST_SECONDS", 0.5)
    slow = [part("a", "import time; time.sleep(60)", 1.0), part("b", "import time; time.sleep(60)", 1.0)]
    parts = [*slow, part("c", "pass")]
    assert not check(parts, tmp_path, limit=2.2)
    assert "| c | it passes | not asked" in (tmp_path / "gpu-check.md").read_text()
    capsys.readouterr()
    assert not check(parts, tmp_path, limit=30)
    assert capsys.readouterr().out.startswith("c: it passes; ")
    assert "| c | it passes | passed" in (tmp_path / "gpu-check.md").read_text()


def test_a_folder_that_cannot_be_written_is_named_before_a_part_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "asked", lambda *_: pytest.fail("it was asked"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    assert gpu_check.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("results: ")
    assert said.count("\n") == 1


def test_the_questions_can_be_asked():
    """Each names files that exist, and all together fit into the time."""
    root = Path(gpu_check.__file__).parents[2]
    for each in (*PARTS, gpu_check.SEVERAL):
        for word in each.command:
            if word.startswith(("tests/", "benchmarks/")):
                assert (root / word).exists(), word
    assert sum(each.seconds for each in PARTS) <= gpu_check.LIMIT_SECONDS


def test_without_a_gpu_it_says_so_in_one_line():
    command = [sys.executable, "-m", "transferbench.benchmarks.speed.gpu_check"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no GPU here: torch")
    assert done.stderr.count("\n") == 1
