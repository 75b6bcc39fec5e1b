"""Fingerprints follow the bytes of images: each is hashed once, and again where a file may have changed."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from transferbench.datasets.loading import image_folder
from transferbench.datasets.storage import cache, contents
from transferbench.datasets.storage.table import Table
from trees import picture, tree


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the images that are hashed; files count as old at once."""
    rows: list[int] = []
    own = contents._hash

    def noted(table: Table, i: int) -> bytes:
        rows.append(i)
        return own(table, i)

    monkeypatch.setattr(contents, "_hash", noted)
    monkeypatch.setattr(contents, "RECENT", 0)
    return rows


def replace(file: Path, keep_times: bool = False) -> None:
    """Change one byte in the middle of a file, in place."""
    state = file.stat()
    with file.open("r+b") as f:
        f.seek(state.st_size // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 255]))
    if keep_times:
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def bmp_tree(root: Path, count: int = 40) -> list[Path]:
    for c in "ab":
        for i in range(count):
            picture(root / "train" / c / f"{i:03}.bmp", seed=100 * ord(c) + i)
    return sorted(root.rglob("*.bmp"))


@pytest.mark.parametrize("keep_times", [False, True])
@pytest.mark.parametrize("kept_from", [1, 1000])
def test_every_image_that_is_replaced_in_place_changes_it(
    tmp_path, own_cache, monkeypatch, kept_from, keep_times
):
    monkeypatch.setattr(image_folder, "KEPT_FROM", kept_from)
    files = bmp_tree(tmp_path / "set")
    found = [image_folder.load(tmp_path / "set").fingerprint]
    for file in files[::9]:
        replace(file, keep_times)
        found.append(image_folder.load(tmp_path / "set").fingerprint)
    assert len(set(found)) == len(found) == 10


@pytest.mark.parametrize("keep_times", [False, True])
def test_an_image_replaced_inside_a_tar_changes_it(tmp_path, own_cache, keep_times):
    bmp_tree(tmp_path / "set", 6)
    tar = tmp_path / "set.tar"
    with tarfile.open(tar, "w") as out:
        out.add(tmp_path / "set" / "train", "train")
    before = image_folder.load(tar).fingerprint
    assert before == image_folder.load(tmp_path / "set").fingerprint
    content = tar.read_bytes()
    at = content.index((tmp_path / "set" / "train" / "b" / "003.bmp").read_bytes()) + 60
    state = tar.stat()
    with tar.open("r+b") as f:
        f.seek(at)
        f.write(bytes([content[at] ^ 255]))
    if keep_times:
        os.utime(tar, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert image_folder.load(tar).fingerprint != before


def test_pixels_of_replaced_images_are_decoded_again(tmp_path, own_cache):
    file = bmp_tree(tmp_path / "set", 3)[4]
    before = cache.pixels(image_folder.load(tmp_path / "set"), "train", 8).pixels.numpy().copy()
    picture(file, seed=999)
    after = cache.pixels(image_folder.load(tmp_path / "set"), "train", 8).pixels.numpy()
    assert (before != after).reshape(6, -1).any(1).tolist() == [i == 4 for i in range(6)]


def test_unchanged_files_are_not_read_again(tmp_path, own_cache, read):
    files = bmp_tree(tmp_path / "set", 6)
    first = image_folder.load(tmp_path / "set").fingerprint
    assert sorted(read) == list(range(12))
    read.clear()
    assert image_folder.load(tmp_path / "set").fingerprint == first
    assert read == []
    os.utime(files[3])
    assert image_folder.load(tmp_path / "set").fingerprint == first
    assert read == [3]


def test_a_copy_with_other_times_is_the_same(tmp_path, own_cache):
    bmp_tree(tmp_path / "set", 5)
    before = image_folder.load(tmp_path / "set").fingerprint
    shutil.copytree(tmp_path / "set", tmp_path / "far" / "set", copy_function=shutil.copyfile)
    assert image_folder.load(tmp_path / "far" / "set").fingerprint == before


def test_a_file_that_has_just_changed_is_read_again(tmp_path, own_cache, read, monkeypatch):
    monkeypatch.setattr(contents, "RECENT", 10**15)
    bmp_tree(tmp_path / "set", 2)
    first = image_folder.load(tmp_path / "set").fingerprint
    assert image_folder.load(tmp_path / "set").fingerprint == first
    assert sorted(read) == sorted([*range(4)] * 2)


def test_an_interrupted_reading_continues(tmp_path, own_cache, read, monkeypatch):
    monkeypatch.setattr(contents, "AT_A_TIME", 4)
    bmp_tree(tmp_path / "set", 8)
    counted = contents._hash

    def stopped(table: Table, i: int) -> bytes:
        if i == 9:
            raise KeyboardInterrupt
        return counted(table, i)

    monkeypatch.setattr(contents, "_hash", stopped)
    with pytest.raises(KeyboardInterrupt):
        image_folder.load(tmp_path / "set")
    monkeypatch.setattr(contents, "_hash", counted)
    read.clear()
    found = image_folder.load(tmp_path / "set").fingerprint
    assert sorted(read) == list(range(8, 16))
    shutil.rmtree(own_cache)
    assert image_folder.load(tmp_path / "set").fingerprint == found


@pytest.mark.parametrize("damage", ["junk", "cut", "read-only"])
def test_kept_hashes_that_are_damaged_or_not_writable_are_no_error(tmp_path, own_cache, damage):
    bmp_tree(tmp_path / "set", 3)
    first = image_folder.load(tmp_path / "set").fingerprint
    (kept,) = (own_cache / "contents").iterdir()
    if damage == "read-only":
        shutil.rmtree(own_cache / "contents")
        (own_cache / "contents").write_text("in the way")
    else:
        kept.write_bytes(b"junk" if damage == "junk" else kept.read_bytes()[:200])
    assert image_folder.load(tmp_path / "set").fingerprint == first


def test_an_image_that_cannot_be_read_does_not_stop_the_others(tmp_path, own_cache):
    files = bmp_tree(tmp_path / "set", 3)
    first = image_folder.load(tmp_path / "set").fingerprint
    files[2].write_bytes(b"")
    empty = image_folder.load(tmp_path / "set").fingerprint
    assert empty != first


def test_a_large_set_follows_sizes_and_times_of_its_files(tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr(contents, "MOST_IMAGES", 9)
    monkeypatch.setattr(contents, "NUM_SAMPLED", 2)
    files = bmp_tree(tmp_path / "set", 5)
    found = [image_folder.load(tmp_path / "set").fingerprint]
    assert not (own_cache / "contents").exists()
    shutil.copytree(tmp_path / "set", tmp_path / "kept" / "set", copy_function=shutil.copy2)
    assert image_folder.load(tmp_path / "kept" / "set").fingerprint == found[0]
    replace(files[3])
    found.append(image_folder.load(tmp_path / "set").fingerprint)
    os.utime(files[4])
    found.append(image_folder.load(tmp_path / "set").fingerprint)
    assert len(set(found)) == 3


def test_a_tree_of_shards_and_separate_files_has_one_hash_an_image(tmp_path, own_cache):
    root = tree(tmp_path / "pets", train=3, val=2)
    table = image_folder.load(root).parts["train"].images.table
    kept = tmp_path / "kept.npz"
    contents.contents(table, kept, "pets")
    with np.load(kept) as stored:
        assert len(stored["hashes"]) == len(table) == 10
        assert len(set(stored["hashes"].tolist())) == 10


@pytest.mark.parametrize("parts", [{"train": 2, "val": 2, "test": 2}, {"train": 2}])
def test_a_folder_around_everything_changes_nothing(tmp_path, own_cache, parts):
    root = tree(tmp_path / "pets", **parts)
    wrapped = tmp_path / "wrapped"
    shutil.copytree(root, wrapped / "pets")
    tar = tmp_path / "pets.tar"
    with tarfile.open(tar, "w") as out:
        out.add(root, "pets")
    found = {image_folder.load(place, as_source=True).fingerprint for place in (root, wrapped, tar)}
    assert len(found) == 1


def test_an_image_outside_the_classes_does_not_count(tmp_path, own_cache):
    root = tree(tmp_path / "pets")
    before = image_folder.load(root).fingerprint
    picture(root / "train" / "montage.png", seed=5)
    picture(root / "all.png", seed=6)
    found = image_folder.load(root)
    assert found.fingerprint == before
    assert "2 images outside class folders left out" in found.left_out[0]
    tar = tmp_path / "pets.tar"
    with tarfile.open(tar, "w") as out:
        out.add(root, "pets")
    assert image_folder.load(tar).fingerprint == before
    picture(root / "train" / "cat" / "0.png", seed=7)
    assert image_folder.load(root).fingerprint != before


def test_long_names_fit_the_cache(tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr(image_folder, "KEPT_FROM", 1)
    root = tree(tmp_path / ("犬" * 84), train=1)
    found = image_folder.load(root)
    assert len(cache.pixels(found, "train", 8)) == 2
