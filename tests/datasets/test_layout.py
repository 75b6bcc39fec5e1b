"""Which folders are classes, of which part: the same for folders, a tar and shards of them."""

import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from packed_trees import KINDS, PLAIN, SPLIT, written
from transferbench import InputError
from transferbench.datasets.base import Dataset
from transferbench.datasets.files.folder_names import is_dropping
from transferbench.datasets.loading import image_folder


def sizes(found: Dataset) -> dict[str, int]:
    return {part: len(content.labels) for part, content in found.parts.items()}


def by_class(found: Dataset) -> dict[str, list[str]]:
    """Return class and file name of the images of each part."""
    result = {}
    for part, content in found.parts.items():
        images = content.images
        names = [images.path(i).rpartition("/")[2] for i in range(len(images))]
        result[part] = sorted(
            f"{found.classes[y]}/{name}" for y, name in zip(content.labels, names, strict=True)
        )
    return result


AROUND = {  # what lies around the images of a data set, and is no part of it
    "archive droppings": ["__MACOSX/train/cat/._0.png", "__MACOSX/._train", "._cat"],
    "file managers": ["Thumbs.db", "train/cat/desktop.ini", "train/.DS_Store", "@eaDir/cat/x.png"],
    "editors and versions": [".git/x.png", "train/.ipynb_checkpoints/0.png", ".thumbnails/cat/1.png"],
    "windows": ["$RECYCLE.BIN/cat/0.png", "System Volume Information/x.png"],
    "documents": ["docs/read.md", "annotations/xml/0.xml", "labels/train/0.txt", "README.md", "train/a.csv"],
    "empty folders": ["labels/", "masks/val/"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapper", ["", "pets-v2/", "archive/data/"])
@pytest.mark.parametrize("around", AROUND)
def test_what_lies_around_the_parts_changes_nothing(tmp_path, kind, wrapper, around):
    plain = image_folder.load(written(tmp_path / "plain", SPLIT))
    files = [f"{wrapper}{name}" for name in [*SPLIT, *AROUND[around]]]
    found = image_folder.load(written(tmp_path / "other", [*files, "__MACOSX/x"], kind))
    assert found.classes == ("cat", "dog")
    assert by_class(found) == by_class(plain)
    assert found.left_out == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapper", ["", "PetImages/", "archive/PetImages/"])
def test_a_folder_around_class_folders_changes_neither_classes_nor_the_split(tmp_path, kind, wrapper):
    plain = image_folder.load(written(tmp_path / "plain", PLAIN))
    files = [f"{wrapper}{name}" for name in [*PLAIN, ".DS_Store", "__MACOSX/cat/._0.png"]]
    found = image_folder.load(written(tmp_path / "other", files, kind))
    assert sizes(found) == {"train": 12, "holdout": 4, "test": 4}
    assert by_class(found) == by_class(plain)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("train", ("train", "Train", "TRAIN", "training", "Training")),
        ("holdout", ("val", "Val", "valid", "validation", "VALIDATION", "dev", "holdout")),
        ("test", ("test", "Test", "testing", "eval", "evaluation")),
    ],
)
def test_names_of_parts(tmp_path, part, names):
    usual = {"train": "train", "holdout": "val", "test": "test"}
    for name in names:
        own = [f.replace(f"{usual[part]}/", f"{name}/") for f in SPLIT]
        assert sizes(image_folder.load(written(tmp_path / name, own))) == dict.fromkeys(usual, 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("one", "two"), [("val", "valid"), ("dev", "val"), ("Val", "val"), ("eval", "test")])
def test_two_names_of_one_part_are_an_error(tmp_path, kind, one, two):
    part = "test" if two == "test" else "holdout"
    files = [*SPLIT, *(f"{name}/{c}/0.png" for name in (one, two) for c in ("cat", "dog"))]
    with pytest.raises(InputError, match=f"'{one}' and '{two}' both mean the part '{part}'; expected one"):
        image_folder.load(written(tmp_path, files, kind))


