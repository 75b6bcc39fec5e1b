"""`predict` reads no pipe, and writes over none of its inputs."""

import os
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
