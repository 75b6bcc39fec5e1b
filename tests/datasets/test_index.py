"""Indexes of images: what is written is read, by parts of it alone, and kept until the key changes."""

import errno
import io
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transferbench import InputError
from transferbench.benchmarks.studies import large_source
from transferbench.datasets import base
from transferbench.datasets.augment import Augment
from transferbench.datasets.base import Part, Split, _permutation
from transferbench.datasets.storage import contents, index, table
from transferbench.datasets.storage.index import cached_index, fingerprint, read_index, write_index
from transferbench.datasets.storage.table import Row

CLASSES = ("ant", "bee")


def picture(seed: int, side: int = 8) -> bytes:
    """Encode a noise image."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "PNG")
    return encoded.getvalue()


def files(root: Path, count: int) -> list[Row]:
    """Write images of their own and one container of images, alternately rows of either."""
    root.mkdir(parents=True, exist_ok=True)
    rows, box = [], b"head"
    for i in range(count):
        image = picture(i)
        if i % 2:
            rows.append(Row(f"in/{i}.png", i % 3 % 2, "box.tar", len(box), len(image)))
            box += image
        else:
            (root / f"{i}.png").write_bytes(image)
            rows.append(Row(f"{i}.png", i % 3 % 2, num_bytes=len(image)))
    (root / "box.tar").write_bytes(box)
    return rows


def paths(part: Part) -> list[str]:
    return [part.images.path(i) for i in range(len(part.images))]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


def test_what_is_written_is_read(tmp_path):
    rows = files(tmp_path / "set", 11)
    write_index(tmp_path / "index", tmp_path / "set", {"train": rows[:8], "test": iter(rows[8:])}, CLASSES)
    classes, parts = read_index(tmp_path / "index")
    assert classes == CLASSES
    assert list(parts) == ["train", "test"]
    for part, own in (("train", rows[:8]), ("test", rows[8:])):
        assert len(parts[part].images) == len(own)
        assert paths(parts[part]) == [row.path for row in own]
        assert parts[part].labels.tolist() == [row.label for row in own]
    for i in range(8):
        assert parts["train"].images.read(i) == picture(i)
        image, aspect = parts["train"].images.decode(i, 8)
        assert aspect == 1
        assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(picture(i)))))


def test_torch_takes_the_labels_as_they_are(tmp_path):
    write_index(tmp_path / "index", tmp_path, {"train": [Row("a.png", 1), Row("b.png", 0)]}, CLASSES)
    labels = read_index(tmp_path / "index")[1]["train"].labels
    with warnings.catch_warnings(action="error"):
        assert torch.from_numpy(labels).dtype == torch.int64
    assert torch.from_numpy(labels).data_ptr() == labels.ctypes.data


@pytest.mark.parametrize("name", ["für/鳥.png", "a" * 300 + ".png", "spa ce\n.png", "\udce9.png", "x.png"])
def test_any_path_is_kept(tmp_path, name):
    rows = [Row(name, 0), Row("", 1), Row(name, 0, f"{name}.tar", 2**40, 2**33)]
    write_index(tmp_path / "index", tmp_path, {"train": rows}, CLASSES)
    part = read_index(tmp_path / "index")[1]["train"]
    table = part.images.table
    assert paths(part) == list(table.all_paths()) == [name, "", name]
    assert [table.row(i, row.label) for i, row in enumerate(rows)] == rows


def test_a_part_may_be_empty(tmp_path):
    for name, rows in (("some", [Row("a.png", 0)]), ("none", [])):
        write_index(tmp_path / name, tmp_path, {"train": rows, "test": []}, CLASSES)
        _, parts = read_index(tmp_path / name)
        assert [len(parts[p].images) for p in ("train", "test")] == [len(rows), 0]
        assert parts["test"].labels.shape == (0,)


def test_rows_are_written_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "CHUNK", 10)

    def rows() -> Iterator[Row]:
        for i in range(95):
            written = sum(f.stat().st_size for f in tmp_path.rglob("images.bin")) // table.IMAGE.itemsize
            assert written >= i - 10
            yield Row(f"{i}.png", 0)

    write_index(tmp_path / "index", tmp_path, {"train": rows()}, CLASSES)
    assert paths(read_index(tmp_path / "index")[1]["train"]) == [f"{i}.png" for i in range(95)]
    assert list(read_index(tmp_path / "index")[1]["train"].images.table.all_paths())[-1] == "94.png"


def test_opening_takes_no_memory(tmp_path):
    rows = (Row(f"some/path/{i:08}.png", i % 2) for i in range(50_000))
    write_index(tmp_path / "index", tmp_path, {"train": rows}, CLASSES)
    tracemalloc.start()
    try:
        part = read_index(tmp_path / "index")[1]["train"]
        assert part.images.path(43_210) == "some/path/00043210.png"
        assert tracemalloc.get_traced_memory()[1] < 100_000  # bytes; any column would take more
    finally:
        tracemalloc.stop()


def test_an_index_is_made_once_for_its_key_and_root(own_cache, tmp_path):
    rows, made = files(tmp_path / "set", 4), []

    def make() -> tuple[tuple[str, ...], dict[str, list[Row]]]:
        made.append(1)
        return CLASSES, {"train": rows}

    first = cached_index("toy", "v1", tmp_path / "set", make)
    again = cached_index("toy", "v1", tmp_path / "set", make)
    assert len(made) == 1
    assert paths(first[1]["train"]) == paths(again[1]["train"]) == [row.path for row in rows]
    cached_index("toy", "v2", tmp_path / "set", make)
    assert len(made) == 2
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = cached_index("toy", "v1", tmp_path / "moved", make)[1]["train"]
    assert len(made) == 3
    assert moved.images.read(0) == picture(0)
    assert all(f.name.startswith("toy-") for f in (own_cache / "index").iterdir())


def test_a_failure_leaves_nothing_behind(own_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "CHUNK", 1)

    def rows() -> Iterator[Row]:
        yield Row("a.png", 0)
        assert list(own_cache.rglob("paths.bin"))
        raise InputError("b.png: gone")

    with pytest.raises(InputError, match=r"b\.png: gone"):
        cached_index("toy", "v1", tmp_path, lambda: (CLASSES, {"train": rows()}))
    assert list((own_cache / "index").iterdir()) == []
    assert len(cached_index("toy", "v1", tmp_path, lambda: (CLASSES, {"train": [Row("a.png", 0)]}))[1]) == 1


def test_a_full_disk_is_said_in_one_line(own_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "CHUNK", 1)

    def rows() -> Iterator[Row]:
        yield Row("a.png", 0)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="own: no space left for an index of the images: free some"):
        cached_index("toy", "v1", tmp_path, lambda: (CLASSES, {"train": rows()}))
    assert list((own_cache / "index").iterdir()) == []


def test_two_makers_at_once_do_not_fight(own_cache, tmp_path):
    barrier, got = threading.Barrier(2), []

    def make() -> tuple[tuple[str, ...], dict[str, list[Row]]]:
        barrier.wait(timeout=120)  # both have seen that there is none
        return CLASSES, {"train": [Row(f"{i}.png", 0) for i in range(5)]}

    def keep() -> None:
        got.append(paths(cached_index("toy", "v1", tmp_path, make)[1]["train"]))

    threads = [threading.Thread(target=keep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[f"{i}.png" for i in range(5)]] * 2
    assert len(list((own_cache / "index").iterdir())) == 1


def fingerprint_of(place: Path, root: Path, parts: dict[str, list[Row]]) -> str:
    write_index(place, root, parts, CLASSES)
    return fingerprint(read_index(place)[1])


def test_the_fingerprint_follows_paths_labels_parts_and_bytes(tmp_path):
    a, b, c = rows = files(tmp_path / "set", 3)
    found = [
        fingerprint_of(tmp_path / str(i), tmp_path / "set", parts)
        for i, parts in enumerate(
            [
                {"train": rows},
                {"train": [a, b, c._replace(path="0.png")]},
                {"train": [a, b, c._replace(label=1)]},
                {"train": [a, c, b]},
                {"train": [a, b], "holdout": [c]},
                {"train": [a, b], "test": [c]},
            ]
        )
    ]
    assert len(set(found)) == 6
    other = files(tmp_path / "far" / "away", 3)
    assert fingerprint_of(tmp_path / "same", tmp_path / "far" / "away", {"train": other}) == found[0]
    (tmp_path / "far" / "away" / "2.png").write_bytes(picture(7))
    assert fingerprint_of(tmp_path / "new", tmp_path / "far" / "away", {"train": other}) != found[0]


def test_the_fingerprint_of_a_kept_index_is_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "RECENT", 0)
    found = fingerprint_of(tmp_path / "index", tmp_path / "set", {"train": files(tmp_path / "set", 5)})
    monkeypatch.setattr(table.Table, "read", None)
    assert fingerprint(read_index(tmp_path / "index")[1]) == found


def test_what_cannot_be_read_is_named(tmp_path):
    rows = files(tmp_path / "set", 4)
    write_index(tmp_path / "index", tmp_path / "set", {"train": rows}, CLASSES)
    images = read_index(tmp_path / "index")[1]["train"].images
    (tmp_path / "set" / "0.png").write_bytes(b"no image")
    box = tmp_path / "set" / "box.tar"
    box.write_bytes(box.read_bytes()[: rows[3].offset + 20])
    (tmp_path / "set" / "2.png").unlink()
    for i, message in (
        (0, r"set/0\.png: not a readable image \(cannot identify image file\); replace it or remove it"),
        (2, r"set/2\.png: cannot be read \(No such file or directory\)"),
        (3, r"set/box\.tar:in/3\.png: not a readable image"),
    ):
        with pytest.raises(InputError, match=message):
            images.decode(i, 8)
    assert images.decode(1, 8)[0].shape == (8, 8, 3)


def test_many_containers_are_read_by_threads_and_few_stay_open(tmp_path):
    rows = []
    for c in range(90):
        (tmp_path / f"{c}.tar").write_bytes(bytes(5) + f"content {c:03}".encode())
        rows.append(Row("x.png", 0, f"{c}.tar", 5, 11))
    write_index(tmp_path / "index", tmp_path, {"train": rows}, CLASSES)
    images = read_index(tmp_path / "index")[1]["train"].images
    asked = np.random.default_rng(0).integers(0, 90, 2000).tolist()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(images.read, asked)) == [f"content {c:03}".encode() for c in asked]
    assert table._opened.cache_info().currsize == table.NUM_OPEN < 90
    links = [f.resolve().parent for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]
    assert links.count(tmp_path) <= table.NUM_OPEN


def test_an_index_made_anew_reads_the_new_container(tmp_path):
    for version in (b"old", b"new"):
        (tmp_path / "draft").write_bytes(version)
        (tmp_path / "draft").rename(tmp_path / "box.tar")
        write_index(tmp_path / f"of-{version}", tmp_path, {"train": [Row("x", 0, "box.tar", 0, 3)]}, CLASSES)
        assert read_index(tmp_path / f"of-{version}")[1]["train"].images.read(0) == version


def test_orders_of_half_the_size_are_those_of_torch():
    for size in (1, 7, 1000, 100_003):
        plain = torch.randperm(size, generator=torch.Generator().manual_seed(3))
        assert torch.equal(_permutation(size, 3).long(), plain)
    assert _permutation(7, 3).dtype == torch.int32


def test_few_orders_of_a_large_split_are_kept(monkeypatch):
    monkeypatch.setattr(base, "LARGE", 9)
    base._large_order.cache_clear()
    split = Split("toy", ("a",), None, torch.zeros(10, dtype=torch.int64), torch.arange(10), Augment(4))
    stream = split.stream(4, seed=0)
    drawn = torch.cat([stream.draw()[0] for _ in range(10)])
    assert drawn.dtype == torch.int64
    assert base._large_order.cache_info().misses == 4  # each epoch's order is drawn once
    assert base._large_order.cache_info().currsize == 2
    assert all(len(epoch.unique()) == 10 for epoch in drawn.split(10))


@pytest.mark.slow
def test_a_large_source_opens_at_once_in_a_fresh_process(tmp_path, monkeypatch):
    monkeypatch.setattr(large_source, "PER_SHARD", 50)
    found = large_source.measured(tmp_path, num_images=200_000, num_shards=2)
    assert found["index_mb"] < 90 * 0.2  # bytes an image
    assert found["open_seconds"] < 5
    assert found["peak_mb"] - found["torch_mb"] < 400  # pixels of a batch, above all
