"""Puts made copies of official data sets where a mirror or a user has them, and checks what is read."""

import hashlib
import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
from layouts import pictures
from loopback import Loopback
from transferbench.datasets import catalog
from transferbench.datasets.base import Dataset
from transferbench.datasets.obtain import unpack


def layout(name: str) -> ModuleType:
    """Give the module that writes a set small."""
    return importlib.import_module(f"layouts.{name.replace('-', '_')}")


def reader(name: str) -> ModuleType:
    """Give the module that reads a set."""
    return importlib.import_module(f"transferbench.datasets.{name.replace('-', '_')}")


def serve(server: Loopback, name: str) -> Path:
    """Put a small set's archives on the mirror, with their sums."""
    folder = server.folder / name
    layout(name).write(folder)
    sums = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def check(found: Dataset, name: str) -> None:
    """See that a small set has its parts, and each image the label and part that its colour tells."""
    own = layout(name)
    seen = getattr(own, "seen", pictures.seen)
    drawn = getattr(own, "DRAWN", False)
    assert {part: len(content.labels) for part, content in found.parts.items()} == own.SMALL
    for part, content in found.parts.items():
        side = found.side if hasattr(own, "seen") else 8
        shown = [seen(content.images.decode(i, side)[0]) for i in range(len(content.labels))]
        origin = "train" if drawn and part == "holdout" else part
        assert [s[1] for s in shown] == [origin] * len(shown)
        assert [s[0] for s in shown] == [np.asarray(label).tolist() for label in content.labels]
    assert len(set(found.classes)) == len(found.classes)
    assert not [
        c for c in found.classes if not c or re.fullmatch(r"n\d{8}", c)
    ]  # words, as tables print them
    assert any(f"{name}: not the published split" in note for note in found.notes)


def place_unpacked(name: str, folder: Path, tmp_path: Path) -> None:
    """Put a small set unpacked where a user would."""
    own = layout(name)
    archives = catalog.about(name).archives
    if not archives:  # what a person gets by hand is written as it is used
        own.write(folder)
        return
    own.write(tmp_path / "packed")
    with unpack.draft(folder) as draft:
        for archive in archives:
            file = tmp_path / "packed" / archive.file_name
            if archive.unpack:
                unpack.extract(file, draft / archive.into)
            else:
                (draft / archive.into / archive.file_name).write_bytes(file.read_bytes())
