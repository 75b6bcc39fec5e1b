"""The images that `predict` is given: lists as in training, and archives that are cut."""

import tarfile
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from transferbench import InputError
from transferbench.benchmarks.model.images import find
from transferbench.datasets import catalog

LISTS = {
    "a.csv": "image\na.png\n{}/b.png\n",
    "b.csv": "\n\nid;FILE;label\n1;a.png;x\n\n2;{}/b.png;\n",
    "e.csv": " Image ; note \na.png;\n {}/b.png ; x\n",
    "c.tsv": "path\tnote\na.png\t\n{}/b.png\t1\n",
    "d.jsonl": '{{"file_name": "a.png"}}\n\n{{"image": "{}/b.png", "label": ["x", "y"]}}\n',
}


def names_and_bytes(path: Path) -> list[tuple[str, bytes]]:
    with ExitStack() as opened:
        return [(found.name, found.read()) for found in find([path], opened)]


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_read_as_one_of_training_images(tmp_path, name, code):
    for image in ("a.png", "b.png"):
        (tmp_path / image).write_text(image)
    (tmp_path / name).write_text(LISTS[name].format(tmp_path), encoding=code)
    assert names_and_bytes(tmp_path / name) == [("a.png", b"a.png"), (f"{tmp_path}/b.png", b"b.png")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,path\na.png,b.png\n", "image and path both mean the image"),
        ("name\na.png\n", "no column for the image"),
        ("image,image\na.png,b.png\n", "two columns 'image'"),
        ('image,label\n"",x\n', "row 2: no image"),
        ("image\na.png,b\n", "row 2: 2 cells; the header has 1"),
        (f"image,{'a' * 200_000}\na.png,b\n", "row 1: not a row of a CSV file"),
    ],
)
def test_a_wrong_list_is_named_with_its_row(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        names_and_bytes(tmp_path / "a.csv")


@pytest.mark.parametrize("share", [0.1, 0.47, 0.9])
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_a_cut_archive_is_named_as_damaged(tmp_path, name, share):
    """Both to predict, and as a data set."""
    whole = tmp_path / "whole"
    for i in range(12):
        place = whole / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(bytes(range(256)) * 8)
    archive = tmp_path / name
    if name == "a.zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(whole.rglob("*.png")):
                file.write(path, path.relative_to(whole))
    else:
        with tarfile.open(archive, f"w:{name[6:]}") as file:
            file.add(whole, "")
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    for read in (names_and_bytes, lambda path: catalog.load(str(path))):
        with pytest.raises(InputError, match="cut or damaged|not a readable tar") as error:
            read(archive)
        assert str(archive) in str(error.value)
        assert "\n" not in str(error.value)
