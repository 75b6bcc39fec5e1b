"""`reproduce`: repeat a run from its record, and compare the results."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ... import InputError
from ...analysis.records.answers import NAMES
from ...analysis.records.schema import read_record, record_path
from ...datasets.download import locate
from ..config.compose import request_for
from ..config.resolve import run_config
from ..config.schema import Role, RunConfig
from ..launch.plan import prepare_data
from ..launch.pool import num_threads
from ..launch.probe import check_networks
from ..training import record
from ..training.run import run_one

UNEQUAL = (
    "seconds",
    "data_sets",
    "started",
    "ended",
    "peak_memory_bytes",
    "peak_memory_of",
    "environment",
    "model",
)  # differ from run to run
PLACES = ("target", "source", "checkpoint", "device", "data.root", "data.mirror")  # not in a record


def reproduce(run: Path, given: Mapping[str, str], results: Path | None = None) -> int:
    """Repeat a run; return 0 if all numbers except times and memory are equal, else 1.

    Args:
        run: folder of the run, or its record.
        given: places of target, source and checkpoint on this machine, unless their names are known.
        results: a new results folder; None: `reproduced-<digest>`.

    Raises:
        InputError: data, code or settings differ from the record.
    """
    console = Console(highlight=False, soft_wrap=True)
    old = _record_of(run)
    _check_code(old["environment"], record.environment(torch.device("cpu")))
    config = _config_of(old, given)
    _check_config(old["config"], config.resolved())
    folder = results or Path(f"reproduced-{config.digest}")
    if record.read(config.folder(folder)) is not None:
        raise InputError(
            f"results={folder}: this run is there already; remove that folder, or name a new one"
        )
    record.open_results(folder)
    check_networks([config])
    prepare_data([config])
    torch.set_num_threads(old["environment"].get("threads") or num_threads(0, config.device, 1))
    new = run_one(config, folder)
    later = [name for name in NAMES if old.get(name) is None]  # an earlier version did not keep them
    found = list(differences(old, {name: value for name, value in new.items() if name not in later}))
    if not found:
        console.print(f"equal in all numbers except times and memory: {config.folder(folder)}", markup=False)
        return 0
    for line in [*found, *_causes(old["environment"], new["environment"])]:
        console.print(line, markup=False)
    return 1


def reproducible(content: Any) -> Any:
    """Return a record without what differs from run to run: times, memory, the machine."""
    if isinstance(content, dict):
        return {k: reproducible(v) for k, v in content.items() if k not in UNEQUAL}
    return [reproducible(v) for v in content] if isinstance(content, list) else content


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yield a line for every value that differs: its place, both values, and the difference."""
    old, new = (reproducible(old), reproducible(new)) if not name else (old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{name}[{i}]")
    elif old != new and name == "correct" and old and new:
        bits = [np.unpackbits(np.frombuffer(base64.b64decode(c), np.uint8)) for c in (old, new)]
        yield f"correct: differs for {(bits[0] != bits[1]).sum()} test images"
    elif old != new and name.split(".")[0] in NAMES:
        yield f"{name}: differs"
    elif old != new:
        by = f" ({new - old:+.3g})" if isinstance(old, float) and isinstance(new, float) else ""
        yield f"{name}: {old} in the record, {new} now{by}"


def _record_of(run: Path) -> dict[str, Any]:
    path = record_path(run) if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{run}: no record; expected the folder of a finished run")
    old = read_record(path)
    if old["role"] != Role.run:
        raise InputError(
            f"{path}: record of a {old['role']}; expected a run that uses it, which repeats both"
        )
    missing = {"config", "overrides", "environment", "method", "seed"} - old.keys()
    if missing:
        raise InputError(f"{path}: no {', '.join(sorted(missing))}; expected a record of a newer version")
    return old


def _check_code(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Check that the code is the same: by its hash if the record has it, else by its commit."""
    if old.get("code", new["code"]) == new["code"] and ("code" in old or _commit(old) == _commit(new)):
        return
    raise InputError(
        f"code: {_commit(old)} in the record, {_commit(new)} here; "
        "expected the same code, as by `git checkout` of that commit"
    )


def _commit(environment: Mapping[str, Any]) -> str:
    code = f", code {environment['code']}" if "code" in environment else ""
    return f"commit {environment['commit'][:12]}{' with changes' if environment['dirty'] else ''}{code}"


def _config_of(old: Mapping[str, Any], given: Mapping[str, str]) -> RunConfig:
    """Return the settings of the run of a record. Raises InputError if its data are not here."""
    for name in given:
        if name not in PLACES:
            raise InputError(f"{name}={given[name]}: fixed by the record; expected {', '.join(PLACES)}")
    locate.set_places(given.get("data.root"), given.get("data.mirror"))
    names = {"target": old["target"], "source": old["source"]}
    for role, name in names.items():
        if role not in given and ((old.get("data_sets") or {}).get(role) or {}).get("place"):
            raise InputError(f"{role}={name}: images of a path; expected {role}=PATH, where they are here")
    own = dict(word.split("=", 1) for word in old["overrides"])
    words = tuple(f"{name}={value}" for name, value in {**own, **names, **given}.items())
    request, settings = request_for(old["method"], words)
    config = run_config(request, old["method"], settings, old["seed"])
    return replace(config, deterministic=old["environment"].get("deterministic", False))


def _check_config(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Check that data and settings equal those of the record. Raises InputError with the first difference."""
    found = list(differences(old, new, "config"))
    if data := [line for line in found if line.startswith("config.data.")]:
        raise InputError(f"data: {data[0].removeprefix('config.data.')}; expected the same images")
    if found:
        raise InputError(f"settings: {found[0].removeprefix('config.')}; expected those of the record")


def _causes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Sequence[str]:
    """Return lines for differences of the machine that may be the cause."""
    names = ("device", "deterministic", "threads", "world_size", "versions")
    found = [line for name in names for line in differences(old.get(name), new.get(name), name)]
    return [f"possible cause: {line}" for line in found]
