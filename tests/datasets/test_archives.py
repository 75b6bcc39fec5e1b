"""Unpacking: every kind of archive comes out the same; hostile, cut and damaged ones leave nothing behind."""

import bz2
import errno
import gc
import gzip
import io
import lzma
import os
import random
import stat
import struct
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from transferbench import InputError
from transferbench.datasets.download import archives as module
from transferbench.datasets.download.archives import draft, extract
from unpacking import unpack, unpack_all

FILES = {
    "pets/cat/1.png": b"cat" * 1000,
    "pets/dog/1.png": bytes(random.Random(0).randbytes(70_000)),
    f"pets/{'long' * 30}/{'name' * 20}.png": b"dog",
    "pets/empty": b"",
    "lists/größe.txt": b"1\n",
}
TAR_MODES = {
    "set.tar": "w",
    "set.tar.gz": "w:gz",
    "set.tgz": "w:gz",
    "set.tar.bz2": "w:bz2",
    "set.tar.xz": "w:xz",
}
SINGLE = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def link(name: str, target: str) -> tarfile.TarInfo:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> tarfile.TarInfo:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def tar_of(path: Path, members: Iterable[tuple | tarfile.TarInfo], mode: str = "w", **given: int) -> Path:
    """Write a tar of (name or info, bytes) and of infos without bytes."""
    with tarfile.open(path, mode, **given) as tar:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info = entry(info) if isinstance(info, str) else info
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, members: Iterable[tuple], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip of (name or info, bytes), names as they are."""
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo("x")
            info.compress_type = method
            if isinstance(name, str):
                info.filename = name
            out.writestr(info, data)
    return path


def zip_entry(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "store" / "pets"


@pytest.fixture
def refuse(tmp_path: Path, into: Path) -> Callable[..., str]:
    """Unpack what is to be refused, and see that nothing has come of it, inside or outside."""

    def run(archive: Path, match: str, **given: int) -> str:
        before = everything(tmp_path)
        with pytest.raises(InputError, match=match) as caught:
            unpack(archive, into, **given)
        assert str(archive) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert everything(tmp_path) == before
        return str(caught.value)

    into.parent.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    return run


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.lstat().st_mode, p.read_bytes() if p.is_file() else b"") for p in folder.rglob("*")}


@pytest.mark.parametrize("name", TAR_MODES)
@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_every_kind(tmp_path, into, name, style):
    unpack(tar_of(tmp_path / name, FILES.items(), TAR_MODES[name], format=style), into)
    assert contents(into) == FILES
    assert [p.name for p in into.parent.iterdir()] == ["pets"]


def test_folders_of_a_zip(tmp_path, into):
    members = [("a/", b""), (zip_entry("b", stat.S_IFDIR), b""), ("b/1.png", b"1")]
    unpack(zip_of(tmp_path / "set.zip", members), into)
    assert (into / "a").is_dir()
    assert contents(into) == {"b/1.png": b"1"}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_of_every_kind(tmp_path, into, method):
    unpack(zip_of(tmp_path / "set.zip", FILES.items(), method), into)
    assert contents(into) == FILES


@pytest.mark.parametrize("suffix", SINGLE)
def test_one_packed_file_loses_its_suffix(tmp_path, into, suffix):
    archive = tmp_path / f"train-images.idx{suffix}"
    archive.write_bytes(SINGLE[suffix](b"digits" * 1000))
    unpack(archive, into)
    assert contents(into) == {"train-images.idx": b"digits" * 1000}


def test_one_packed_file_without_a_suffix_keeps_its_name(tmp_path, into):
    archive = tmp_path / "train.idx"
    archive.write_bytes(gzip.compress(b"7"))
    unpack(archive, into)
    assert contents(into) == {"train.idx": b"7"}


def test_the_content_tells_the_kind_and_not_the_name(tmp_path, into):
    unpack(tar_of(tmp_path / "set.zip", FILES.items(), "w:bz2"), into)
    unpack(zip_of(tmp_path / "set.tar.gz", FILES.items()), into.with_name("2"))
    unpack(tar_of(tmp_path / "download", FILES.items()), into.with_name("3"))
    assert contents(into) == contents(into.with_name("2")) == contents(into.with_name("3")) == FILES


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path, into):
    inner = zip_of(tmp_path / "inner.zip", FILES.items()).read_bytes()
    archive = tar_of(tmp_path / "set.tar", [("inner.zip", inner)])
    assert zipfile.is_zipfile(archive)
    unpack(archive, into)
    assert contents(into) == {"inner.zip": inner}


def test_empty_folders_come_too_and_modes_do_not(tmp_path, into):
    members = [
        entry("a/b", tarfile.DIRTYPE, mode=0),
        (entry("a/run", mode=0o6777), b"#!"),
        (entry("a/none", mode=0), b""),
    ]
    unpack(tar_of(tmp_path / "set.tar", members), into)
    assert (into / "a" / "b").is_dir()
    mask = os.umask(0)
    os.umask(mask)
    for file in (into / "a" / "run", into / "a" / "none"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


def test_the_archives_of_a_set_go_into_one_folder(tmp_path, into):
    images = tar_of(tmp_path / "images.tar.gz", [("LICENSE", b"old"), ("cat.png", b"cat")], "w:gz")
    lists = zip_of(tmp_path / "lists.zip", [("LICENSE", b"new"), ("train.txt", b"cat.png")])
    unpack_all([(images, "."), (lists, "."), (lists, "more/lists")], into)
    assert contents(into) == {
        "LICENSE": b"new",
        "cat.png": b"cat",
        "train.txt": b"cat.png",
        "more/lists/LICENSE": b"new",
        "more/lists/train.txt": b"cat.png",
    }
    assert [p.name for p in into.parent.iterdir()] == ["pets"]


def test_one_bad_archive_of_a_set_leaves_nothing(tmp_path, into):
    good = zip_of(tmp_path / "good.zip", FILES.items())
    bad = tmp_path / "bad.zip"
    bad.write_bytes(good.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"bad\.zip: cut or damaged"):
        unpack_all([(good, "."), (bad, ".")], into)
    assert list(into.parent.iterdir()) == []


def test_an_empty_folder_is_filled_and_any_other_left_alone(tmp_path, into):
    archive = zip_of(tmp_path / "set.zip", FILES.items())
    into.mkdir(parents=True)
    unpack(archive, into)
    before = everything(tmp_path)
    with pytest.raises(InputError, match="pets: already exists; expected no such folder, or an empty one"):
        unpack(archive, into)
    with pytest.raises(InputError, match="already exists"):
        unpack(archive, into / "lists" / "größe.txt")
    assert everything(tmp_path) == before


def test_a_folder_filled_meanwhile_is_left_alone(into):
    with pytest.raises(InputError, match="pets: cannot be created"), draft(into) as folder:  # noqa: PT012
        (folder / "ours").write_text("ours")
        into.mkdir()
        (into / "theirs").write_text("theirs")
    assert contents(into.parent) == {"pets/theirs": b"theirs"}


def test_a_draft_whose_maker_fails_is_removed(into):
    with pytest.raises(KeyError), draft(into) as folder:  # noqa: PT012
        (folder / "half").write_text("half")
        raise KeyError
    assert list(into.parent.iterdir()) == []


UNSAFE = ["/etc/x", "../x", "a/../../x", "a/..", "..", "C:/x", "c:x", "a\\..\\..\\x", "\\x", "//host/x"]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_no_member_of_a_tar_leaves_the_folder(tmp_path, refuse, name, kind):
    members = [("good", b"1"), entry(name, kind, linkname="good")]
    assert repr(name) in refuse(tar_of(tmp_path / "set.tar", members), "unsafe member")


@pytest.mark.parametrize("name", [*UNSAFE, "../folder/"])
def test_no_member_of_a_zip_leaves_the_folder(tmp_path, refuse, name):
    refuse(zip_of(tmp_path / "set.zip", [("good", b"1"), (name, b"")]), "unsafe member")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_no_device_or_pipe_is_made(tmp_path, refuse, kind):
    refuse(
        tar_of(tmp_path / "set.tar", [entry("null", kind, devmajor=1, devminor=3)]),
        "'null', a device or pipe",
    )


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_no_device_or_pipe_of_a_zip_is_made(tmp_path, refuse, kind):
    refuse(zip_of(tmp_path / "set.zip", [(zip_entry("null", kind), b"")]), "'null', a device or pipe")


OUT = {
    "absolute": [link("out", "/")],
    "absolute file": [link("out", "/etc/passwd")],
    "up": [link("out", "../..")],
    "up to a file": [link("a/out", "../../../secret")],
    "deep": [entry("a/b", tarfile.DIRTYPE), link("a/b/out", "../../../..")],
    "by another link": [entry("a/b", tarfile.DIRTYPE), link("l", "a/b"), link("out", "l/../../..")],
    "by a chain": [
        entry("a/b/c", tarfile.DIRTYPE),
        link("x", "a/b/c"),
        link("y", "x/../.."),
        link("out", "y/../.."),
    ],
    "hard": [hard("out", "../../secret")],
    "hard absolute": [hard("out", "/etc/passwd")],
    "hard by a link": [link("l", "../../secret"), hard("out", "l")],
    "to itself": [link("a/self", "../a")],
    "to the top": [link("top", ".")],
}


@pytest.mark.parametrize("members", OUT.values(), ids=OUT)
def test_no_link_leaves_the_folder(tmp_path, refuse, members):
    assert "link" in refuse(tar_of(tmp_path / "set.tar", [*members, ("good", b"1")]), "unsafe|has no target")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "/"])
def test_no_link_of_a_zip_leaves_the_folder(tmp_path, refuse, target):
    members = [(zip_entry("out", stat.S_IFLNK), target)]
    refuse(zip_of(tmp_path / "set.zip", members), "unsafe link 'out'")


THROUGH = {
    "a link out": [link("out", "../.."), ("out/written", b"!")],
    "a link to a file": [link("secret", "../../secret"), ("secret", b"!")],
    "a link and a folder": [link("out", "/tmp"), entry("out", tarfile.DIRTYPE), ("out/written", b"!")],
    "a folder and a link": [entry("out", tarfile.DIRTYPE), link("out", "../.."), ("out/written", b"!")],
    "a hard link": [hard("secret", "../../secret"), ("secret", b"!")],
    "two links": [link("a", "."), link("a/b", ".."), ("a/b/written", b"!")],
}


@pytest.mark.parametrize("members", THROUGH.values(), ids=THROUGH)
def test_nothing_is_written_through_a_link(tmp_path, refuse, members):
    refuse(tar_of(tmp_path / "set.tar", members), "unsafe|has no target|cannot be unpacked")


def test_nothing_is_written_through_a_link_of_an_earlier_archive(tmp_path, into):
    first = tar_of(tmp_path / "1.tar", [("a/b/c/old", b"1"), link("l", "a/b/c"), link("f", "a/b/c/old")])
    second = tar_of(tmp_path / "2.tar", [("l/new", b"2"), ("f", b"3"), link("out", "l/../../../..")])
    with pytest.raises(InputError, match="unsafe link 'out'"):
        unpack_all([(first, "."), (second, ".")], into)
    third = tar_of(tmp_path / "3.tar", [("l/new", b"2"), ("f", b"3"), link("l", "a")])
    unpack_all([(first, "."), (third, ".")], into)
    assert (into / "a/b/c/old").read_bytes() == b"1"
    assert (into / "a/b/c/new").read_bytes() == b"2"
    assert (into / "f").read_bytes() == b"3"
    assert (into / "l").readlink() == Path("a")


def test_a_link_that_is_replaced_does_not_turn_another_one_outside(tmp_path, into):
    chain = [entry("a/b/c", tarfile.DIRTYPE), link("x", "a/b/c"), link("y", "x/../..")]
    sets = (chain, [entry("d", tarfile.DIRTYPE), link("x", "d")], [("y/written", b"!")])
    archives = [tar_of(tmp_path / f"{i}.tar", members) for i, members in enumerate(sets)]
    unpack_all([(a, ".") for a in archives], into)
    assert (into / "x").readlink() == Path("d")
    assert contents(into)["a/written"] == b"!"


def test_links_inside_stay(tmp_path, into):
    members = [
        link("by-class/cat/1.png", "../../images/1.png"),
        link("images/again", "./2.png"),
        link("photos", "images"),
        link("photos/last", "1.png"),
        hard("copies/copy.png", "images/1.png"),
        link("short", "by-class/cat"),
        link("short/last", "../../images/2.png"),
        ("images/1.png", b"one"),
        ("images/2.png", b"two"),
    ]
    unpack(tar_of(tmp_path / "set.tar", members), into)
    assert (into / "by-class/cat/1.png").read_bytes() == b"one"
    assert (into / "images/again").read_bytes() == b"two"
    assert (into / "photos").readlink() == Path("images")
    assert (into / "images/last").read_bytes() == b"one"
    assert (into / "by-class/cat/last").read_bytes() == b"two"
    copy = into / "copies/copy.png"
    assert copy.read_bytes() == b"one"
    assert not copy.is_symlink()
    assert copy.stat().st_nlink == 1


def test_names_that_differ_in_case_or_come_twice(tmp_path, into):
    members = [("a", b"1"), ("A", b"22"), ("a", b"333"), ("./b", b"1"), ("b", b"2"), (".//c/./d", b"3")]
    unpack(tar_of(tmp_path / "set.tar", members), into)
    assert contents(into) == {"A": b"22", "a": b"333", "b": b"2", "c/d": b"3"}


def test_a_file_in_place_of_a_folder_is_refused(tmp_path, refuse):
    refuse(tar_of(tmp_path / "1.tar", [("a/b", b"1"), ("a", b"2")]), "cannot be unpacked")
    refuse(tar_of(tmp_path / "2.tar", [("a", b"2"), ("a/b", b"1")]), "cannot be unpacked")
    refuse(tar_of(tmp_path / "3.tar", [(".", b"2")]), "cannot be unpacked")


@pytest.mark.parametrize("kind", ["tar.gz", "zip", "gz"])
def test_a_bomb_is_stopped_when_it_has_gone_too_far(tmp_path, refuse, monkeypatch, kind):
    archive, zeros, written = tmp_path / f"bomb.{kind}", bytes(20_000_000), []
    if kind == "zip":
        zip_of(archive, [("good", b"1"), ("zeros", zeros)])
        understate(archive, 20_000_000, 1_000)
    elif kind == "gz":
        archive.write_bytes(gzip.compress(zeros, 1))
    else:
        tar_of(archive, [(f"{i}", zeros[:1_000_000]) for i in range(20)], "w:gz")
    assert archive.stat().st_size < 200_000
    match = "cut or damaged" if kind == "zip" else r"more than 3\.0 MB unpacked"
    make = module._Writer

    def remember(*args: object) -> module._Writer:
        written.append(make(*args))
        return written[-1]

    monkeypatch.setattr(module, "_Writer", remember)
    refuse(archive, match, most_bytes=3_000_000)
    assert written[0].num_bytes <= 3_000_000


def test_the_bound_is_for_all_archives_of_a_set(tmp_path, into):
    archive = zip_of(tmp_path / "set.zip", [("a", bytes(600))])
    unpack_all([(archive, "1")], into.with_name("one"), most_bytes=600)
    with pytest.raises(InputError, match="more than 500 bytes unpacked"):
        unpack_all([(archive, "1"), (archive, "2")], into, most_bytes=1100)
    assert [p.name for p in into.parent.iterdir()] == ["one"]


@pytest.mark.parametrize("kind", ["zip", "tar", "sparse"])
def test_a_member_that_says_it_is_too_large_is_not_begun(tmp_path, refuse, monkeypatch, kind):
    archive = tmp_path / f"set.{kind}"
    if kind == "zip":
        zip_of(archive, [("a", bytes(5000))])
    elif kind == "tar":
        tar_of(archive, [("a", bytes(5000))])
    else:
        info = entry(
            "a", pax_headers={"GNU.sparse.size": str(10**15), "GNU.sparse.map": "0,1", "GNU.sparse.name": "a"}
        )
        tar_of(archive, [(info, b"1")], format=tarfile.PAX_FORMAT)
    monkeypatch.setattr(module._Writer, "num_bytes", 0)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: pytest.fail("the file was begun"))
    refuse(archive, r"more than 4\.0 kB", most_bytes=4000)


def test_hard_links_count(tmp_path, refuse):
    members = [("a", bytes(1000)), *(hard(f"b{i}", "a") for i in range(5))]
    refuse(tar_of(tmp_path / "set.tar", members), r"more than 4\.0 kB", most_bytes=4000)


def test_members_are_counted(tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(module, "MOST_MEMBERS", 9)
    members = [("a", b""), *(link(f"l{i}", "a") for i in range(9))]
    refuse(tar_of(tmp_path / "set.tar", members), "more than 9 members")
    refuse(zip_of(tmp_path / "set.zip", [(f"{i}/", b"") for i in range(10)]), "more than 9 members")


SPARSE = {"GNU.sparse.size": "1000000", "GNU.sparse.map": "0,1", "GNU.sparse.name": "a"}


@pytest.mark.parametrize("first", ["good", entry("a", pax_headers=SPARSE)])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, refuse, monkeypatch, first):
    monkeypatch.setattr(module, "HEADER_BYTES", 100_000)
    info = entry("b", pax_headers={"comment": "x" * 300_000})
    archive = tar_of(tmp_path / "set.tgz", [(first, b"1"), (info, b"1")], "w:gz", format=tarfile.PAX_FORMAT)
    refuse(archive, "cut or damaged")


def test_a_size_far_beyond_the_end_is_refused_at_once(tmp_path, refuse):
    sparse = entry("a", pax_headers=SPARSE).tobuf(tarfile.PAX_FORMAT)[:-512]
    huge = entry("a", size=10**17).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "set.tar").write_bytes(sparse + huge + bytes(2048))
    refuse(tmp_path / "set.tar", "cut or damaged")


@pytest.mark.parametrize("member", [link("l", "x/" * 3000), link("x/" * 3000, "a"), entry("x/" * 3000)])
def test_paths_are_bounded(tmp_path, refuse, member):
    refuse(tar_of(tmp_path / "set.tar", [member]), "a path of more than 4,096 characters")


def test_paths_that_no_disk_can_have_are_refused(tmp_path, refuse):
    for info in (
        entry("a", pax_headers={"path": "a\0b"}),
        entry("a", tarfile.SYMTYPE, linkname="b", pax_headers={"linkpath": "a\0b"}),
    ):
        refuse(tar_of(tmp_path / "set.tar", [info], format=tarfile.PAX_FORMAT), "cut or damaged")
    refuse(tar_of(tmp_path / "set.tar", [("x" * 300, b"1")]), "File name too long")
    refuse(zip_of(tmp_path / "set.zip", [(zip_entry("l", stat.S_IFLNK), b"\xff")]), "cut or damaged")


def test_sparse_files_come_whole(tmp_path, into):
    unpack(
        tar_of(tmp_path / "set.tar", [(entry("a", pax_headers=SPARSE), b"1")], format=tarfile.PAX_FORMAT),
        into,
    )
    assert contents(into) == {"a": b"1".ljust(1_000_000, b"\0")}


def test_a_chain_of_headers_without_a_member_is_refused(tmp_path, refuse):
    name = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    name.size = 10
    chain = (name.tobuf() + b"name".ljust(512, b"\0")) * 3000
    (tmp_path / "set.tar").write_bytes(chain + bytes(1024))
    refuse(tmp_path / "set.tar", "cut or damaged")


def understate(archive: Path, size: int, said: int) -> None:
    """Let both headers of a zip's member lie about its unpacked size."""
    data = archive.read_bytes()
    assert data.count(struct.pack("<I", size)) == 2
    archive.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", said)))


