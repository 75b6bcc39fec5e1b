"""transferbench: which transfer method should I use, what does it gain, what does it cost?"""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] != __path__[0].rpartition("/")[0]:
    del sys.path[0]  # `python -m` looks for modules in the working folder first, where anything may lie

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Results, bench, load, load_model

__all__ = ["InputError", "Results", "RunFailed", "__version__", "bench", "load", "load_model"]
__version__ = "0.2.0"


class InputError(ValueError):
    """An impossible request. The message names the setting, its value, and what would be valid.

    The command line prints it as one line and exits with 2.
    """


class RunFailed(RuntimeError):
    """A run that cannot continue, because of its results so far. The message names the cause and the place.

    The command line prints it as one line and exits with 1.
    """


def __getattr__(name: str) -> Any:
    """Return a function of `api`, which is imported when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)


def printable(text: str) -> str:
    """Return text that is safe for a terminal: control and invisible characters become blanks."""
    return "".join(char if char.isprintable() else " " for char in text)


def install_command(extra: str) -> str:
    """Return the command that adds an extra, and where: the package is on no index yet."""
    return f"`pip install -e '.[{extra}]'` in the clone of transferbench"


def nearest(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return the known names that are most like an unknown one; none if none is near."""
    import difflib  # only needed for errors

    return difflib.get_close_matches(name, list(known), n=most)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: `; did you mean 'x'?`, or a full stop."""
    near = nearest(name, known)
    return f"; did you mean '{near[0]}'?" if near else "."
