"""Torch's counter of operations."""

import logging
from typing import Any


def flop_counter() -> Any:
    """Return `FlopCounterMode`. Its import is slow: neither plans nor clocks include it.

    It is told not to warn that triton is missing: no operation here is one of triton's.
    """
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode
