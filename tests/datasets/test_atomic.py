"""Drafts: whole or not at all, swept when their process is dead, and errors that name the file."""

import errno
import os
import time
from pathlib import Path

import pytest
from processes import FORK
from transferbench.datasets.files import atomic
from transferbench.datasets.files.atomic import atomic_write, draft_of, path_in_errors, sweep


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "record.json"
    with atomic_write(path) as draft:
        draft.write_text("half")
        assert not path.exists()
        draft.write_text("whole")
    assert path.read_text() == "whole"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as draft:
        draft.write_text("half") / 0
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_flushed_to_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, path = [], tmp_path / "x"
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("flush"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b))[1])
    with atomic_write(path) as draft:
        draft.write_text("x")
    assert done == ["flush", "rename", "flush"]  # the last one is of the folder


def test_only_drafts_of_dead_processes_are_swept(tmp_path):
    def die() -> None:
        draft_of(tmp_path / "file").write_text("half")
        (draft_of(tmp_path / "folder") / "inner").mkdir(parents=True)
        os._exit(1)

    mine = draft_of(tmp_path / "mine")
    mine.write_text("going on")
    process = FORK.Process(target=die)
    process.start()
    process.join()
    assert len(list(tmp_path.glob("*.draft"))) == 3
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize("name", ["x.ffffffff-1-1.abc.draft", "x.0123456789abcdef.draft", ".draft"])
@pytest.mark.parametrize(("age", "stays"), [(3600, True), (2 * atomic.STALE_SECONDS, False)])
def test_a_draft_of_another_machine_stays_until_it_is_forgotten(tmp_path, name, age, stays):
    draft = tmp_path / name
    draft.mkdir()
    (draft / "inner").write_text("half")
    for path in (draft / "inner", draft):
        os.utime(path, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert draft.exists() is stays


def test_a_folder_that_still_changes_inside_is_not_forgotten(tmp_path):
    draft = tmp_path / "x.ffffffff-1-1.abc.draft"
    draft.mkdir()
    (draft / "inner").write_text("new")
    os.utime(draft, (0, 0))
    sweep(tmp_path)
    assert draft.exists()


def test_errors_name_the_file_and_not_its_draft(tmp_path):
    path = tmp_path / "file"

    def full(name: str | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", name)

    with pytest.raises(OSError, match="No space left") as caught, atomic_write(path):
        full(None)
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="No space left") as caught, atomic_write(path) as draft:
        full(str(draft))
    assert caught.value.filename == str(path)
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{path}'"
    with pytest.raises(FileNotFoundError) as caught, path_in_errors(path):
        Path(tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")
