"""Let torchvision fetch a data set: it keeps addresses and sums up to date."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ... import InputError
from ..about import Archive, Torchvision
from .download import DownloadError, download, verify

UNPACKED = {".tgz", ".tar", ".zip"}  # archives under names of torchvision's own


def fetch(spec: Torchvision, archives: Sequence[Archive], draft: Path) -> None:
    """Fetch all parts into a folder, which is kept on failure, so that what has come is not fetched again.

    Raises: DownloadError when torchvision does not know the set, or cannot fetch it.
    """
    import torchvision.datasets as sets  # takes seconds, and most sets are here already

    cls: Any = getattr(sets, spec.cls, None)
    if cls is None:
        raise DownloadError(f"this torchvision has no {spec.cls}")
    draft.mkdir(exist_ok=True)
    files: list[Path] = []
    try:
        with _transfers(files):
            for options in spec.options:
                cls(root=str(draft), download=True, **options)
    except InputError as error:
        raise DownloadError(str(error)) from error
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DownloadError(" ".join(str(error).split())[:200] or type(error).__name__) from error
    _drop_archives(archives, files)


@contextmanager
def _transfers(files: list[Path]) -> Iterator[None]:
    """Let torchvision's transfers go through ours, which resume, and list them; it has no setting for it."""
    from torchvision.datasets import utils

    def transfer(url: str, filename: str | Path, *_: object) -> None:
        files.append(Path(filename))
        download(url, files[-1])

    own = utils._urlretrieve
    utils._urlretrieve = transfer
    try:
        yield
    finally:
        utils._urlretrieve = own


def _drop_archives(archives: Sequence[Archive], files: Sequence[Path]) -> None:
    """Check what torchvision fetched, for it has no sum of some, and remove what it has unpacked."""
    known = {archive.file_name: archive for archive in archives}
    for file in files:
        archive = known.get(file.name)
        if archive and archive.checksum and not verify(file, archive.checksum):
            file.unlink()
            kind = archive.checksum.partition(":")[0]
            raise DownloadError(f"{archive.file_name}: not the published {kind} sum")
        if archive.unpack if archive else file.suffix in UNPACKED:
            file.unlink()
