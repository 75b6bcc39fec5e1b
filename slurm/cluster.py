"""Read the settings of a cluster from a short YAML file."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import InputError, suggest
from ..plain_yaml import read_yaml

HERE = Path(__file__).parent / "clusters"


@dataclass(frozen=True)
class Cluster:
    """The destination of jobs, and the resources of each. SLURM decides about missing settings."""

    name: str
    partition: str | None = None  # partition, as for sbatch
    account: str | None = None  # account, as for sbatch
    qos: str | None = None  # quality of service, as for sbatch
    gres: str | None = None  # for example gpu:a100:1
    constraint: str | None = None  # constraint on nodes, as for sbatch
    gpus_per_node: int | None = None  # if no gres is given
    nodes: int = 1  # per run
    tasks_per_node: int = 1  # processes of one run on each node, with one GPU each; they share each batch
    cpus_per_task: int = 1  # CPU cores per process
    memory_gb: float = 8.0  # per process, if no earlier run gives an estimate
    minutes: int = 240  # time limit of the first job; a longer run resumes in its next job
    signal_seconds: int = 90  # this long before its time limit, a job is signaled to save
    restarts: int = 3  # of a job after a killed process; preemption and time limits do not count
    array_parallelism: int = 64  # largest number of array jobs at a time
    max_array: int | None = None  # null: as in `scontrol show config`
    runs_per_gpu: int = 1  # small runs that share a job and its GPU
    setup: list[str] = field(default_factory=list)  # shell lines before Python starts, such as module load
    python: str | None = None  # null: the Python that submits
    scratch: str | None = (
        None  # a node's fast local disk for copies of images; may contain the job's $VARIABLES
    )
    sbatch: dict[str, Any] = field(default_factory=dict)  # other options of sbatch, without dashes

    @property
    def processes(self) -> int:
        """Return the number of processes of one run."""
        return self.nodes * self.tasks_per_node


def names() -> list[str]:
    """Return the names of the known clusters."""
    return sorted(p.stem for p in HERE.glob("*.yaml"))


def load(name: str | None) -> Cluster:
    """Read a cluster by name, or from a path that ends in .yaml.

    Raises:
        InputError: for an unknown name or key, a wrong type, or contradicting settings.
    """
    if not name:
        raise InputError(f"cluster: missing; known: {', '.join(names())}, or a path that ends in .yaml")
    path = Path(name) if name.endswith((".yaml", ".yml")) else HERE / f"{name}.yaml"
    if not path.is_file():
        raise InputError(
            f"cluster={name}: no such file"
            if path == Path(name)
            else f"cluster={name}: not known{suggest(name, names())} Known: {', '.join(names())}, "
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
            f"{path}: runs_per_gpu={cluster.runs_per_gpu} with {cluster.processes} processes per run; "
            "expected 1 of either"
        )
    return cluster


def _check(path: Path, key: str, value: Any, types: dict[str, Any]) -> None:
    if key not in types:
        raise InputError(f"{path}: no setting '{key}'{suggest(key, types)} Known: {', '.join(types)}")
    expected = types[key]
    if isinstance(value, bool) or not isinstance(value, _instance_type(expected)):
        raise InputError(f"{path}: {key}={value!s:.60}: expected {_type_name(expected)}")
    least = 0 if key in ("restarts", "signal_seconds", "gpus_per_node") else 1e-3
    if isinstance(value, int | float) and value < least:
        raise InputError(f"{path}: {key}={value}: expected {'0 or more' if not least else 'more than 0'}")


def _check_text(path: Path, key: str, value: Any) -> None:
    """Check that texts cannot break a job's script; only `setup` is shell code."""
    if key == "setup" and not all(isinstance(line, str) for line in value):
        raise InputError(f"{path}: setup: expected a list of shell lines")
    if key == "scratch" and not re.fullmatch(r"[\w./${}:@+-]*", value or ""):
        raise InputError(f"{path}: scratch={value!r}: expected a path, which may contain $NAME")
    of_sbatch = value if key == "sbatch" else {}
    for name, own in of_sbatch.items():
        if not (re.fullmatch(r"[\w-]+", str(name)) and isinstance(own, str | int | float)):
            raise InputError(f"{path}: sbatch: {name!r:.60}: expected an option without dashes and its value")
    for text in (value, *of_sbatch.values()):
        if isinstance(text, str) and not text.isprintable():
            raise InputError(f"{path}: {key}={text!r:.60}: expected one line of text")


def _instance_type(expected: Any) -> Any:
    """Return the type for isinstance; an int is valid for a float."""
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
