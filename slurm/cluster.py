"""What is to be known of a cluster, read from a short YAML file."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import InputError
from ..plain_yaml import read_yaml

HERE = Path(__file__).parent / "clusters"


@dataclass(frozen=True)
class Cluster:
    """Where jobs go and what each may ask for. What is left out, SLURM decides."""

    name: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = None  # as gpu:a100:1
    constraint: str | None = None
    gpus_per_node: int | None = None  # where no gres is given
    nodes: int = 1  # of one run
    tasks_per_node: int = 1  # processes of one run on each node, a GPU each; its batches are split among all
    cpus_per_task: int = 1
    memory_gb: float = 8.0  # of one process, where no earlier run tells
    minutes: int = 240  # at most asked at first; a longer run goes on in its next turn
    signal_seconds: int = 90  # before its time is over, a job is told to save
    restarts: int = 3  # of a job whose process was killed; preemption and the time limit are not counted
    array_parallelism: int = 64
    max_array: int | None = None  # null: what `scontrol show config` says
    runs_per_gpu: int = 1  # small runs that share one job and its GPU
    setup: list[str] = field(default_factory=list)  # shell lines before Python starts, as module load
    python: str | None = None  # null: the one that submits
    scratch: str | None = None  # a node's own fast disk, where images are copied to; $VARIABLES are the job's
    sbatch: dict[str, Any] = field(default_factory=dict)  # any other option of sbatch, without its dashes

    @property
    def processes(self) -> int:
        """Count the processes that share one run."""
        return self.nodes * self.tasks_per_node


def names() -> list[str]:
    """List the clusters that are known by name."""
    return sorted(p.stem for p in HERE.glob("*.yaml"))


def load(name: str | None) -> Cluster:
    """Read a cluster by name, or from a path that ends in .yaml.

    Raises: InputError for an unknown name or key, a value of another type, or two that contradict.
    """
    if not name:
        raise InputError(f"cluster: not given; known: {', '.join(names())}, or a path that ends in .yaml")
    path = Path(name) if name.endswith((".yaml", ".yml")) else HERE / f"{name}.yaml"
    if not path.is_file():
        raise InputError(
            f"cluster={name}: no such file"
            if path == Path(name)
            else f"cluster={name}: not known{suggestion(name, names())} Known: {', '.join(names())}, "
            "or a path that ends in .yaml"
        )
    content = read_yaml(path)
    types = {f.name: f.type for f in fields(Cluster) if f.name != "name"}
    for key, value in content.items():
        _check(path, key, value, types)
        _check_text(path, key, value)
    cluster = Cluster(path.stem, **content)
    if cluster.runs_per_gpu > 1 and cluster.processes > 1:
        raise InputError(
            f"{path}: runs_per_gpu={cluster.runs_per_gpu} with {cluster.processes} processes a run; "
            "expected 1 of either"
        )
    return cluster


def _check(path: Path, key: str, value: Any, types: dict[str, Any]) -> None:
    if key not in types:
        raise InputError(f"{path}: no setting '{key}'{suggestion(key, types)} Known: {', '.join(types)}")
    expected = types[key]
    if isinstance(value, bool) or not isinstance(value, _instance_type(expected)):
        raise InputError(f"{path}: {key}={value!s:.60}: expected {_type_name(expected)}")
    least = 0 if key in ("restarts", "signal_seconds", "gpus_per_node") else 1e-3
    if isinstance(value, int | float) and value < least:
        raise InputError(f"{path}: {key}={value}: expected {'0 or more' if not least else 'more than 0'}")


def _check_text(path: Path, key: str, value: Any) -> None:
    """See that what goes into a job's script keeps to its line and its quotes; `setup` is shell by intent."""
    if key == "setup" and not all(isinstance(line, str) for line in value):
        raise InputError(f"{path}: setup: expected a list of shell lines")
    if key == "scratch" and not re.fullmatch(r"[\w./${}:@+-]*", value or ""):
        raise InputError(f"{path}: scratch={value!r}: expected a path, in which $NAME may stand")
    of_sbatch = value if key == "sbatch" else {}
    for name, own in of_sbatch.items():
        if not (re.fullmatch(r"[\w-]+", str(name)) and isinstance(own, str | int | float)):
            raise InputError(f"{path}: sbatch: {name!r:.60}: expected an option without dashes and its value")
    for text in (value, *of_sbatch.values()):
        if isinstance(text, str) and not text.isprintable():
            raise InputError(f"{path}: {key}={text!r:.60}: expected one line of text")


def _instance_type(expected: Any) -> Any:
    """Give what isinstance takes; a whole number is a number, too."""
    text = str(expected)
    if "list" in text:
        return list
    if "dict" in text:
        return dict
    return expected | int if expected is float else expected


def _type_name(expected: Any) -> str:
    text = str(expected)
    kinds = {"list": "a list of shell lines", "dict": "names and values", "int": "a whole number"}
    kinds |= {"float": "a number", "str": "text"}
    return next(words for kind, words in kinds.items() if kind in text)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest name, as the end of a sentence."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{found[0]}'?" if found else "."
