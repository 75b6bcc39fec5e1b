"""Find folders for what may be lost: containers, job schedulers and cron start programs without a home.

Libraries ask for the user's name and home when they are imported, and some fail without. Here both get a
stand-in once, in the environment, where the libraries and all further processes find it.
"""

import getpass
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from . import InputError

USER = os.getuid() if hasattr(os, "getuid") else 0  # Windows has a temporary folder for each user


def provide_home() -> None:
    """Set a name, a home and folders of caches in the environment where the system has none."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # no variable, and no entry in the list of users, or no list
        os.environ["LOGNAME"] = f"user{USER}"
    with suppress(InputError):  # without any folder, what needs one reports it
        try:
            home = Path.home()
        except RuntimeError:
            os.environ["HOME"] = str(home := spare_folder())
        caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
        if not (os.access(caches, os.F_OK) or _is_writable(caches)):
            os.environ["XDG_CACHE_HOME"] = str(spare_folder() / ".cache")
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "matplotlib"
        if "MPLCONFIGDIR" not in os.environ and not _is_writable(settings):
            os.environ["MPLCONFIGDIR"] = str(spare_folder() / "matplotlib")  # or each process warns


def _is_writable(folder: Path) -> bool:
    """Return whether a folder is writable, or can be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def spare_folder() -> Path:
    """Return this user's folder for temporary files; create it if missing, and print that once.

    Raises:
        InputError: no folder for temporary files is writable, or another user has made ours.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"transferbench-{USER}"
        is_new = not folder.exists()
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = folder.lstat().st_uid == USER and not folder.is_symlink()
    except OSError as error:
        raise InputError(f"TMPDIR: no writable folder ({error.strerror}); expected one, or HOME") from error
    if not is_ours:
        raise InputError(f"{folder}: belongs to another user; set HOME or TMPDIR to a writable folder")
    if is_new:
        print(f"transferbench: no writable home: caches are in {folder}; HOME sets another", file=sys.stderr)
    return folder
