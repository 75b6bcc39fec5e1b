"""Check the place of a file that a command is asked to write."""

from collections.abc import Iterable
from pathlib import Path

from ... import InputError


def check_out(out: Path, suffix: str, inputs: Iterable[Path], kind: str) -> None:
    """Check that a file has a place, the right suffix, and replaces none of the command's inputs.

    Args:
        out: the file.
        suffix: how its name has to end.
        inputs: paths that the command reads, if they exist.
        kind: what the inputs are, for the error.

    Raises:
        InputError: names what is wrong with `out`.
    """
    if not out.parent.is_dir() or out.is_dir():
        raise InputError(f"out={out}: expected a file in a folder that exists")
    if out.suffix.lower() != suffix:
        raise InputError(f"out={out}: expected a name that ends in {suffix}, as out=a{suffix}")
    if out.exists() and any(path.exists() and path.samefile(out) for path in inputs):
        raise InputError(f"out={out}: {kind}; expected another file")
