"""Prepare the standard streams: no output may end a command, or change its exit code.

Characters that a terminal or a job's log cannot encode are replaced. A failed write is remembered, and the
command goes on: a full disk below a log stops no runs. A reader that closes its pipe still ends a command.
"""

import codecs
import io
import os
import sys
import unicodedata
import warnings
from typing import Any, TextIO

ALIKE = {  # ASCII for the characters that the suite prints itself
    **{"→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "×": "x", "·": ".", "±": "+/-"},
    **{"●": "#", "◐": "+", "✗": "!"},
    **{"≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"'},
}
HANDLER = "transferbench"
PLAIN = ("strict", "surrogateescape", "backslashreplace")  # Python's own choices; others are a user's


class _Raw(io.FileIO):
    """The file of a standard stream; errors of its writes are kept in `failed` instead of raised."""

    def __init__(self, number: int, ends_with_reader: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self.ends_with_reader = ends_with_reader
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and self.ends_with_reader:
                raise
            self.failed = error
            return memoryview(data).nbytes


def configure_output() -> None:
    """Prepare stdin, stdout and stderr of this process. A second call changes nothing."""
    # on damaged metadata: the image itself is read
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    _open_closed()
    codecs.register_error(HANDLER, _replace)
    if sys.stdout is None or sys.stdout is sys.__stdout__:  # otherwise a test has put its own there
        sys.stdout = _prepared(sys.stdout, 1)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _prepared(sys.stderr, 2)


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where the locale has another encoding.

    The names of files are bytes: the same folder must have the same classes in all locales. What is printed
    stays in the encoding of the locale.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    os.environ.setdefault("PYTHONIOENCODING", getattr(sys.stdout or sys.stderr, "encoding", "ascii"))
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def output_error() -> OSError | None:
    """Flush stdout, and return the last error of its writes; None if all was written.

    Raises:
        BrokenPipeError: the reader has closed the pipe.
    """
    sys.stdout.flush()
    raw = _raw_of(sys.stdout)
    return raw.failed if isinstance(raw, _Raw) else None


def _open_closed() -> None:
    """Open stdin, stdout and stderr where they are closed: the next file would get their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _prepared(stream: TextIO | None, number: int) -> TextIO:
    """Return a stream that replaces what it cannot encode, and remembers failed writes."""
    raw = _Raw(number, ends_with_reader=number == 1)
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", HANDLER)
    assert isinstance(stream, io.TextIOWrapper)
    if not isinstance(_raw_of(stream), io.FileIO):  # a terminal of Windows, which takes all characters
        return stream
    stream.flush()
    errors = HANDLER if stream.errors in PLAIN else stream.errors
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        stream.encoding,
        errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw_of(stream: Any) -> Any:
    """Return the unbuffered file of a text stream."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return readable ASCII for the characters that an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(char: str) -> str:
    """Return the letter without its accents, or the code of the character."""
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return ALIKE.get(char) or plain or char.encode("ascii", "backslashreplace").decode()
