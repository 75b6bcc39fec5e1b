"""Zips and compressed tars: unpacked once, equal to their folder; a wrong one is refused in a line."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from packed_trees import PLAIN, SPLIT, written
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.datasets import catalog
from transferbench.datasets.base import Dataset
from transferbench.datasets.download import archives
from transferbench.datasets.storage import cache
from trees import TINY


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    catalog.load.cache_clear()


def loaded(path: Path, as_source: bool = False) -> Dataset:
    catalog.load.cache_clear()
    return catalog.load(str(path), as_source)


def zipped(tree: Path, file: Path, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as out:
        for path in sorted(tree.rglob("*")):
            out.write(path, prefix + path.relative_to(tree).as_posix())
    return file


@pytest.mark.parametrize("files", [SPLIT, PLAIN])
@pytest.mark.parametrize("prefix", ["", "pets/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_equals_its_folder(tmp_path, files, prefix, method):
    tree = written(tmp_path, files)
    file = zipped(tree, tmp_path / "pets.zip", prefix, method)
    for as_source in (False, True):
        found, plain = loaded(file, as_source), loaded(tree, as_source)
        assert (found.name, found.classes, found.fingerprint) == (
            plain.name,
            plain.classes,
            plain.fingerprint,
        )
        assert found.left_out == ()


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_a_compressed_tar_equals_its_folder(tmp_path, ending):
    tree = written(tmp_path, SPLIT)
    file = tmp_path / f"pets.{ending}"
    with tarfile.open(file, f"w:{ {'tgz': 'gz'}.get(ending, ending.removeprefix('tar.')) }") as out:
        out.add(tree, "pets")
    assert loaded(file).fingerprint == loaded(tree).fingerprint
    assert loaded(file).name == "pets"


@pytest.mark.parametrize("ending", ["TAR", "ZIP", "Tar.Gz"])
def test_endings_in_any_case(tmp_path, ending):
    tree = written(tmp_path, SPLIT)
    file = tmp_path / f"pets.{ending}"
    if ending == "ZIP":
        zipped(tree, file)
    else:
        with tarfile.open(file, "w:gz" if ending == "Tar.Gz" else "w") as archive:
            archive.add(tree, "pets")
    found, plain = loaded(file), loaded(tree)
    assert (found.name, found.fingerprint) == (plain.name, plain.fingerprint)


def test_it_is_unpacked_once_and_again_if_it_changes(tmp_path, monkeypatch):
    tree = written(tmp_path, SPLIT)
    file = zipped(tree, tmp_path / "pets.zip")
    first = loaded(file)
    monkeypatch.setattr("transferbench.datasets.loading.packed.extract", None)
    assert loaded(file).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    shutil.copy(tree / "train/cat/0.png", tree / "train/cat/9.png")
    zipped(tree, file)
    os.utime(file, (1, 1))
    assert len(loaded(file).parts["train"].labels) == 9
    (kept,) = (tmp_path / "cache/unpacked").iterdir()
    assert len(list(kept.iterdir())) == 1


class OfMac(zipfile.ZipInfo):
    """A member whose name is UTF-8 without a mark."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802  (of the base class)
        return self.filename.encode(), self.flag_bits


class OfWindows(zipfile.ZipInfo):
    """A member whose name is in an old code page."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode("cp437"), self.flag_bits


class Locked(zipfile.ZipInfo):
    """A member that says that it is encrypted."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode(), self.flag_bits | 1


def members(tree: Path, file: Path, kind: type[zipfile.ZipInfo]) -> Path:
    with zipfile.ZipFile(file, "w") as out:
        for path in sorted(p for p in tree.rglob("*") if p.is_file()):
            out.writestr(kind(path.relative_to(tree).as_posix()), path.read_bytes())
        out.writestr(kind("__MACOSX/train/._0.png"), b"x")
    return file


