"""Load your own images from a zip, a compressed tar, or a tar with a list: unpacked once, into the cache."""

import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from ... import InputError
from ...user_text import path_name
from ..download.archives import draft, extract, most_unpacked
from ..files.lock import locked
from ..storage import cache
from ..storage.tar_shards import members
from .image_list import METADATA

IS_PACKED = re.compile(r"\.(zip|tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)


def is_packed(path: Path) -> bool:
    """Return whether a path is an archive that has to be unpacked."""
    return IS_PACKED.search(path.name) is not None and path.is_file()


def holds_list(path: Path) -> bool:
    """Return whether a path is a plain tar with a metadata file in it, which has to be unpacked, too."""
    if path.suffix.lower() != ".tar" or not path.is_file():
        return False
    with path.open("rb") as file, suppress(ValueError):  # damaged
        return any(member.path.rpartition("/")[2] in METADATA for member in members(file))
    return False


def unpacked(archive: Path) -> Path:
    """Return the folder with an archive's files in the cache; unpack it if it is not there.

    The folder has the archive's name, so that the data set has it, too. An earlier state of the archive is
    removed.

    Raises:
        InputError: it is damaged, encrypted, or unsafe, or is much larger unpacked.
    """
    status = archive.stat()
    state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    name = path_name(str(archive))
    of_path, of_state = (
        hashlib.sha256(os.fsencode(text)).hexdigest()[:12] for text in (archive.resolve(), state)
    )
    place = cache.folder() / "unpacked" / f"{cache.short(name)}-{of_path}"
    into = place / of_state / name
    if not into.exists():
        with cache.disk_errors("unpacked images"):
            place.parent.mkdir(exist_ok=True)
        with cache.disk_errors("unpacked images"), locked(place, f"another process is unpacking {name}"):
            if not into.exists():
                shutil.rmtree(place, ignore_errors=True)
                with draft(into) as folder:
                    extract(archive, folder, most_bytes=most_unpacked(status.st_size))
    if not any(into.iterdir()):
        raise InputError(f"{archive}: empty; expected split/class/image or class/image")
    return into
