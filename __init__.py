"""transferbench: which transfer method should I use, what does it gain, what does it cost?"""

__version__ = "0.2.0"


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
