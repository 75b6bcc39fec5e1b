"""Find the images of a data set: in the user's folder, then in our store, then by download.

The user's folder is `$TRANSFERBENCH_DATA` (`data.root=PATH`); it is only read. Downloads go to the store,
`$TRANSFERBENCH_CACHE/data/<name>`, as a draft that is renamed when complete. Download sources, in order:
`$TRANSFERBENCH_MIRROR` (`data.mirror=URL`), torchvision, the Hugging Face hub, the official URLs.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from ... import InputError
from ...user_text import read_text, user_path
from ..about import About, Archive, Hub
from ..files.lock import locked
from ..storage.cache import disk_errors
from ..storage.cache import folder as cache_folder
from . import huggingface, torchvision_sets
from .archives import draft, extract, most_unpacked
from .http import DownloadError, check_reachable, download

Fetch = Callable[[Path], None]  # creates a folder with the data set, atomically


class MissingData(InputError):
    """Images that are missing and could not be downloaded; the lines after the first list the attempts."""


def locate(name: str, about: About) -> Path:
    """Return the root of a data set's official layout; download it if necessary.

    Raises:
        MissingData: lists every attempt, and the manual steps.
    """
    store = _store()
    if found := find_or_unpack(name, about):
        _remove_archives(store / name)
        return found
    with ExitStack() as stack:
        with disk_errors("downloaded data sets"):
            stack.enter_context(locked(store / name, f"another process is downloading {name}"))
        if found := find_or_unpack(name, about):  # by the other process
            return found
        tried = [f"{place}: {'incomplete' if place.is_dir() else 'missing'}" for place in _places(name)]
        for words, fetch in _fetchers(name, about):
            try:
                fetch(store / name)
            except DownloadError as error:
                tried.append(f"{words}: {error}")
                continue
            shutil.rmtree(_archives(store / name), ignore_errors=True)
            if found := find(name, about):
                return found
            raise InputError(
                f"{store / name}: downloaded from {words}, but {about.probes[0]} is not in it; remove it"
            )
    raise MissingData(
        "\n".join((_first_line(name, about), *(f"  tried {t}" for t in tried), _by_hand(name, about)))
    )


def _remove_archives(copy: Path) -> None:
    """Remove the archives of a complete copy, if a killed process has left them."""
    if _archives(copy).exists() and copy.exists():
        with suppress(OSError), locked(copy):  # the store may be read-only
            shutil.rmtree(_archives(copy), ignore_errors=True)


def _archives(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.archives")


def find_or_unpack(name: str, about: About) -> Path | None:
    """Find a data set without download; unpack it if its archives are in the user's folder."""
    if (found := find(name, about)) or not (files := find_archives(name, about)):
        return found
    _unpack(about.archives, files, _store() / name)
    return find(name, about)


def find(name: str, about: About) -> Path | None:
    """Return the root of a data set's official layout, or None; change nothing."""
    for place in _places(name):
        for start in (place, *(place / f for f in about.folders), *(place.parent / f for f in about.folders)):
            if any((start / probe).exists() for probe in (*about.probes, huggingface.MARKER)):
                return start
    return None


def find_archives(name: str, about: About) -> list[Path]:
    """Return a data set's archives in the user's folder; none unless all are there."""
    root = user_folder()
    for place in (root / name, root) if root else ():
        files = [place / a.file_name for a in about.archives]
        if files and all(f.is_file() for f in files):
            return files
    return []


def set_places(root: str | None = None, mirror: str | None = None) -> None:
    """Set the user's folder and the mirror, for child processes too."""
    if root:
        os.environ["TRANSFERBENCH_DATA"] = root
    if mirror:
        os.environ["TRANSFERBENCH_MIRROR"] = mirror


def user_folder() -> Path | None:
    """Return `$TRANSFERBENCH_DATA`, or None. Raises InputError if there is no such folder."""
    given = os.environ.get("TRANSFERBENCH_DATA")
    if not given:
        return None
    if not Path(user_path(given)).is_dir():
        raise InputError(
            f"data.root (TRANSFERBENCH_DATA)={given}: no such folder; expected a folder with data sets"
        )
    return Path(user_path(given))


def _places(name: str) -> list[Path]:
    root = user_folder()
    return [*([root / name] if root else []), _store() / name]


