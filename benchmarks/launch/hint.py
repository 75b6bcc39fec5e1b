"""Name a command in a message."""

import shlex
from pathlib import Path


def command_hint(words: str, results: Path) -> str:
    """Return a command line in backticks, ready to copy: a command, and what follows it."""
    return f"`{shlex.join(['transferbench', *words.split(), f'results={results}'])}`"
