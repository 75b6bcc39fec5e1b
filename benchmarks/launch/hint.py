"""Name a command in a message."""

import shlex
from pathlib import Path


def command_hint(name: str, results: Path) -> str:
    """Return a command line in backticks, ready to copy."""
    return f"`{shlex.join(['transferbench', name, f'results={results}'])}`"
