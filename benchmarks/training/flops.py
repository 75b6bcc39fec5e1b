"""Count floating-point operations by torch's counter."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

OF_TRITON = "triton not found"  # a warning on import: its kernels are not counted; networks here have none


def counter_class() -> "type[FlopCounterMode]":
    """Return torch's counter. Its import is slow: neither timed nor done by plans."""
    logging.getLogger("torch.utils.flop_counter").addFilter(_is_news)
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(OF_TRITON)
