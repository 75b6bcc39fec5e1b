"""Input whose author means harm: damaged bytes, wrong values, and what may come of them."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = 60  # that one input may take, on a busy machine


class Hang(BaseException):
    """Not caught by anything that catches errors."""


@contextmanager
def in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Raise Hang where the block takes longer."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(check: Callable[[Any], None], inputs: st.SearchStrategy[Any], num: int, is_long: bool) -> int:
    """Check many inputs, the same each time unless `is_long`; gives how many were checked."""
    count = 0

    @settings(
        max_examples=num,
        derandomize=not is_long,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def each(value: Any) -> None:
        nonlocal count
        count += 1
        with in_time():
            check(value)

    each()
    return count


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Change, cut, repeat or put in a few bytes of one of some files."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("flip", "put", "cut", "end", "repeat", "huge")))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "put":
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "end":
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + 64]
        elif kind == "huge":
            data[at : at + 4] = b"\xff" * 4
    return bytes(data)


WRONG = st.one_of(
    st.sampled_from([None, True, "", "<script>alert(1)</script>", "../../up", "\udcff", "\x1b[31m", "NaN"]),
    st.sampled_from([-1, 0, 2**70, -1e308, 1e308, float("nan"), float("inf")]),
    st.sampled_from([[], {}, [[]], {"": None}, [None], "x" * 5000]),
)


@st.composite
def wrong(draw: st.DrawFn, plain: dict[str, Any]) -> dict[str, Any]:
    """Replace, remove or repeat a few values anywhere in a plain JSON object."""
    found: dict[str, Any] = _copied(plain)
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = found
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                holder = inner
                continue
            if draw(st.integers(0, 3)) == 0:
                del holder[key]
            else:
                holder[key] = _copied(draw(WRONG))
            break
    return found


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def files_below(folder: Path) -> set[Path]:
    """List everything below a folder, links not followed."""
    return set(folder.rglob("*"))
