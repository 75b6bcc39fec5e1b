"""Find a method by name: each file of this folder with a subclass of Method is a method."""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from .. import InputError, suggest
from .base import Method

IS_ONE = re.compile(r"^class \w+\(Method\[", re.MULTILINE)  # importing all files would take seconds


@cache
def names() -> tuple[str, ...]:
    """Return the names of all methods."""
    files = Path(__file__).parent.glob("*.py")
    return tuple(sorted(f.stem for f in files if IS_ONE.search(f.read_text(encoding="utf-8"))))


def load(name: str) -> type[Method[Any]]:
    """Return a method's class. Raises InputError for an unknown name, with the nearest known one."""
    if name not in names():
        known = ", ".join(n for n in names() if n != "pretrain")
        raise InputError(
            f"no method '{name}'{suggest(name, names())} Known: {known} (`transferbench methods`)"
        )
    module = importlib.import_module(f".{name}", __package__)
    (found,) = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    return found