def test_a_second_name_without_images_is_no_error(tmp_path):
    assert sizes(image_folder.load(written(tmp_path, [*SPLIT, "valid/", "eval/cat/x.txt"])))["holdout"] == 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([*SPLIT, "extra/cat/0.png"], "extra/cat/0.png"),
        ([*SPLIT, "train/cat/more/0.png"], "train/cat/more/0.png"),
        ([*PLAIN, "cat/more/0.png"], "cat/more/0.png"),
        (["train/0.png", "test/0.png"], "test/0.png"),
        (["train/deep/cat/0.png"], "train/deep/cat/0.png"),
        (["0.png", "1.png"], "0.png"),
    ],
)
def test_images_that_fit_no_layout_are_named(tmp_path, kind, files, found):
    with pytest.raises(InputError, match=rf"expected split/class/image .*found {found}"):
        image_folder.load(written(tmp_path, files, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("files", "kept", "line"),
    [
        ([*SPLIT[:16], "test/0.png", "test/1.png"], {"train", "holdout"}, "2 images ... test/0.png"),
        ([*SPLIT, "train/0.png"], {"train", "holdout", "test"}, "1 image ... train/0.png"),
        ([*PLAIN, "0.png"], {"train", "holdout", "test"}, "1 image ... 0.png"),
        ([f"x/{f}" for f in [*PLAIN, "0.png"]], {"train", "holdout", "test"}, "1 image ... x/0.png"),
    ],
)
def test_images_outside_class_folders_are_said_and_left_out(tmp_path, kind, files, kept, line):
    found = image_folder.load(written(tmp_path, files, kind))
    assert set(found.parts) == kept
    assert found.classes == ("cat", "dog")
    (said,) = found.left_out
    assert said == f"pets: {line.replace('...', 'outside class folders left out, such as')}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_only_another_part_has_is_an_error(tmp_path, kind):
    with pytest.raises(InputError, match="pets/test: class 'bird' has no folder with images in pets/train$"):
        image_folder.load(written(tmp_path / "none", [*SPLIT, "test/bird/0.png"], kind))
    files = [*SPLIT, "test/bird/0.png", "train/bird/0.psd", "train/bird/1.psd"]
    with pytest.raises(InputError, match=r"in pets/train; all files there are left out: 2 \.psd \("):
        image_folder.load(written(tmp_path / "lost", files, kind))


def test_a_label_that_only_another_part_has_is_an_error(tmp_path):
    for part, labels in (("train", "01"), ("val", "012")):
        (tmp_path / "set").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "set" / f"{part}-0.tar", "w") as tar:
            for i, label in enumerate(labels):
                image, text = written(tmp_path / f"{part}{i}", ["0.png"]) / "0.png", tmp_path / "x.cls"
                text.write_text(label)
                tar.add(image, f"{i}.png")
                tar.add(text, f"{i}.cls")
    with pytest.raises(InputError, match="set/holdout: class '2' has no folder with images in"):
        image_folder.load(tmp_path / "set")


