"""What only a real GPU can tell, in ten minutes: `make gpu-check`.

Each part is a command with a limit of seconds. Parts that passed are not repeated by a second call. The
answers are in `results/gpu-check.json` and, to be read, in `results/gpu-check.md`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...datasets.files.atomic import atomic_write

LIMIT_SECONDS = 540.0
LEAST_SECONDS = 15.0  # with less time left a part is not begun
MOST_CHARACTERS = 6000  # of a part's output that are kept, from its end
TESTS = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-n", "0")
SPEED = (
    *(*TESTS, "benchmarks/speed", "-o", "python_files=bench_*.py", "-o", "python_functions=bench_*"),
    *("--benchmark-only", "--benchmark-columns=median,iqr,rounds"),
)
RUN = (sys.executable, "-m", "transferbench.benchmarks.cli")


@dataclass(frozen=True)
class Part:
    """One question for the GPU."""

    name: str
    seconds: float  # that it may take
    shows: str  # what has to come out
    command: Sequence[str]


PARTS = (
    Part("waits", 60, "no step waits for the GPU", (*TESTS, "-m", "gpu", "tests/methods/test_no_waiting.py")),
    Part(
        "methods",
        200,
        "every method has the values of a CPU, and resumes",
        (*TESTS, "-m", "gpu", "tests/methods/test_real_gpu.py", "--durations=5"),
    ),
    Part(
        "bench",
        60,
        "a bench runs from end to end",
        (
            *(*RUN, "bench", "target=digits", "source=glyphs", "methods=finetune,l2tl,l2tl_gradients"),
            *("seeds=1", "device=cuda", "recipe.steps=60", "source_recipe.steps=60", "yes=true"),
        ),
    ),
    Part(
        "speed",
        150,
        "fine-tuning as fast as timm's loop; a step of L2TL at most 3.4 of fine-tuning",
        (*SPEED, "-k", "inception and (finetune_step or l2tl_step)"),
    ),
    Part("memory", 60, "L2TL's peak is at most 1.15 of fine-tuning's", (*SPEED, "-k", "peak_of_l2tl")),
    Part("sharing", 60, "two runs on one GPU do 1.5 times the work of one", (*SPEED, "-k", "share_a_gpu")),
)


def check(parts: Sequence[Part], folder: Path, limit: float = LIMIT_SECONDS) -> bool:
    """Run the parts that have not passed yet, until the time is over; return whether all have passed.

    Args:
        parts: in the order in which they are asked.
        folder: for `gpu-check.json`, which a later call continues, and `gpu-check.md`.
        limit: seconds for all.
    """
    answers = _answers(folder)
    end = time.monotonic() + limit
    for part in parts:
        left = end - time.monotonic()
        if (answers.get(part.name) or {}).get("passed") or left < LEAST_SECONDS:
            continue
        print(f"{part.name}: {part.shows}; up to {min(part.seconds, left):.0f} s", flush=True)
        answers[part.name] = asked(part, min(part.seconds, left))
        _write(folder, parts, answers)
        print(f"  {_verdict(answers[part.name])}", flush=True)
    _write(folder, parts, answers)
    print(folder / "gpu-check.md")
    return all((answers.get(part.name) or {}).get("passed") for part in parts)


def asked(part: Part, seconds: float) -> dict[str, Any]:
    """Return the answer of a part: whether it passed, its seconds, and the end of its output."""
    begin = time.monotonic()
    try:
        done = subprocess.run(
            part.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        code, said = str(done.returncode), done.stdout
    except subprocess.TimeoutExpired as error:
        code, said = "out of time", (error.stdout or b"").decode(errors="replace")
    took = round(time.monotonic() - begin, 1)
    return {"passed": code == "0", "code": code, "seconds": took, "output": said[-MOST_CHARACTERS:]}


def _answers(folder: Path) -> dict[str, Any]:
    """Return the answers of an earlier call on this GPU; none of another one."""
    try:
        known = json.loads((folder / "gpu-check.json").read_text(encoding="utf-8"))
        return dict(known["answers"]) if known["device"] == device_name() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def device_name() -> str:
    """Return the name of the GPU, with the version of torch."""
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def _verdict(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "not asked: no time was left; call again"
    word = "passed" if answer["passed"] else f"FAILED ({answer['code']})"
    return f"{word} in {answer['seconds']:.0f} s"


def _write(folder: Path, parts: Sequence[Part], answers: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "gpu-check.json") as draft:
        draft.write_text(
            json.dumps({"device": device_name(), "answers": answers}, indent=1), encoding="utf-8"
        )
    lines = [f"# GPU check: {device_name()}", "", "| part | shows | answer |", "| --- | --- | --- |"]
    lines += [f"| {p.name} | {p.shows} | {_verdict(answers.get(p.name))} |" for p in parts]
    for part in parts:
        if answer := answers.get(part.name):
            lines += ["", f"## {part.name}", "", "```", answer["output"].strip(), "```"]
    with atomic_write(folder / "gpu-check.md") as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Check the GPU of this machine; return the exit code."""
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        print(f"no GPU here: torch {torch.__version__} ({build}) sees none", file=sys.stderr)
        return 2
    return 0 if check(PARTS, Path("results")) else 1


if __name__ == "__main__":
    raise SystemExit(main())
