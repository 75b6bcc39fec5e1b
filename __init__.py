"""transferbench: which transfer method should I use, what does it gain, what does it cost?"""

__version__ = "0.1.0"


class InputError(ValueError):
    """What was asked for cannot be done; the message names the thing, the value and what would be right.

    The command line prints it as one line and exits with 2.
    """
