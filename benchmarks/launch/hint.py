"""Name a command in a message."""

import shlex
from pathlib import Path


def command_hint(name: str, results: Path, *words: str) -> str:
    """Return a command line in backticks, ready to copy; the usual results folder is not named."""
    where = [] if results == Path("results") else [f"results={results}"]
    return f"`{shlex.join(['transferbench', name, *words, *where])}`"
