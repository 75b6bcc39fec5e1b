"""Copy the code that a job runs at submission: the work tree may change while the job waits."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .submit import exclusive

ROOT = Path(__file__).parent.parent
KINDS = ("*.py", "*.yaml", "*.csv", "*.txt", "*.html", "*.css", "*.js")  # of untracked files to include


def snapshot(results: Path, root: Path = ROOT) -> Path | None:
    """Copy the current code to results/code/<name>/transferbench, once.

    The name is the commit's hash, or the hash of the git tree if anything differs from the commit.

    Returns:
        The folder for PYTHONPATH; None outside a git repository, where jobs run the installed package.
    """
    if not (root / ".git").exists():
        return None
    commit, tree = _git(root, "rev-parse", "HEAD").strip(), _tree(root, results)
    dirty = tree != _git(root, "rev-parse", "HEAD^{tree}").strip()
    place = (results / "code" / (tree if dirty else commit)[:12]).resolve()
    with exclusive(results):
        for left in place.parent.glob("*.draft"):  # left by a killed process: the lock is held here
            shutil.rmtree(left, ignore_errors=True)
        if place.exists():
            return place
        draft = place.with_name(f"{place.name}.draft")
        command = ["git", "-C", str(root), "archive", tree]
        packed = subprocess.run(command, capture_output=True, check=True).stdout
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
        return _git(root, "write-tree", index=index).strip()


def _git(root: Path, *words: str, check: bool = True, index: Path | None = None) -> str:
    command = ["git", "-C", str(root), *words]
    own = {**os.environ, **({"GIT_INDEX_FILE": str(index)} if index else {})}
    return subprocess.run(
        command, capture_output=True, text=True, check=check, env=own, encoding="utf-8"
    ).stdout
