"""Lists of images: what is read, that a list equals the tree it was made of, and what each wrong row says."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from packed_trees import PLAIN, SPLIT, written
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.compose import request_for
from transferbench.benchmarks.config.resolve import run_config
from transferbench.datasets import catalog
from transferbench.datasets.base import Dataset
from trees import TINY

Rows = Sequence[Sequence[str]]


@pytest.fixture(autouse=True)
def fresh():
    catalog.load.cache_clear()


def listed(file: Path, rows: Rows, delimiter: str = ",", head: str = "") -> Path:
    """Write a list; cells are written as they are."""
    file.write_text(head + "".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8")
    return file


def named(files: Sequence[str], *extra: str) -> list[list[str]]:
    """Return rows with image, class and split of the paths of a split/class/image tree."""
    return [["image", "label", "split"], *([f, f.split("/")[1], f.split("/")[0]] for f in files)]


def content(found: Dataset) -> dict[str, list[tuple[str, str]]]:
    """Return the path and class of each image, by part."""
    return {
        name: [(part.images.path(i), found.classes[y]) for i, y in enumerate(part.labels)]
        for name, part in found.parts.items()
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("head", ["", "\ufeff", "sep={}\n", "\ufeffSEP={}\r\n"])
def test_a_list_gives_what_its_tree_gives(tmp_path, delimiter, head):
    place = written(tmp_path, SPLIT)
    found = catalog.load(str(listed(place / "list.csv", named(SPLIT), delimiter, head.format(delimiter))))
    (place / "list.csv").unlink()
    tree = catalog.load(str(place))
    assert (found.name, found.classes, found.side) == ("list", tree.classes, tree.side)
    assert content(found) == {part: content(tree)[part] for part in ("train", "holdout", "test")}
    assert all(part.labels.dtype == np.int64 for part in found.parts.values())


def test_without_a_split_a_list_equals_its_class_folders(tmp_path):
    place = written(tmp_path, PLAIN)
    rows = [["CLASS", "note", "Filename"], *([f.split("/")[0], '"a, ""b"""', f] for f in reversed(PLAIN))]
    file = listed(place / "list.csv", rows)
    for as_source in (False, True):
        found, tree = (catalog.load(str(path), as_source) for path in (file, place))
        assert content(found) == content(tree)
        assert found.fingerprint == tree.fingerprint


def test_names_of_parts_and_images_elsewhere(tmp_path):
    """An absolute path may be anywhere; a copy of everything has the same fingerprint."""
    found = []
    for place in (tmp_path / "one", tmp_path / "two" / "deep"):
        images, own = written(place, SPLIT), place / "lists"
        own.mkdir()
        names = {"train": "Training", "val": "valid", "test": "TESTING"}
        rows = [
            ["file", "label", "split"],
            *([str(images / f), f.split("/")[1], names[f.split("/")[0]]] for f in SPLIT),
        ]
        found.append(catalog.load(str(listed(own / "photos.csv", rows))))
    assert {part: len(own.labels) for part, own in found[0].parts.items()} == {
        "train": 8,
        "holdout": 8,
        "test": 8,
    }
    assert found[0].fingerprint == found[1].fingerprint
    assert content(found[0])["train"][0] == ("pets/train/cat/0.png", "cat")


def test_several_labels_make_a_multi_label_set(tmp_path):
    place = written(tmp_path, SPLIT)
    label = {"0": "red|big", "1": "red", "2": "", "3": "big | red|big"}
    rows = [["image", "label", "split"], *([f, label[Path(f).stem], f.split("/")[0]] for f in SPLIT)]
    file = listed(place / "list.csv", rows)
    found = catalog.load(str(file))
    assert found.classes == ("big", "red")
    assert found.parts["train"].labels.dtype == np.float32
    assert found.parts["train"].labels[:4].tolist() == [[1, 1], [0, 1], [0, 0], [1, 1]]
    request, settings = request_for("scratch", (f"target={file}", "source=none", *TINY))
    assert run_config(request, "scratch", settings, 0).score == "auroc"
    whole = catalog.load(str(listed(place / "whole.csv", [row[:2] for row in rows])))
    assert [len(part.labels) for part in whole.parts.values()] == [15, 5, 4]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_the_metadata_of_an_image_folder(tmp_path, ending):
    """The form that `datasets` of the Hugging Face hub calls imagefolder, one file for each part."""
    flat = [f"{f.split('/')[0]}/{f.split('/')[1]}{f.split('/')[2]}" for f in SPLIT]
    place = written(tmp_path, flat)
    for part in ("train", "val", "test"):
        pairs = [(f.split("/")[1], f.split("/")[1][:3]) for f in flat if f.startswith(part)]
        if ending == "csv":
            listed(place / part / "metadata.csv", [["file_name", "label"], *map(list, pairs)])
        else:
            lines = [
                json.dumps({"file_name": name, "label": label, "size": 3}) + "\n" for name, label in pairs
            ]
            (place / part / "metadata.jsonl").write_text("\n".join(lines))
    found = catalog.load(str(place))
    assert (found.name, found.classes) == ("pets", ("cat", "dog"))
    assert {part: len(own.labels) for part, own in found.parts.items()} == {
        "train": 8,
        "holdout": 8,
        "test": 8,
    }
    assert content(found)["test"][0] == ("test/cat0.png", "cat")


