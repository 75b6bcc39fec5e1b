"""Name a command in a message."""

import shlex
from pathlib import Path


def command_hint(name: str, results: Path, *words: str) -> str:
    """Return a command line in backticks, ready to copy: a command, and the words that follow it."""
    return f"`{shlex.join(['transferbench', name, *words, f'results={results}'])}`"
