"""Quick starts: nobody looks for garbage among what is imported, neither meanwhile nor later."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without collections: modules make hundreds of thousands of objects, and all of them stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
