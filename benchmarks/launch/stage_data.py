"""Copy cached images to the local disk of a node before its runs read them."""

import glob
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from ...datasets.files.atomic import atomic_write
from ...datasets.storage import cache


def stage(names: Collection[str], scratch: Path) -> None:
    """Copy the cached files of some data sets to a folder, once per node, and use that folder as the cache.

    Files that the shared cache lacks are made in the new folder.

    Args:
        names: names of the data sets.
        scratch: folder on the local disk.
    """
    shared = cache.folder()
    stems = [glob.escape(name) for name in names]
    for path in [
        p for stem in stems for p in (*shared.glob(f"{stem}-*"), *shared.glob(f"index/{stem}-*/**/*"))
    ]:
        copy = scratch / path.relative_to(shared)
        if path.is_file() and not path.name.endswith(".draft") and not _same(path, copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(copy) as draft:
                shutil.copy2(path, draft)
    os.environ["TRANSFERBENCH_CACHE"] = str(scratch)


def _same(path: Path, copy: Path) -> bool:
    """Return whether a file is copied already, by size and modification time."""
    if not copy.exists():
        return False
    ours, theirs = path.stat(), copy.stat()
    return (ours.st_size, int(ours.st_mtime)) == (theirs.st_size, int(theirs.st_mtime))
