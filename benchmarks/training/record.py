"""Read and write the files of a run's folder; every write is atomic."""

import base64
import hashlib
import io
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import InputError
from ...analysis.records.schema import is_done, read_record, record_path
from ...datasets import distributed
from ...datasets.files.atomic import atomic_write, path_in_errors

FORMAT = 1  # format of a results folder; a record has its own
MARKER = "transferbench.json"
ROOT = Path(__file__).parents[2]
# What a GPU may round
TF32: dict[str, Any] = {"convolutions": torch.backends.cudnn, "products": torch.backends.cuda.matmul}


def open_results(results: Path, images: Iterable[str] = (), writes: bool = True) -> None:
    """Create a results folder, or check that it has the format of this version.

    Args:
        results: the folder.
        images: names or paths of the data sets that are read.
        writes: create the folder; otherwise only check that this would work.

    Raises:
        InputError: another version wrote the folder, it contains images or lies among them, or it cannot be
            written.
    """
    for place in map(Path, images):
        if place.is_dir() and place.resolve().is_relative_to(results.resolve()):
            raise InputError(
                f"results={results}: contains the images of {place}; expected a folder without images"
            )
        if place.is_dir() and results.resolve().is_relative_to(place.resolve()):
            raise InputError(
                f"results={results}: inside the images of {place}; expected results=PATH elsewhere"
            )
    marker = results / MARKER
    if marker.exists():
        try:
            found = json.loads(marker.read_text(encoding="utf-8")).get("format")
        except (json.JSONDecodeError, AttributeError):
            found = "unreadable"
        if found != FORMAT:
            raise InputError(
                f"results={results}: written in format {found}, this version writes {FORMAT}; "
                "put new results elsewhere with results=PATH"
            )
        return
    if results.exists() and not results.is_dir():
        raise InputError(f"results={results}: not a folder")
    if not writes:
        return
    try:
        results.mkdir(parents=True, exist_ok=True)
        write_json(marker, {"format": FORMAT})
    except OSError as error:
        raise InputError(_not_writable(results, error.strerror)) from error


def is_writable(results: Path) -> bool:
    """Return whether new runs have a place in a results folder."""
    return os.access(results, os.W_OK)


def check_writable(results: Path) -> None:
    """Check that new runs have a place. Raises: InputError."""
    if not is_writable(results):
        raise InputError(_not_writable(results, "read-only"))


def _not_writable(results: Path, reason: str | None) -> str:
    return f"results={results}: cannot be written ({reason}); choose another place with results=PATH"


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: to a draft, which is then renamed."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors atomically; serialize in memory first, since torch.save hides a full disk's error."""
    packed_content = io.BytesIO()
    torch.save(content, packed_content)
    with atomic_write(path) as draft:
        draft.write_bytes(packed_content.getbuffer())


def read(folder: Path) -> dict[str, Any] | None:
    """Return a run's record, or None if the run is not done. Raises InputError for a damaged or newer one."""
    return read_record(record_path(folder)) if is_done(folder) else None


def packed(correct: np.ndarray) -> str:
    """Return booleans as packed bits in base64."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def now() -> str:
    """Return the time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def environment(device: torch.device) -> dict[str, Any]:
    """Return the versions of the code and the description of the machine, for the record."""
    commit, dirty = _code()
    libraries = ("torch", "torchvision", "timm", "numpy")
    return {
        "commit": commit,
        "dirty": dirty,
        "code": code_fingerprint(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu ({platform.machine()})",
        "tf32": [name for name, part in TF32.items() if part.allow_tf32] if device.type == "cuda" else [],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "host": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "world_size": distributed.size(),
    }


@cache
def code_fingerprint(folders: tuple[str, ...] = ("benchmarks", "datasets", "methods")) -> str:
    """Return a hash of all source files that can change a result; independent of commit and place."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix in (".py", ".yaml", ".txt"):
                digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _code() -> tuple[str, bool]:
    """Return the commit and whether the code differs from it, from a snapshot's note or from git.

    The commit is "unknown" where there is neither, or git is not installed.
    """
    if (ROOT / "COMMIT").exists():
        noted = json.loads((ROOT / "COMMIT").read_text(encoding="utf-8"))
        return noted["commit"], noted["dirty"]
    if not (ROOT / ".git").exists():  # git would look in the folders above
        return "unknown", False
    return _git("rev-parse", "HEAD") or "unknown", bool(_git("status", "--porcelain"))


def _git(*words: str) -> str:
    """Return what git prints of the suite's folder; empty if it fails, or there is none."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False, encoding="utf-8"
        ).stdout.strip()
    except OSError:
        return ""


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append one line of JSON and flush it."""
    with path_in_errors(path), path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(content) + "\n")
        f.flush()
        os.fsync(f.fileno())