@pytest.mark.parametrize("kind", [OfMac, OfWindows, zipfile.ZipInfo])
def test_names_of_any_zip_and_droppings_of_macos(tmp_path, kind):
    """macOS writes names in UTF-8 without saying so, and old Windows those of its code page."""
    tree = written(tmp_path, [f.replace("cat", "chät") for f in SPLIT])
    found = loaded(members(tree, tmp_path / "pets.zip", kind))
    assert found.classes == ("chät", "dog")
    assert found.fingerprint == loaded(tree).fingerprint


def test_backslashes_in_names_of_a_zip_are_slashes(tmp_path):
    tree = written(tmp_path, SPLIT)
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as out:
        out.writestr("pets\\empty\\", b"")
        for name in SPLIT:
            out.writestr("pets\\" + name.replace("/", "\\"), (tree / name).read_bytes())
    assert loaded(tmp_path / "pets.zip").fingerprint == loaded(tree).fingerprint


@pytest.mark.parametrize("around", ["", "pets/"])
def test_the_metadata_in_a_plain_tar(tmp_path, around):
    tree = written(tmp_path, [f"{i}.png" for i in range(30)])
    lines = ["file_name,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(30))]
    (tree / "metadata.csv").write_text("\n".join(lines))
    with tarfile.open(tmp_path / "pets.tar", "w") as out:
        for file in sorted(tree.iterdir()):
            out.add(file, around + file.name)
    found = loaded(tmp_path / "pets.tar")
    assert (found.name, found.classes) == ("pets", ("a", "b"))
    assert (found.fingerprint == loaded(tree).fingerprint) == (not around)  # paths are in it
    for part in found.parts.values():
        names = [part.images.path(i).rpartition("/")[2] for i in range(len(part.labels))]
        assert part.labels.tolist() == [int(name.removesuffix(".png")) % 2 for name in names]


def test_a_plain_tar_without_classes_or_a_list_is_refused(tmp_path):
    tree = written(tmp_path, [f"{i}.png" for i in range(30)])
    (tree / "metadata.txt").write_text("")
    with tarfile.open(tmp_path / "pets.tar", "w") as out:
        for file in sorted(tree.iterdir()):
            out.add(file, file.name)
    with pytest.raises(InputError, match=r"pets.tar: expected split/class/image"):
        loaded(tmp_path / "pets.tar")


def written_zip(file: Path, **content: bytes) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, octets in content.items():
            out.writestr(name, octets)
    return file


def test_zips_that_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "UNPACKED_BYTES", 100_000)
    tree = written(tmp_path, SPLIT)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(zipped(tree, tmp_path / "pets.zip").read_bytes()[:-30])
    wrong = {
        members(tree, tmp_path / "locked.zip", Locked): "is encrypted; expected no password",
        cut: "cut or damaged",
        written_zip(
            tmp_path / "bomb.zip", **{"train/a/0.png": bytes(50_000_000)}
        ): "more than .* unpacked, the limit",
        written_zip(
            tmp_path / "out.zip", **{"../x.png": b""}
        ): "unsafe member '../x.png'; expected a relative path",
        written_zip(tmp_path / "empty.zip"): "empty; expected split/class/image",
        written_zip(tmp_path / "text.zip", **{"a/readme.md": b"x"}): "no images; expected split/class/image",
    }
    for file, message in wrong.items():
        with pytest.raises(InputError, match=message) as refused:
            loaded(file)
        assert "\n" not in str(refused.value)
        assert str(file) in str(refused.value)
    assert not (tmp_path / "x.png").exists()


def test_bench_takes_a_zip(tmp_path, capsys):
    file = zipped(written(tmp_path, PLAIN), tmp_path / "my photos.zip")
    given = [f"target={file}", "source=none", "methods=scratch", f"results={tmp_path / 'results'}", *TINY]
    assert main(["bench", *given]) == 0
    assert "none -> my photos:" in capsys.readouterr().out
    assert cache.folder() == tmp_path / "cache"