@pytest.mark.parametrize("said", [10, 5_001, 60_000])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_that_lies_about_a_size_is_refused(tmp_path, refuse, said, method):
    archive = zip_of(tmp_path / "set.zip", [("a", random.Random(1).randbytes(5_000))], method)
    data = archive.read_bytes()
    at = data.index(b"PK\x01\x02")  # the sizes of the directory alone, which are the ones that count
    archive.write_bytes(data[: at + 24] + struct.pack("<I", said) + data[at + 28 :])
    refuse(archive, "cut or damaged")


def packings(folder: Path) -> Sequence[tuple[str, bytes]]:
    """Write one set by every packing."""
    files = [("a/1.png", random.Random(2).randbytes(3000)), ("a/2.png", b"2" * 2000), ("b/3.png", b"")]
    archives = [tar_of(folder / name, files, mode) for name, mode in TAR_MODES.items()]
    archives += [
        zip_of(folder / "deflated.zip", files),
        zip_of(folder / "stored.zip", files, zipfile.ZIP_STORED),
    ]
    for suffix, pack in SINGLE.items():
        archives.append(folder / f"one{suffix}")
        archives[-1].write_bytes(pack(files[0][1]))
    return [(a.name, a.read_bytes()) for a in archives]


def test_an_archive_cut_anywhere_is_refused(tmp_path, refuse):
    for name, data in packings(tmp_path):
        archive = tmp_path / name
        end = len(data.rstrip(b"\0")) if name == "set.tar" else len(data)
        blocks = range(512, end, 512) if name == "set.tar" else ()  # where a cut looks like an end
        for length in {*range(6, end, max(1, end // 12)), *blocks, end - 1}:
            archive.write_bytes(data[:length])
            words = (
                "not an archive"
                if name == "set.tar" and length < 512
                else "cut or damaged; delete it and download it"
            )
            refuse(archive, words)


def test_a_damaged_archive_is_refused_or_comes_out_inside(tmp_path, refuse, into):
    draw = random.Random(3)
    before = sorted(p.name for p in tmp_path.iterdir())
    for name, data in packings(tmp_path):
        archive = tmp_path / name
        for _ in range(25):
            damaged = bytearray(data)
            for _ in range(draw.choice((1, 1, 3, 20))):
                damaged[draw.randrange(min(len(data), 6000))] = draw.randrange(256)
            archive.write_bytes(damaged)
            with suppress(InputError):
                unpack(archive, into)
            assert {p.name for p in into.parent.iterdir()} <= {"pets"}
            remove(into)
        archive.unlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if folder.exists():
        folder.rmdir()


def test_a_wrong_sum_behind_the_last_member_is_seen(tmp_path, refuse):
    archive = tar_of(tmp_path / "set.tar.gz", FILES.items(), "w:gz")
    data = bytearray(archive.read_bytes())
    data[-6] ^= 1  # of gzip's sum
    archive.write_bytes(data)
    refuse(archive, "cut or damaged")


def test_a_damaged_header_is_no_end(tmp_path, refuse):
    archive = tar_of(tmp_path / "set.tar", [("a", b"1"), ("b", b"2")])
    data = bytearray(archive.read_bytes())
    data[1024] ^= 1
    archive.write_bytes(data)
    refuse(archive, "cut or damaged")


def test_what_follows_the_end_of_a_tar_does_no_harm(tmp_path, into):
    archive = tar_of(tmp_path / "set.tar", FILES.items())
    archive.write_bytes(archive.read_bytes().rstrip(b"\0").ljust(512 * 200, b"\0") + b"rubbish" * 100)
    unpack(archive, into)
    assert contents(into) == FILES


@pytest.mark.parametrize(
    "data", [b"<html>Sign in</html>", b"", b"\x1f\x9d\x90rest", bytes(2000), b"x" * 2000]
)
def test_what_is_no_archive_is_told(tmp_path, refuse, data):
    (tmp_path / "set.tar.gz").write_bytes(data)
    refuse(
        tmp_path / "set.tar.gz", "not an archive; expected tar, zip, or a file packed by gzip, bzip2 or xz"
    )


@pytest.mark.parametrize("name", ["set.tar.gz", "set.tgz"])
def test_a_packed_tar_without_a_tar_in_it_is_damaged(tmp_path, refuse, name):
    (tmp_path / name).write_bytes(gzip.compress(b"<html>"))
    refuse(tmp_path / name, "cut or damaged")


def test_a_missing_archive_is_told(tmp_path, refuse):
    refuse(tmp_path / "set.tar.gz", "No such file")


def test_zips_that_are_encrypted_or_packed_in_rare_ways_are_told(tmp_path, refuse):
    refuse(
        zip_of(tmp_path / "rare.zip", [("a", b"1")], zipfile.ZIP_LZMA), "a uses an unsupported compression"
    )
    archive = zip_of(tmp_path / "set.zip", [("a", b"1")])
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    refuse(archive, "a is encrypted")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_a_full_disk_is_one_line(tmp_path, into, monkeypatch, code, call):
    archive = tar_of(tmp_path / "set.tar", FILES.items())
    real = getattr(Path, call)

    def fill(path: Path, *args: object, **given: object) -> object:
        if "pets/cat" in str(path):
            raise OSError(code, os.strerror(code))
        return real(path, *args, **given)

    into.parent.mkdir()
    monkeypatch.setattr(Path, call, fill)
    with pytest.raises(
        InputError, match=r"set\.tar: cannot be unpacked into .*pets.* \(no space left; free some\)$"
    ):
        unpack(archive, into)
    assert list(into.parent.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("num_bytes", [10, 1_000_000])
def test_a_disk_that_fills_up_in_the_middle_of_a_file_is_one_line(tmp_path, into, monkeypatch, num_bytes):
    archive, real = tar_of(tmp_path / "set.tar", [("a", bytes(num_bytes))]), Path.open
    full = Path("/dev/full")
    monkeypatch.setattr(
        Path,
        "open",
        lambda p, mode="r", *a, **k: real(full, "wb") if mode == "xb" else real(p, mode, *a, **k),
    )
    with pytest.raises(InputError, match="no space left; free some"):
        unpack(archive, into)
    assert list(into.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, into, monkeypatch):
    archive = tar_of(tmp_path / "set.tar", FILES.items())
    monkeypatch.setattr(Path, "mkdir", Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(
        InputError, match=r"pets: cannot be created \(Read-only file system\); expected a writable folder"
    ):
        unpack(archive, into)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_large_member_is_never_in_memory_whole(tmp_path, into, kind):
    archive, zeros = tmp_path / f"set.{kind}", bytes(24_000_000)
    if kind == "zip":
        zip_of(archive, [("zeros", zeros)])
    else:
        tar_of(archive, [("zeros", zeros)], "w:gz" if kind == "tar.gz" else "w")
    into.mkdir(parents=True)
    tracemalloc.start()
    extract(archive, into)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (into / "zeros").stat().st_size == len(zeros)
    assert peak < 6_000_000


def test_the_members_of_a_large_tar_are_not_all_in_memory(tmp_path):
    archive, kept = tar_of(tmp_path / "set.tar", [(f"{i}", b"") for i in range(500)]), []
    with archive.open("rb") as f:
        for member in module._tar_members(archive, f):
            if member.name in ("0", "499"):
                gc.collect()
                kept.append(sum(type(o) is tarfile.TarInfo for o in gc.get_objects()))
    assert kept[1] <= kept[0] + 1


def test_a_long_archive_shows_how_much_is_done(tmp_path, into, monkeypatch):
    archive = tar_of(tmp_path / "set[1].tar", FILES.items())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    shown = []
    for is_terminal, long_bytes in ((True, 100), (True, 10**6), (False, 100)):
        terminal = io.StringIO()
        terminal.isatty = lambda is_terminal=is_terminal: is_terminal
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(module, "LARGE_BYTES", long_bytes)
        unpack(archive, into.with_name(str(len(shown))))
        shown.append(terminal.getvalue())
    assert "unpacking set[1].tar" in shown[0]
    assert shown[1:] == ["", ""]
