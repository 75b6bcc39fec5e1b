"""transferbench: which transfer method should I use, what does it gain, what does it cost?"""

from collections.abc import Iterable

__version__ = "0.1.0"


class InputError(ValueError):
    """What was asked for cannot be done; the message names the thing, the value and what would be right.

    The command line prints it as one line and exits with 2.
    """


class RunFailed(RuntimeError):
    """A run that cannot go on by what came out of it; the message names what, where, and what is left.

    The command line prints it as one line and exits with 1.
    """


def printable(text: str) -> str:
    """Give text for a terminal: every sign that moves its cursor or cannot be seen becomes a blank."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like an unknown one, or None where none is near."""
    import difflib  # for errors alone

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence on an unknown name: `; did you mean 'x'?`, or a full stop."""
    near = nearest(name, known)
    return f"; did you mean '{near}'?" if near else "."
