"""Read what a person has written: paths, names and text files, however their system writes them."""

import os
import re
import unicodedata
from pathlib import Path

from . import InputError


def user_path(text: str) -> str:
    """Return a path that a person gave, with a leading `~` as the home folder."""
    return os.path.expanduser(text)  # noqa: PTH111  (keeps `~` where there is no home)


def checked_path(setting: str, text: str) -> str:
    """Return a path that a person gave for a setting, as `user_path`.

    Raises:
        InputError: no file can have that name, or no record can hold it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{setting}={text!a}: not UTF-8; expected a path that is, so rename it") from None
    if "\0" in text:
        raise InputError(f"{setting}={text!a}: expected a path without a zero byte")
    return user_path(text)


def split_paths(text: str) -> list[str]:
    """Split names and paths at commas, except at those in the path of something that exists."""
    words, found = text.split(","), []
    while words:
        heads = [user_path(",".join(words[:num])) for num in range(1, len(words) + 1)]
        num = max((n for n, head in enumerate(heads, start=1) if os.path.lexists(head)), default=1)
        found.append(heads[num - 1])
        words = words[num:]
    return found


# Endings of files that are data sets
ENDING = re.compile(r"\.(tar|zip|tar\.(gz|bz2|xz)|tgz|tbz2?|txz|csv|tsv|jsonl)$", re.IGNORECASE)


def is_path(name: str) -> bool:
    """Return whether a data set's name can only be a path."""
    return "/" in name or ENDING.search(name) is not None


def path_name(path: str) -> str:
    """Return the name of a folder or file, without the folders above it; never `.` or `..`."""
    name = Path(os.path.abspath(path)).name  # noqa: PTH100  (links keep their name)
    return one_form(ENDING.sub("", name)) or "root"


def long_path_name(path: str) -> str:
    """Return the name of a folder or tar with the folder above it."""
    above = Path(os.path.abspath(path)).parent.name  # noqa: PTH100  (links keep their name)
    return f"{one_form(above)}/{path_name(path)}".lstrip("/")


def one_form(name: str) -> str:
    """Return a name in one Unicode form (NFC): macOS writes an accent as a separate character."""
    return unicodedata.normalize("NFC", name)


def read_text(path: Path) -> str:
    """Return the text of a file, without a byte order mark and with plain line ends.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8.
    """
    octets = path.read_bytes()
    is_wide = octets[:2] in (b"\xff\xfe", b"\xfe\xff")  # as Windows' "Unicode" saves it
    text = octets.decode("utf-16" if is_wide else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")
