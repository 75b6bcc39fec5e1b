"""Damaged and hostile images, archives and weights: a named cause, no hang, nothing run or outside."""

import gzip
import io
import os
import pickle
import re
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoding_samples import SAMPLES
from hostile import damaged, files_below, fuzz, in_time
from hypothesis import strategies as st
from packed_trees import KINDS, written
from PIL import Image
from transferbench import InputError
from transferbench.datasets.files.folder_names import is_dropping
from transferbench.datasets.loading import image_folder
from transferbench.datasets.pixels import Unreadable, open_image, resize_square
from transferbench.methods.networks.encoders import SmallEncoder
from transferbench.methods.networks.tensor_files import read_tensors
from unpacking import unpack

GB = 10**9
ENCODINGS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


def images() -> list[bytes]:
    """Encode noise in each format, in color, gray, with a palette and with transparency where it can be.

    The kinds of the reference follow: high bit depths, profiles, orientation tags, several frames.
    """
    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    found = []
    for kind in ENCODINGS:
        for mode in ("RGB", "L", "P", "RGBA", "1"):
            image, file = Image.fromarray(noise).convert("RGB").convert(mode), io.BytesIO()
            try:
                image.save(file, kind)
            except OSError:  # not of this format
                continue
            found.append(file.getvalue())
    return found + [sample.encode() for sample in SAMPLES]


def named(error: Exception, *places: Path) -> None:
    """See that an error says something, and of which file."""
    assert str(error).strip()
    assert not places or any(str(place) in str(error) for place in places)


def decoded(data: bytes) -> bool:
    try:
        with open_image(data) as image:
            pixels, aspect = resize_square(image, 8)
    except Unreadable as error:
        named(error)
        return False
    assert pixels.shape == (8, 8, 3)
    assert aspect > 0
    return True


def test_damaged_images(tally, not_yet):
    not_yet("damaged images", "-")
    seen: set[bool] = set()
    whole = images()
    assert all(map(decoded, whole))
    tried = fuzz(lambda data: seen.add(decoded(data)), damaged(whole), tally.times(150, 5000), tally.is_long)
    assert seen == {True, False}
    tally.note("damaged images", "-", tried)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tree(root: Path, data: bytes, name: str = "5.png") -> Path:
    for part in ("train", "val", "test"):
        for label in ("a", "b"):
            (root / part / label).mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / part / label / "0.png")
    (root / "train" / "a" / name).write_bytes(data)
    return root


@pytest.mark.parametrize("side", [100_000, 20_000, 2**31 - 1])
def test_an_image_of_100_000_by_100_000(tmp_path, side):
    root = tree(tmp_path / "set", png(side, side))
    with in_time():
        dataset = image_folder.load(root)
        with pytest.raises(InputError, match=r"5\.png: not a readable image \(.*pixels"):
            dataset.part("train").images.decode(1, 8)


def test_an_image_of_10_gb(tmp_path):
    root = tree(tmp_path / "set", b"")
    os.truncate(root / "train/a/5.png", 10 * GB)
    with in_time(), pytest.raises(InputError, match=r"5\.png: 10,000,000,000 bytes; expected at most"):
        image_folder.load(root)


def test_a_program_is_not_started_for_a_picture(tmp_path, monkeypatch):
    """PIL hands PostScript to Ghostscript, whatever the file's suffix is."""
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a))
    monkeypatch.setattr(subprocess, "check_call", lambda *a, **k: started.append(a))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n"
    assert not decoded(script)
    assert not started


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_what_is_no_file_does_not_hang(tmp_path, what):
    root = tree(tmp_path / "set", b"")
    wrong = root / "train/a/5.png"
    wrong.unlink()
    if what == "pipe":
        os.mkfifo(wrong)
    else:
        wrong.symlink_to("/dev/zero")
    with in_time(), pytest.raises(InputError, match="expected"):
        image_folder.load(root)


