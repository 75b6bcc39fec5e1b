"""What only a real GPU can tell, in ten minutes: `make gpu-check`.

Each part is a command with a limit of seconds. A second call does not repeat what this code has passed. First
come parts that were not asked yet, then those that failed, then those that other code has passed. The answers
are in `results/gpu-check.json` and, to be read, in `results/gpu-check.md`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import torch

from ... import InputError
from ...analysis.speed import figures, met, read, row
from ...datasets.files.atomic import atomic_write
from ..training.record import code_fingerprint

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 540.0
LEAST_SECONDS = 15.0  # with less time left a part is not begun
GRACE_SECONDS = 5.0  # after the limit, in which a part may say what failed and where it was
MOST_CHARACTERS = 6000  # of a part's output that are kept, from its end
REAL = "tests/methods/test_real_gpu.py"
CODE = ("analysis", "benchmarks", "datasets", "methods", "tests")  # folders whose files an answer depends on
FOLDER = "{folder}"  # in a command: a fresh folder for what it writes
OUT_OF_TIME = "out of time"
FENCE = "~" * 8  # around an output, which may hold the usual ones
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # characters that no text file should hold
REPORT_ERRORS = (InputError, ValueError, TypeError, KeyError, AttributeError, ElementTree.ParseError)
JUNIT, FIGURES = "junit.xml", "figures.json"
TESTS = (
    sys.executable,
    "-m",
    "pytest",
    "-p",
    "no:cacheprovider",
    "-v",
    "--tb=short",
    "-n",
    "0",
    f"--junitxml={FOLDER}/{JUNIT}",
)
SPEED = (
    *(*TESTS, "benchmarks/speed", "-o", "python_files=bench_*.py", "-o", "python_functions=bench_*"),
    *("--benchmark-only", "--benchmark-columns=median,iqr,rounds", f"--benchmark-json={FOLDER}/{FIGURES}"),
)
RUN = (sys.executable, "-m", "transferbench.benchmarks.cli")
ANSWER_TYPES: dict[str, Any] = {
    "passed": bool,
    "exit": str,
    "code": str,
    "seconds": (int, float),
    "output": str,
    "command": list,
}


@dataclass(frozen=True)
class Part:
    """One question for the GPU."""

    name: str
    seconds: float  # that it may take
    shows: str  # what has to come out
    command: Sequence[str]


PARTS = (
    Part(
        "waits",
        70,
        "no step waits for the GPU",
        (*TESTS, "-m", "gpu", "-k", "wait", "tests/methods/test_no_waiting.py", REAL),
    ),
    Part(
        "methods",
        110,
        "every method has the losses of a CPU, and resumes; no credit is rounded",
        (*TESTS, "-m", "gpu", "-k", "not setting and not wait", REAL, "tests/methods/test_rounding.py"),
    ),
    Part(
        "settings",
        105,
        "bf16, compiled and other settings have the losses of a CPU",
        (*TESTS, "-m", "gpu", "-k", "setting", REAL),
    ),
    Part(
        "bench",
        40,
        "a bench runs from end to end",
        (
            *(*RUN, "bench", "target=digits", "source=glyphs", "methods=finetune,l2tl,l2tl_gradients"),
            *("seeds=1", "device=cuda", "recipe.steps=60", "source_recipe.steps=60", "yes=true"),
            f"results={FOLDER}/results",
        ),
    ),
    Part(
        "speed",
        120,
        "fine-tuning as fast as timm's loop, a step of L2TL as its operations say; compiled no slower",
        (*SPEED, "-k", "inception and (finetune_step or l2tl_step or compiled_step or from_disk)"),
    ),
    Part(
        "memory",
        40,
        "L2TL's peak is at most 1.15 of fine-tuning's, and the estimate near the peak",
        (*SPEED, "-k", "peak_of"),
    ),
    Part(
        "sharing", 55, "several runs on one GPU do 1.5 times the work of one", (*SPEED, "-k", "share_a_gpu")
    ),
)
SEVERAL = Part(
    "processes",
    60,
    "two GPUs that share a run compute what one computes",
    (*TESTS, "-m", "gpu", "tests/benchmarks/test_several_processes.py"),
)


def check(parts: Sequence[Part], folder: Path, limit: float = LIMIT_SECONDS) -> bool:
    """Run the parts that have not passed yet, until the time is over; return whether all have passed.

    Args:
        parts: in the order in which they are asked; those without an answer come first.
        folder: for `gpu-check.json`, which a later call continues, and `gpu-check.md`.
        limit: seconds for all.

    Raises:
        OSError: if the folder cannot be written.
    """
    answers = _answers(parts, folder)
    _write(folder, parts, answers)
    end = time.monotonic() + limit
    for part in sorted(parts, key=lambda part: _order(answers.get(part.name))):
        left = end - time.monotonic()
        if _passed(answers.get(part.name)):
            continue
        if left < LEAST_SECONDS:
            print(f"{part.name}: not asked, no time was left; call again", flush=True)
            continue
        print(f"{part.name}: {part.shows}; up to {min(part.seconds, left):.0f} s", flush=True)
        answers[part.name] = asked(part, min(part.seconds, left))
        _write(folder, parts, answers)
        print(f"  {_verdict(answers[part.name])}", flush=True)
    print(folder / "gpu-check.md")
    return all(_passed(answers.get(part.name)) for part in parts)


def _order(answer: dict[str, Any] | None) -> int:
    """Return the place of a part among the others: not asked, failed, passed by some code."""
    return 0 if answer is None else 1 + answer["passed"]


def _passed(answer: dict[str, Any] | None) -> bool:
    """Return whether a part has passed with this code."""
    return answer is not None and answer["passed"] and answer["code"] == code_fingerprint(CODE)


def asked(part: Part, seconds: float) -> dict[str, Any]:
    """Return the answer of a part: whether it passed, its seconds, and the end of its output.

    Tests that are skipped, and figures beyond their bounds, fail. At the limit it is interrupted, so that it
    says what has failed before; then all its processes are killed.
    """
    begin, lines = time.monotonic(), list[str]()
    with TemporaryDirectory() as name:
        folder = Path(name)
        command = [word.replace(FOLDER, name) for word in part.command]
        try:
            said = _exit(command, folder / "output", seconds)
            if said == OUT_OF_TIME and seconds < part.seconds:
                lines = [f"cut off after {seconds:.0f} of {part.seconds:.0f} s: call again"]
            lines.append((folder / "output").read_text(encoding="utf-8", errors="replace")[-MOST_CHARACTERS:])
            measured, missed = _figures(folder / FIGURES)
            lines = [*measured, *lines]
            if said == "0":
                said = _why_not(part, folder, measured, missed) or said
        except OSError as error:
            said = f"could not be asked: {error}"
        except REPORT_ERRORS as error:
            said = f"its report cannot be read: {error!r:.200}"
    return {
        "passed": said == "0",
        "exit": said,
        "code": code_fingerprint(CODE),
        "seconds": round(time.monotonic() - begin, 1),
        "output": CONTROL.sub("?", "\n".join(lines)),
        "command": list(part.command),
    }


def _why_not(part: Part, folder: Path, measured: Sequence[str], missed: Sequence[str]) -> str:
    """Return why a part whose command succeeded does not pass; empty if it does."""
    if not _ran(folder / JUNIT):
        return "tests were skipped, or none ran"
    if not measured and f"--benchmark-json={FOLDER}/{FIGURES}" in part.command:
        return "measured nothing"
    return f"beyond its bound: {', '.join(missed)}" if missed else ""


def _exit(command: Sequence[str], output: Path, seconds: float) -> str:
    """Run a command in the project's folder; return its exit code, or `OUT_OF_TIME`."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_take_interrupts,
        )
        try:
            code = process.wait(seconds)
            return f"killed by {signal.Signals(-code).name}" if code < 0 else str(code)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            return OUT_OF_TIME
        finally:  # of what it has started, too: it would go on using the GPU
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _take_interrupts() -> None:
    """Let a process be interrupted that is started by one in the background, which is not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _ran(report: Path) -> bool:
    """Return whether tests ran and none was skipped; a part that runs no tests has no report."""
    if not report.exists():
        return True
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    ran, skipped = (sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "skipped"))
    return ran > 0 and not skipped


def _figures(report: Path) -> tuple[list[str], list[str]]:
    """Return a line for each figure that a part measured, and the names of those beyond their bounds."""
    if not report.exists() or not report.stat().st_size:
        return [], []
    found = figures(read(report))
    lines = [f"{f['what']}: {f['value']:.3g} {f['unit']}, {row(f)[3]}".removesuffix(", ") for f in found]
    return lines, [f["what"] for f in found if met(f) is False]


def _answers(parts: Sequence[Part], folder: Path) -> dict[str, Any]:
    """Return the answers of earlier calls to the same commands on this GPU; a damaged file has none."""
    told = _known(folder).get(device_name())
    if not isinstance(told, dict):
        return {}
    return {
        part.name: told[part.name] for part in parts if _is_answer(told.get(part.name), list(part.command))
    }


def _known(folder: Path) -> dict[str, Any]:
    """Return the answers of all GPUs that were asked, by their names."""
    try:
        return dict(json.loads((folder / "gpu-check.json").read_text(encoding="utf-8"))["devices"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _is_answer(told: Any, command: list[str]) -> bool:
    return (
        isinstance(told, dict)
        and all(isinstance(told.get(key), kind) for key, kind in ANSWER_TYPES.items())
        and told["command"] == command
    )


def device_name() -> str:
    """Return the name of the GPU, with the version of torch."""
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def _verdict(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "not asked yet; call again"
    word = "passed" if answer["passed"] else f"FAILED ({answer['exit']})"
    stale = "" if answer["code"] == code_fingerprint(CODE) else ", by other code; call again"
    return f"{word} in {answer['seconds']:.0f} s{stale}"


def _write(folder: Path, parts: Sequence[Part], answers: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder)
    before = known.get(device_name())
    known[device_name()] = {**(before if isinstance(before, dict) else {}), **answers}
    with atomic_write(folder / "gpu-check.json") as draft:
        draft.write_text(json.dumps({"devices": known}, indent=1), encoding="utf-8")
    lines = [f"# GPU check: {device_name()}", "", "| part | shows | answer |", "| --- | --- | --- |"]
    lines += [f"| {p.name} | {p.shows} | {_verdict(answers.get(p.name))} |" for p in parts]
    for part in parts:
        if answer := answers.get(part.name):
            lines += ["", f"## {part.name}", "", FENCE, answer["output"].strip(), FENCE]
    with atomic_write(folder / "gpu-check.md") as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")


def main() -> int:
    """Check the GPU of this machine; return the exit code."""
    ArgumentParser(description="Ask a GPU what only a real one can tell, in up to ten minutes.").parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: a part ends with the check
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, signal.default_int_handler)
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        print(f"no GPU here: torch {torch.__version__} ({build}) sees none", file=sys.stderr)
        return 2
    if not (ROOT / "tests").is_dir():
        print(f"no tests in {ROOT}: expected a clone of the project, not a wheel", file=sys.stderr)
        return 2
    try:
        parts = (*PARTS, SEVERAL) if torch.cuda.device_count() > 1 else PARTS
        return 0 if check(parts, Path("results")) else 1
    except OSError as error:
        print(f"results: {error}; expected a folder that can be written", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; call again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
