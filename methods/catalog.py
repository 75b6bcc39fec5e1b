"""Find a method by name: each module of this folder with a Method in it is one."""

import difflib
import importlib
import pkgutil

from .. import InputError
from . import __path__ as here
from .base import Method

MACHINERY = (
    "base",
    "blocks",
    "catalog",
    "channel_attention",
    "class_means",
    "credit",
    "encoders",
    "feature_matching",
    "joint",
    "lookahead",
    "metrics",
    "network",
    "policy",
    "recipe",
    "relationship",
    "tap_choice",
    "taps",
    "tasks",
    "trajectory",
    "unrolled_sgd",
    "value_estimator",
    "weights",
)


def names() -> list[str]:
    """List the methods."""
    return sorted(m.name for m in pkgutil.iter_modules(here) if not m.name.startswith(MACHINERY))


def load(name: str) -> type[Method]:
    """Get a method's class. Raises: InputError for an unknown name, with the nearest known one."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        known = ", ".join(n for n in names() if n != "pretrain")
        raise InputError(f"no method '{name}'{hint} Known: {known} (`transferbench methods`)")
    module = importlib.import_module(f".{name}", __package__)
    (found,) = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    return found