def test_class_folders_come_before_metadata(tmp_path):
    place = written(tmp_path, SPLIT)
    before = catalog.load(str(place)).fingerprint
    catalog.load.cache_clear()
    listed(place / "metadata.csv", [["file_name", "label"], *([f, "x"] for f in SPLIT)])
    found = catalog.load(str(place))
    assert found.fingerprint == before
    assert found.left_out[-1].startswith("pets: the folders are the classes; for the labels of metadata.csv")


HEAD = ["image", "label", "split"]
CAT, DOG = ["train/cat/0.png", "cat", "train"], ["train/dog/0.png", "dog", "train"]
LATE = ["test/dog/0.png", "dog", "test"]
WRONG: dict[str, tuple[Rows, str]] = {
    "a missing image": ([HEAD, CAT, ["cat/7.png", "cat", "train"]], "row 3: no image cat/7.png; expected a"),
    "no path": ([HEAD, ["", "cat", "train"]], "row 2: no image; expected a path relative to"),
    "outside": ([HEAD, ["../x.png", "cat", "train"]], "row 2: ../x.png leads outside by '..'"),
    "a name no file has": ([HEAD, ["x" * 300, "cat", "train"]], "row 2: no image xxx"),
    "a part": ([HEAD, CAT, DOG[:2] + ["extra"]], "row 3: split 'extra' is not known; expected train"),
    "no part": ([HEAD, CAT, DOG[:2] + [""]], "row 3: split '' is not known"),
    "no label": ([HEAD, CAT, [DOG[0], " ", "train"]], "row 3: no label; expected the name of a class"),
    "two labels": ([HEAD, CAT, [CAT[0], "dog", "train"]], "row 3: .*cat/0.png has another label in .*row 2"),
    "two parts": ([HEAD, CAT, [*CAT[:2], "test"]], "row 3: .*cat/0.png has another split in .*row 2"),
    "a class of test": ([HEAD, CAT, LATE], "row 3: class 'dog' has no row with split"),
    "no train": ([HEAD, LATE], "class 'dog' has no row with split train"),
    "a short row": ([HEAD, CAT, DOG[:2]], "row 3: 2 cells; the header has 3; put double quotes"),
    "no column": ([["image", "kind"], CAT[:2]], "no column for the label, .* it has 'image', 'kind'"),
    "two columns": ([["image", "label", "Class"], CAT], "label and Class both mean the label; expected one"),
    "no rows": ([HEAD], "no images; expected a header with the columns image and label"),
    "nothing": ([], "no images; expected a header"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_list_is_refused_in_a_line_that_names_the_row(tmp_path, rows, message):
    place = written(tmp_path, SPLIT)
    with pytest.raises(InputError, match=message) as refused:
        catalog.load(str(listed(place / "list.csv", rows)))
    assert "\n" not in str(refused.value)
    assert str(place / "list.csv") in str(refused.value)


def test_other_files_that_are_no_lists(tmp_path):
    place = written(tmp_path, SPLIT)
    (place / "latin.csv").write_bytes("image,label\ncat/ä.png,Bär\n".encode("latin-1"))
    (place / "array.jsonl").write_text("[1, 2]\n")
    (place / "folder.jsonl").mkdir()
    for name, message in {
        "latin.csv": "not UTF-8 .*; save the list as UTF-8",
        "array.jsonl": "row 1: no JSON object",
        "none.csv": "no such list; expected a header",
    }.items():
        with pytest.raises(InputError, match=message):
            catalog.load(str(place / name))


def test_a_row_that_is_repeated_counts_once(tmp_path):
    place = written(tmp_path, SPLIT)
    rows = named(SPLIT)
    found = catalog.load(str(listed(place / "list.csv", [*rows, *rows[1:3]])))
    assert sum(len(part.labels) for part in found.parts.values()) == len(SPLIT)
    assert found.left_out == ("list: 2 rows repeat an image; each counts once",)


def test_bench_and_doctor_take_a_list(tmp_path, capsys):
    """Without rows for the holdout, one is drawn from the training images, and said."""
    place = written(tmp_path, SPLIT)
    file = listed(place / "photos.csv", named([f for f in SPLIT if not f.startswith("val")]))
    assert main(["data", "doctor", str(file)]) == 0
    said = capsys.readouterr().out
    assert "photos: 2 classes, 6 train, 2 holdout, 8 test" in said
    assert "2 holdout images are drawn from train, 20 % of each class" in said
    given = [f"target={file}", "source=none", "methods=scratch", f"results={tmp_path / 'results'}", *TINY]
    assert main(["bench", *given]) == 0
    assert "2 holdout images are drawn from train" in capsys.readouterr().out


def test_other_names_of_classes_are_other_labels(tmp_path):
    """Only where no folder has the name: a tree, and a list of it, tell them by their paths."""
    place = written(tmp_path, [f"flat/{i}.png" for i in range(9)])
    prints = []
    for names in (("cat", "dog", "elk"), ("bat", "cow", "dog")):
        rows = [["image", "label"], *([f"flat/{i}.png", names[i % 3]] for i in range(9))]
        catalog.load.cache_clear()
        prints.append(catalog.load(str(listed(place / "pets.csv", rows))).fingerprint)
    assert len(set(prints)) == 2
    tree = written(tmp_path / "other", PLAIN)
    rows = [["image", "label"], *([f, f.split("/")[0]] for f in PLAIN)]
    as_list = catalog.load(str(listed(tree / "list.csv", rows))).fingerprint
    (tree / "list.csv").unlink()
    assert catalog.load(str(tree)).fingerprint == as_list


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_names_of_files_may_be_composed_or_not(tmp_path, forms, ending):
    on_disk, as_written = (
        [unicodedata.normalize(form, f"K\u00e4tz{i}.png") for i in range(8)] for form in forms
    )
    place = written(tmp_path, on_disk)
    rows = [{"image": name, "label": "ab"[i % 2]} for i, name in enumerate(as_written)]
    if ending == "csv":
        file = listed(place / "a.csv", [["image", "label"], *([*row.values()] for row in rows)])
    else:
        file = place / "a.jsonl"
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert sum(len(part.labels) for part in catalog.load(str(file)).parts.values()) == 8


def test_labels_of_json_that_are_none(tmp_path):
    place = written(tmp_path, [f"{i}.png" for i in range(6)])
    lines = [f'{{"file_name": "{i}.png", "label": "{"ab"[i % 2]}"}}' for i in range(6)]
    for last, message in (('{"x": 1}', "row 6: the label is an object"), ("NaN", "row 6: no label")):
        lines[5] = f'{{"file_name": "5.png", "label": {last}}}'
        (place / "a.jsonl").write_text("\n".join(lines))
        with pytest.raises(InputError, match=message):
            catalog.load(str(place / "a.jsonl"))


@pytest.mark.parametrize("name", ["dev", "train", "pets"])
def test_a_folder_that_is_given_is_no_part_of_its_metadata(tmp_path, name):
    place = written(tmp_path, [f"images/{i}.png" for i in range(30)]).rename(tmp_path / name)
    rows = [["file_name", "label"], *([f"images/{i}.png", "ab"[i % 2]] for i in range(30))]
    listed(place / "metadata.csv", rows)
    assert set(catalog.load(str(place)).parts) == {"train", "holdout", "test"}


def test_metadata_in_a_folder_around_everything(tmp_path):
    place = written(tmp_path / "around", [f"images/{i}.png" for i in range(30)])
    rows = [["file_name", "label"], *([f"images/{i}.png", "abc"[i % 3]] for i in range(30))]
    listed(place / "metadata.csv", rows)
    assert catalog.load(str(tmp_path / "around")).classes == ("a", "b", "c")