def _store() -> Path:
    store = cache_folder() / "data"
    with disk_errors("downloaded data sets"):
        store.mkdir(exist_ok=True)
    return store


def _fetchers(name: str, about: About) -> Iterator[tuple[str, Fetch]]:
    """Yield the download sources in order, each with a description for errors."""
    archives = about.archives
    if archives and (mirror := os.environ.get("TRANSFERBENCH_MIRROR")):
        yield f"mirror {mirror}", partial(_from_mirror, name, archives, f"{mirror.rstrip('/')}/{name}")
    if about.torchvision:
        yield f"torchvision {about.torchvision.cls}", partial(_from_torchvision, about)
    if about.hub:
        yield f"Hugging Face hub {about.hub.repo}", partial(_from_hub, about.hub)
    if archives:
        hosts = sorted({urlsplit(a.url).netloc for a in archives})
        yield f"official URLs at {', '.join(hosts)}", partial(_from_addresses, name, archives)


def _from_mirror(name: str, archives: Sequence[Archive], base: str, into: Path) -> None:
    """Download the archives from a mirror; its `SHA256SUMS`, if any, replaces the published checksums."""
    files = _archive_files(name, archives)
    sums = files[0].with_name("SHA256SUMS")
    sums.unlink(missing_ok=True)
    try:
        download(f"{base}/SHA256SUMS", sums)
        own = dict(line.split()[::-1] for line in read_text(sums).splitlines() if line.strip())
    except DownloadError:
        own = {}
    for archive, file in zip(archives, files, strict=True):
        checksum = f"sha256:{own[file.name]}" if file.name in own else archive.checksum
        size = 0 if file.name in own else archive.num_bytes
        download(
            f"{base}/{file.name}", file, checksum=checksum, num_bytes=size, description=f"{name}: {file.name}"
        )
    _unpack(archives, files, into)


def _from_addresses(name: str, archives: Sequence[Archive], into: Path) -> None:
    files = _archive_files(name, archives)
    for a in archives:
        check_reachable(a.url)
    for a, file in zip(archives, files, strict=True):
        download(a.url, file, checksum=a.checksum, num_bytes=a.num_bytes, description=f"{name}: {file.name}")
    _unpack(archives, files, into)


def _from_torchvision(about: About, into: Path) -> None:
    """Download with torchvision, if the host is reachable (importing torchvision is slow)."""
    assert about.torchvision is not None
    if about.archives:
        check_reachable(about.archives[0].url)
    begun = into.with_name(f"{into.name}.torchvision")  # kept on failure, to resume
    torchvision_sets.fetch(about.torchvision, about.archives, begun)
    begun.rename(into)


def _from_hub(hub: Hub, into: Path) -> None:
    begun = into.with_name(f"{into.name}.hub")
    huggingface.fetch(hub, begun)
    begun.rename(into)


def _archive_files(name: str, archives: Sequence[Archive]) -> list[Path]:
    folder = _archives(_store() / name)
    folder.mkdir(exist_ok=True)
    return [folder / a.file_name for a in archives]


def _unpack(archives: Sequence[Archive], files: Sequence[Path], into: Path) -> None:
    """Unpack archives and copy other files into one folder, atomically."""
    left = most_unpacked(sum(f.stat().st_size for f in files))
    with draft(into) as folder:
        for archive, file in zip(archives, files, strict=True):
            place = folder / archive.into
            if archive.unpack:
                left -= extract(file, place, most_bytes=left)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, place / archive.file_name)


def _first_line(name: str, about: About) -> str:
    size = f", {about.num_bytes / 1e9:.1f} GB" if about.num_bytes > 1e8 else ""
    return f"{name}: its images are missing and could not be downloaded ({about.title}{size})"


def _by_hand(name: str, about: About) -> str:
    """Return the line with the manual steps."""
    if about.by_hand:
        get = about.by_hand
    else:
        files = ", ".join(a.file_name for a in about.archives)
        get = f"download {files} from {about.homepage}"
    packed = ", packed or unpacked," if about.archives else ""
    root = user_folder()
    where = root / name if root else Path("DATA") / name
    setting = (
        "" if root else "; then set TRANSFERBENCH_DATA=DATA, or give data.root=DATA (DATA: a folder of yours)"
    )
    return f"  by hand: {get}; put that{packed} into {where}/{setting}"