def test_shards_in_a_folder_with_droppings_and_documents(tmp_path):
    place = written(tmp_path, SPLIT, "shards")
    for name in ("__MACOSX/._0.tar", "@eaDir/0.tar/x.png", "docs/read.md", "checksums.txt", "more.zip"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")
    assert sizes(image_folder.load(place)) == {"train": 8, "holdout": 8, "test": 8}


def test_a_compressed_shard_in_a_part_folder_is_not_passed_over(tmp_path):
    for name in ("train/0.tar", "train/1.tar.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"found 0\.tar, 1\.tar\.gz; unpack it: tar xf \S+1\.tar\.gz -C "):
        image_folder.load(tmp_path)


def test_a_folder_with_one_zip_in_it_gives_the_path_of_the_zip(tmp_path):
    file = Path(shutil.make_archive(str(tmp_path / "box" / "my pets"), "zip", written(tmp_path, SPLIT)))
    with pytest.raises(InputError, match=rf"found my pets\.zip; give its own path: {file}"):
        image_folder.load(file.parent)


def test_the_part_of_a_shard_holds_for_all_folders_in_it(tmp_path):
    """A folder around the classes must not merge the parts of shards."""
    for part in ("train", "val"):
        (tmp_path / "set").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "set" / f"{part}-0.tar", "w") as tar:
            tar.add(written(tmp_path / part, PLAIN), "pets")
    with pytest.raises(InputError, match="expected split/class/image"):
        image_folder.load(tmp_path / "set")


def test_links_to_images_and_folders_are_followed_and_circles_end(tmp_path):
    tree = written(tmp_path, SPLIT)
    linked = tmp_path / "linked"
    (linked / "train/cat").mkdir(parents=True)
    for i in range(4):
        (linked / f"train/cat/{i}.png").symlink_to(tree / f"train/cat/{i}.png")
    (linked / "train/dog").symlink_to(tree / "train/dog")
    (linked / "val").symlink_to(tree / "val")
    (linked / "test").symlink_to(tree / "test")
    (linked / "train/cat/up").symlink_to(linked / "train")
    (linked / "self").symlink_to("self")
    found, plain = image_folder.load(linked), image_folder.load(tree)
    assert by_class(found) == by_class(plain)
    assert found.left_out == (
        f"linked: links to a folder above them left out, such as {linked}/train/cat/up",
    )


def test_a_large_tree_with_a_wrapper_is_scanned_again_when_a_class_changes(tmp_path, monkeypatch):
    """What an index is keyed by follows the class folders, wherever the layout has them."""
    monkeypatch.setattr(image_folder, "KEPT_FROM", 3)
    files: Mapping[str, list[str]] = {
        "docs": [*SPLIT, "docs/x.md"],
        "wrapper": [f"archive/data/{f}" for f in SPLIT],
        "plain": [f"data/{f}" for f in PLAIN],
        "flat": [*SPLIT[:16], "test/0.png"],
    }
    for name, own in files.items():
        tree = written(tmp_path / name, own)
        before = image_folder.load(tree)
        image = next(tree.rglob("cat/0.png"))
        image.rename(image.with_name("new.png"))
        after = image_folder.load(tree)
        assert before.fingerprint != after.fingerprint
        assert any("cat/new.png" in names for names in by_class(after).values())
        (image.parent / "9.psd").write_bytes(b"x")
        for _ in range(2):  # scanned, and read from the index
            assert any("1 file left out: 1 .psd" in line for line in image_folder.load(tree).left_out)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train/cat/0.png", False),
        ("__MACOSX/train/0.png", True),
        ("a/__macosx/0.png", True),
        ("a/._0.png", True),
        ("a/.git/x", True),
        ("a/thumbs.DB", True),
        ("a/thumbs.db.png", False),
        ("lost+found/x", True),
        ("macosx/0.png", False),
    ],
)
def test_droppings(path, expected):
    assert is_dropping(path) is expected


@pytest.mark.parametrize("kind", KINDS)
def test_folders_with_images_beside_the_parts_are_left_out_and_said(tmp_path, kind):
    beside = ["assets/0.png", "docs/figures/1.png", "unlabeled/2.png"]
    found = image_folder.load(written(tmp_path, [*SPLIT, *beside], kind))
    plain = image_folder.load(written(tmp_path / "plain", SPLIT, kind))
    assert {part: len(own.labels) for part, own in found.parts.items()} == {
        part: len(own.labels) for part, own in plain.parts.items()
    }
    assert "3 images outside class folders left out, such as assets/0.png" in "".join(found.left_out)


def test_parts_in_one_folder_beside_masks(tmp_path):
    files = [f"images/{file}" for file in SPLIT] + ["masks/0.png", "masks/1.png"]
    found = image_folder.load(written(tmp_path, files, "tree"))
    assert "train" in found.parts
    assert "2 images outside class folders left out, such as masks/0.png" in "".join(found.left_out)


def test_two_forms_of_one_name_are_one_class_and_said(tmp_path):
    files = [f"train/{form}/{i}.png" for i, form in enumerate(("\u00e9", "e\u0301", "bar"))]
    found = image_folder.load(written(tmp_path, files, "tree"), as_source=True)
    assert found.classes == ("bar", "\u00e9")
    said = "class '\u00e9' of train has 2 folders whose names differ in Unicode form"
    assert said in "".join(found.left_out)