def test_links_in_circles_end(tmp_path):
    root = tree(tmp_path / "set", images()[0], "5.jpg")
    for name in ("x", "y", "z"):
        (root / "train/a" / name).symlink_to(root / "train", target_is_directory=True)
        (root / name).symlink_to(root, target_is_directory=True)
        (root / "docs" / name).parent.mkdir(exist_ok=True)
        (root / "docs" / name).symlink_to(root / "docs", target_is_directory=True)
    (root / "self").symlink_to("self")
    with in_time():
        found = image_folder.load(root)
    assert len(found.part("train").labels) == 3
    assert "links to a folder above them left out" in found.left_out[-1]


FOLDERS = (
    "train",
    "Val",
    "valid",
    "test",
    "cat",
    "dog",
    "pets",
    "docs",
    "__MACOSX",
    ".git",
    "@eaDir",
    "a b'",
)
FILES = ("0.png", "1.png", "x.psd", "IMG_1", "._0.png", "Thumbs.db", "read.md", "")
PATHS = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(FILES)).map(
    lambda pair: "/".join([*pair[0], pair[1]])
)
LAYOUTS = st.tuples(st.lists(PATHS, min_size=1, max_size=20), st.sampled_from(KINDS))


def test_layouts(tally, not_yet, tmp_path):
    """Any folders with any files: each image is in a part or is said, or one line says what is wrong."""
    not_yet("layouts", "-")
    seen: set[bool] = set()
    place = tmp_path / "set"

    def check(given: tuple[list[str], str]) -> None:
        files = {f for f in given[0] if f and f != "/"}
        usual = [f"{part}/{c}/{i}.png" for part in ("train", "test") for c in "ab" for i in range(3)]
        files |= set(usual) if len(files) % 2 else set()
        shutil.rmtree(place, ignore_errors=True)
        try:
            found = image_folder.load(written(place, sorted(files), given[1]))
        except InputError as error:
            named(error)
            seen.add(False)
            return
        seen.add(True)
        num_images = sum(f.endswith(".png") and not is_dropping(f) for f in files)
        said = "\n".join(found.left_out)
        outside = re.search(r"(\d+) images? outside class folders", said)
        num_outside = int(outside.group(1)) if outside else 0
        assert sum(len(part.labels) for part in found.parts.values()) + num_outside == num_images
        for c in found.classes:
            assert not is_dropping(c)

    tried = fuzz(check, LAYOUTS, tally.times(60, 3000), tally.is_long)
    assert seen == {True, False}
    tally.note("layouts", "-", tried)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_class_whose_name_is_no_text(tmp_path):
    root = tree(tmp_path / "set", images()[0], "5.jpg")
    for part in ("train", "val", "test"):
        (root / part / "b").rename(root / part / os.fsdecode(b"b\xff"))
    with pytest.raises(InputError, match=r"the name 'b\\udcff' is not UTF-8; rename its folder"):
        image_folder.load(root)


# --- archives -------------------------------------------------------------------------------------


