"""Download a data set with torchvision, which keeps URLs and checksums up to date."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ... import InputError
from ..about import Archive, Torchvision
from .http import DownloadError, download, verify

NOTE = "transfers.txt"  # lists the downloaded files
PARTS = (".part", ".part.json")  # files beside an unfinished download
UNPACKED = {".tgz", ".tar", ".zip"}  # archives with torchvision's own names


def fetch(spec: Torchvision, archives: Sequence[Archive], draft: Path) -> None:
    """Download all parts into a folder; it is kept on failure, to resume.

    Raises:
        DownloadError: if torchvision does not have the set, or cannot download it.
    """
    import torchvision.datasets as sets  # a slow import; most sets are present already

    cls: Any = getattr(sets, spec.cls, None)
    if cls is None:
        raise DownloadError(f"this torchvision has no {spec.cls}")
    draft.mkdir(exist_ok=True)
    _clear(draft)
    try:
        with _resumable_downloads(draft):
            for options in spec.options:
                cls(root=str(draft), download=True, **options)
    except InputError as error:
        raise DownloadError(str(error)) from error
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DownloadError(" ".join(str(error).split())[:200] or type(error).__name__) from error
    fetched = _fetched_files(draft)
    _drop_archives(archives, [file for file in fetched if file.is_file()])
    for left in [draft / NOTE, *(file.with_name(file.name + s) for file in fetched for s in PARTS)]:
        left.unlink(missing_ok=True)


def _clear(draft: Path) -> None:
    """Keep only downloads of earlier attempts: torchvision would take partly unpacked files as complete."""
    kept = {
        draft / NOTE,
        *(file.with_name(file.name + s) for file in _fetched_files(draft) for s in ("", *PARTS)),
    }
    for path in sorted(draft.rglob("*"), reverse=True):  # the content of a folder comes before it
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _fetched_files(draft: Path) -> set[Path]:
    """Return the files downloaded, or begun, in this attempt and earlier ones."""
    note = draft / NOTE
    return (
        {draft / name for name in note.read_text(encoding="utf-8").splitlines()} if note.exists() else set()
    )


@contextmanager
def _resumable_downloads(draft: Path) -> Iterator[None]:
    """Replace torchvision's downloads by ours, which resume, and note the files. It has no such setting."""
    from torchvision.datasets import utils

    def transfer(url: str, filename: str | Path, *_: object) -> None:
        with (draft / NOTE).open("a", encoding="utf-8") as f:
            f.write(f"{Path(filename).relative_to(draft)}\n")
        download(url, Path(filename))

    own = utils._urlretrieve
    utils._urlretrieve = transfer
    try:
        yield
    finally:
        utils._urlretrieve = own


def _drop_archives(archives: Sequence[Archive], files: Sequence[Path]) -> None:
    """Check torchvision's downloads (it lacks some checksums), and remove the archives it has unpacked."""
    known = {archive.file_name: archive for archive in archives}
    for file in files:
        archive = known.get(file.name)
        if archive and archive.checksum and not verify(file, archive.checksum):
            file.unlink()
            kind = archive.checksum.partition(":")[0]
            raise DownloadError(f"{archive.file_name}: its {kind} checksum is not the published one")
        if archive.unpack if archive else file.suffix in UNPACKED:
            file.unlink()
