"""Copy the code that a job runs at submission: the work tree may change while the job waits."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .. import InputError
from .submit import exclusive

ROOT = Path(__file__).parent.parent
KINDS = ("*.py", "*.yaml", "*.csv", "*.txt", "*.html", "*.css", "*.js")  # of untracked files to include


def snapshot(results: Path, root: Path = ROOT) -> Path | None:
    """Copy the current code to results/code/<name>/transferbench, once.

    The name is the commit's hash, or the hash of the git tree if anything differs from the commit.

    Returns:
        The folder for PYTHONPATH; None outside a git repository, where jobs run the installed package.

    Raises:
        InputError: git is not installed, or refuses.
    """
    if not (root / ".git").exists():
        return None
    commit, tree = _line(root, "rev-parse", "HEAD"), _tree(root, results)
    dirty = tree != _line(root, "rev-parse", "HEAD^{tree}")
    place = (results / "code" / (tree if dirty else commit)[:12]).resolve()
    with exclusive(results):
        for left in place.parent.glob("*.draft"):  # left by a killed process: the lock is held here
            shutil.rmtree(left, ignore_errors=True)
        if place.exists():
            return place
        draft = place.with_name(f"{place.name}.draft")
        packed = _git(root, "archive", tree)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            tar.extractall(draft / "transferbench", filter="data")
        about = {"commit": commit, "dirty": dirty, "tree": tree}
        (draft / "transferbench" / "COMMIT").write_text(json.dumps(about), encoding="utf-8")
        draft.rename(place)
    return place


def _tree(root: Path, results: Path) -> str:
    """Write tracked and new source files to a git tree; the repository's index is not changed."""
    inside = results.resolve().is_relative_to(root.resolve())
    but = [f":(exclude){results.resolve().relative_to(root.resolve())}"] if inside else []
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        _git(root, "read-tree", "HEAD", index=index)
        _git(root, "add", "--update", index=index)
        for kind in KINDS:
            _git(root, "add", "--ignore-errors", "--", f":(glob)**/{kind}", *but, check=False, index=index)
        return _line(root, "write-tree", index=index)


def _line(root: Path, *words: str, index: Path | None = None) -> str:
    return _git(root, *words, index=index).decode().strip()


def _git(root: Path, *words: str, check: bool = True, index: Path | None = None) -> bytes:
    """Return what git prints. Raises InputError if it is not installed, or fails and that is checked."""
    own = {**os.environ, **({"GIT_INDEX_FILE": str(index)} if index else {})}
    wanted = "jobs run a copy of the code that git makes"
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False, env=own)
    except OSError as error:
        raise InputError(f"git: {error.strerror}; {wanted}, so install it") from error
    if check and done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[0]
        raise InputError(f"{root}: git {words[0]} fails ({said}); {wanted}")
    return done.stdout