KIND = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}
KIND |= {"pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
MODE = {"link": 0o120777, "pipe": 0o010644, "device": 0o020644}


def packed_tar(members: list[tuple[str, str, bytes]], mode: str = "w") -> bytes:
    """Pack (name, kind, content or target) as they come."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type = KIND[kind]
            if kind == "file":
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            else:
                info.linkname = data.decode("utf-8", "replace")
                tar.addfile(info)
    return file.getvalue()


def packed_zip(members: list[tuple[str, str, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = {"link": 0o120777, "pipe": 0o010644, "device": 0o020644}.get(
                kind, 0o100644
            ) << 16
            archive.writestr(info, data)
    return file.getvalue()


def unpacked(data: bytes, place: Path) -> None:
    """Unpack into place/in: all or nothing, nothing beside it, no link that leads out."""
    inside, outside = place / "in", place / "out"
    outside.mkdir(parents=True)
    (place / "archive").write_bytes(data)
    before = files_below(place)
    try:
        unpack(place / "archive", inside, most_bytes=1_000_000)
        left = files_below(inside)
    except InputError as error:
        named(error, place / "archive")
        assert not inside.exists()
        left = set()
    assert files_below(place) - before - {inside} == left
    assert not list(outside.iterdir())
    for path in left:
        assert path.resolve().is_relative_to(inside.resolve())
        assert not path.is_symlink() or path.exists()


PARTS = st.sampled_from(["a", "b", "..", ".", "", "/", "c.png", "C:", "\\", "a/..", "link", "x" * 300])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
MEMBERS = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from(["file", "folder", "link", "link", "hard", "pipe", "device"]),
        st.one_of(NAMES.map(str.encode), st.sampled_from([b"../out", b"/etc/passwd", b".", b"../../out/x"])),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_members_of_archives(tally, not_yet, tmp_path):
    not_yet("hostile members of archives", "-")
    count = iter(range(10**9))

    def check(value: tuple[bool, list[tuple[str, str, bytes]]]) -> None:
        is_tar, members = value
        unpacked(packed_tar(members) if is_tar else packed_zip(members), tmp_path / str(next(count)))

    tried = fuzz(check, st.tuples(st.booleans(), MEMBERS), tally.times(100, 3000), tally.is_long)
    tally.note("hostile members of archives", "-", tried)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_archives(tally, not_yet, tmp_path):
    not_yet("damaged archives", "-")
    members = [
        ("a", "folder", b""),
        ("a/1.png", "file", b"1" * 700),
        ("l", "link", b"a/1.png"),
        ("b", "file", b"2"),
    ]
    whole = [packed_tar(members, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")]
    whole += [packed_zip(members[1:2] + members[3:]), gzip.compress(b"list" * 99)]
    count = iter(range(10**9))
    tried = fuzz(
        lambda data: unpacked(data, tmp_path / str(next(count))),
        damaged(whole),
        tally.times(100, 3000),
        tally.is_long,
    )
    tally.note("damaged archives", "-", tried)


def test_an_archive_of_10_gb_of_zeros(tmp_path):
    piece = gzip.compress(bytes(100_000_000), 9)
    (tmp_path / "zeros.gz").write_bytes(piece * 100)  # 10 GB in 10 MB
    with in_time(60), pytest.raises(InputError, match=r"zeros\.gz: more than 50\.0 MB unpacked"):
        unpack(tmp_path / "zeros.gz", tmp_path / "in", most_bytes=50_000_000)
    assert files_below(tmp_path) == {tmp_path / "zeros.gz"}


def shard(label: bytes, suffix: str = "cls", num: int = 4) -> bytes:
    image = images()[0]
    members = []
    for i in range(num):
        members += [(f"{i}.jpg", "file", image), (f"{i}.{suffix}", "file", label if i == 0 else b"1")]
    return packed_tar(members)


def listed(data: bytes, place: Path) -> None:
    (place / "train").mkdir(parents=True)
    (place / "train" / "train-0.tar").write_bytes(data)
    try:
        dataset = image_folder.load(place, as_source=True)
    except InputError as error:
        named(error, place, Path(place.name))
        return
    assert all(len(part.images) for part in dataset.parts.values())


def test_damaged_shards(tally, not_yet, tmp_path):
    not_yet("damaged shards", "-")
    by_class = packed_tar([(f"{c}/{i}.jpg", "file", images()[0]) for c in "ab" for i in range(3)])
    whole = [shard(b"0"), shard(b'{"label": 0}', "json"), by_class]
    count = iter(range(10**9))
    check = lambda data: listed(data, tmp_path / str(next(count)))  # noqa: E731
    tried = fuzz(check, damaged(whole), tally.times(60, 3000), tally.is_long)
    tally.note("damaged shards", "-", tried)


@pytest.mark.parametrize("label", [b"1000000", b"9" * 5000, b"-1", b"", b"1e3", b"\xff", b"0x10", b"1_0"])
def test_a_label_without_measure(tmp_path, label):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "train-0.tar").write_bytes(shard(label))
    with (
        in_time(),
        pytest.raises(
            InputError, match=r"0\.cls: invalid label \(b'.*'\); expected a number from 0 to 999,999"
        ),
    ):
        image_folder.load(tmp_path, as_source=True)


@pytest.mark.parametrize("told", [b'{"label": 99999999999999999999999}', b"[" * 100_000, b'{"label": [1]}'])
def test_json_that_tells_no_label(tmp_path, told):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "train-0.tar").write_bytes(shard(told, "json", num=1))
    with in_time(), pytest.raises(InputError, match="expected"):
        image_folder.load(tmp_path, as_source=True)


# --- weights and checkpoints ----------------------------------------------------------------------


class Owns:
    """What a pickle would run."""

    def __init__(self, call: Any, *given: Any) -> None:
        self.call, self.given = call, given

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.given


def pickles(mark: Path) -> list[bytes]:
    """Write gadgets in each of the ways that torch reads."""
    touch = f"touch {mark}"
    gadgets = [Owns(os.system, touch), Owns(eval, f"__import__('os').system({touch!r})"),
               Owns(exec, f"open({str(mark)!r}, 'w')"), Owns(subprocess.check_call, ["touch", str(mark)]),
               Owns(mark.touch), Owns(torch.load, str(mark))]  # fmt: skip
    found = []
    for gadget in gadgets:
        for content in (gadget, {"fc.weight": gadget}, {"a": torch.zeros(2), "b": [gadget]}):
            found.append(pickle.dumps(content))
            for is_zip in (True, False):
                file = io.BytesIO()
                torch.save(content, file, _use_new_zipfile_serialization=is_zip)
                found.append(file.getvalue())
    return found


@pytest.mark.filterwarnings("ignore")
def test_a_hostile_pickle_does_nothing(tally, tmp_path):
    mark, path = tmp_path / "owned", tmp_path / "weights.pt"
    whole = pickles(mark)
    for data in whole:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"\w"):
            read_tensors(path)
        assert not mark.exists()
    pickle.loads(whole[0])
    assert mark.exists()  # where it may run, it does
    tally.note("hostile pickles", "-", len(whole))


def saved(content: Any, is_zip: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_damaged_weights(tally, not_yet, tmp_path):
    """A bit that fell over is noticed: no file gives other numbers than were written."""
    not_yet("damaged weights", "-")
    content = {"w": torch.arange(60.0), "n": {"step": 3}, "l": [torch.ones(2, 3), None, "x"]}
    path, seen = tmp_path / "weights.pt", set()

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            found = read_tensors(path)
        except ValueError as error:
            named(error)
            seen.add(False)
            return
        seen.add(True)
        assert str(found) == str(content)

    tried = fuzz(check, damaged([saved(content)]), tally.times(150, 5000), tally.is_long)
    assert False in seen
    tally.note("damaged weights", "-", tried)


def test_weights_marked_as_a_folder_are_not_what_memory_holds(tmp_path):
    """torch reads no byte of such an entry, and says nothing."""
    path, data = tmp_path / "weights.pt", bytearray(saved({"w": torch.ones(60)}))
    entry = data.index(b"archive/data/0", data.index(b"PK\x01\x02")) - 46
    data[entry + 38] = 0x10
    path.write_bytes(data)
    with pytest.raises(ValueError, match="archive/data/0 is marked as a folder"):
        read_tensors(path)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_unfold(tmp_path):
    path = tmp_path / "weights.pt"
    plain = io.BytesIO(saved({"w": torch.zeros(4_000_000)}))
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    assert path.stat().st_size < 100_000
    with in_time(), pytest.raises(ValueError, match=r"unfolds to 16,\d+,\d+ bytes"):
        read_tensors(path)
    path.write_bytes(saved({"w": torch.zeros(1).expand(10**12)}))
    with in_time(), pytest.raises(ValueError, match="w has 1,000,000,000,000 values and bytes for fewer"):
        read_tensors(path)


def test_safetensors_are_read_and_damaged_ones_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    state = SmallEncoder().state_dict()
    save_file(state, path)
    found = read_tensors(path)
    assert all(torch.equal(found[name], state[name]) for name in state)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"\w"):
        read_tensors(path)
