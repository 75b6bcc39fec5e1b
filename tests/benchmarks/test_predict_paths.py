"""`predict` reads no pipe, and writes over none of its inputs."""

import os
import tarfile
import zipfile
from contextlib import ExitStack

import pytest
from transferbench import InputError
from transferbench.benchmarks.commands.predict import predict
from transferbench.benchmarks.model.images import find


@pytest.mark.parametrize("listed", [False, True])
def test_a_pipe_is_named_and_not_waited_for(tmp_path, listed):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("image\na.png\n")
    with ExitStack() as opened:
        (found,) = find([tmp_path / "list.csv" if listed else tmp_path], opened)
        with pytest.raises(ValueError, match="a pipe"):
            found.read()


def test_the_table_replaces_no_image(tmp_path):
    image, listed = tmp_path / "a.png", tmp_path / "list.csv"
    image.write_bytes(b"image")
    listed.write_text("image\na.png\n")
    for paths, out in (([image], image), ([tmp_path], image), ([listed], listed)):
        with pytest.raises(InputError, match="ends in .csv|one of the images"):
            predict("best", paths, {"out": str(out)})
    assert (image.read_bytes(), listed.read_text()) == (b"image", "image\na.png\n")


@pytest.mark.parametrize("out", ["no/folder.csv", "."])
def test_a_table_without_a_place_is_refused_first(tmp_path, out):
    with pytest.raises(InputError, match="in a folder that exists"):
        predict("best", [tmp_path / "a.png"], {"out": str(tmp_path / out)})


def names(path) -> list[str]:
    with ExitStack() as opened:
        return [found.name.removeprefix(f"{path}/") for found in find([path], opened)]


def test_links_are_followed_once(tmp_path):
    for place in ("pl", "dog"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").write_bytes(b"a")
    (tmp_path / "pl" / "dogs").symlink_to(tmp_path / "dog")
    (tmp_path / "dog" / "circle").symlink_to(tmp_path / "pl")
    assert names(tmp_path / "pl") == ["a.png", "dogs/a.png"]
    (tmp_path / "pl" / "b.png").symlink_to("a.png")
    (tmp_path / "pl" / "c.png").symlink_to("gone.png")
    with tarfile.open(tmp_path / "l.tar", "w") as archive:
        for name in ("a.png", "b.png", "c.png"):
            archive.add(tmp_path / "pl" / name, name)
    with ExitStack() as opened:
        a, b, c = find([tmp_path / "l.tar"], opened)
        assert a.read() == b.read() == b"a"
        with pytest.raises(ValueError, match="a link to 'gone.png', which is not in the tar"):
            c.read()


@pytest.mark.parametrize("at", [0, 100, 257])
def test_a_tar_with_a_damaged_header_is_refused(tmp_path, at):
    (tmp_path / "a.png").write_bytes(b"a" * 600)
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for i in range(6):
            archive.add(tmp_path / "a.png", f"{i}.png")
    whole = (tmp_path / "t.tar").read_bytes()
    assert len(names(tmp_path / "t.tar")) == 6
    begin = 3 * 1536
    (tmp_path / "t.tar").write_bytes(whole[: begin + at] + b"\xff" * 8 + whole[begin + at + 8 :])
    with pytest.raises(InputError, match="a cut or damaged tar"):
        names(tmp_path / "t.tar")
    (tmp_path / "t.tar").write_bytes(whole[: begin + 300])
    with pytest.raises(InputError, match="a cut or damaged tar"):
        names(tmp_path / "t.tar")


def test_names_of_a_zip_from_macos(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("pics/K?tz.png", b"a")
    raw = (tmp_path / "m.zip").read_bytes().replace(b"K?tz", "K\u00e4z".encode())  # as many bytes
    (tmp_path / "m.zip").write_bytes(raw)
    assert names(tmp_path / "m.zip") == ["pics/K\u00e4z.png"]


def test_backslashes_in_the_names_of_a_zip_are_slashes(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("pics\\a.png", b"a")
        archive.writestr("__MACOSX\\._a.png", b"a")
    assert names(tmp_path / "w.zip") == ["pics/a.png"]
