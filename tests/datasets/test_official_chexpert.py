"""CheXpert: what counts as positive, whose images go where, and both releases."""

import numpy as np
import pytest
from layouts import chexpert as layout
from transferbench import InputError
from transferbench.datasets import catalog, chexpert
from transferbench.datasets.base import Part, derive_seed
from transferbench.datasets.reading import holdout

TOP = "CheXpert-v1.0-small"
SIZES = {"train": 15_000, "valid": 234}


def paths(part: Part) -> list[str]:
    return [part.images.path(i) for i in range(len(part.images))]


def patients(part: Part) -> set[str]:
    return {path.split("/")[1] for path in paths(part)}


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    root = tmp_path_factory.mktemp("lists")
    layout.lists(root, SIZES)
    return chexpert.read(root)


@pytest.fixture
def small(tmp_path):
    layout.write(tmp_path)
    return tmp_path / TOP


def change(root, row: int, column: str, value: str) -> None:
    file = root / "train.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    rows[row][rows[0].index(column)] = value
    file.write_text("".join(",".join(line) + "\n" for line in rows))


def labels_of(root, path: str) -> np.ndarray:
    for part in chexpert.read(root).parts.values():
        if path in paths(part):
            return part.labels[paths(part).index(path)]
    raise AssertionError(path)


def test_a_shorter_list_is_split_in_proportion(listing):
    sizes = {part: len(own.labels) for part, own in listing.parts.items()}
    assert sizes == {"train": 15_000 - 336, "holdout": 336, "test": 234}
    for part in listing.parts.values():
        assert part.labels.dtype == np.float32
        assert part.labels.shape == (len(part.images), 14)


def test_no_patient_is_in_two_parts(listing):
    own = {part: patients(content) for part, content in listing.parts.items()}
    assert not own["train"] & own["holdout"]
    assert not own["test"] & (own["train"] | own["holdout"])
    assert len(own["train"] | own["holdout"]) == layout.NUM_PATIENTS["train"]
    assert len(own["holdout"]) > 20  # not a few with many images


def test_labels_stay_with_their_images(listing):
    rows = [
        row for s, n in SIZES.items() for row in layout.lines(s, n, layout.NUM_PATIENTS[s], "CheXpert-v1.0")
    ]
    truth = {layout.path(row).partition("/")[2]: layout.truth(row) for row in rows}
    for part in listing.parts.values():
        for i in range(0, len(part.images), 97):
            assert part.labels[i].tolist() == truth[part.images.path(i)]


def test_who_is_held_out_depends_on_the_patients_alone():
    own = [f"patient{i * i % 701:05}" for i in range(2000)] + [f"single{i}" for i in range(99)]
    held = chexpert.draw_patients(own, 500)
    assert sum(p in held for p in own) == 500
    assert held == chexpert.draw_patients(sorted(own, reverse=True), 500)
    order = sorted(set(own), key=lambda p: derive_seed(holdout.SEED, p))
    assert set(order[:80]) <= held


def test_a_patient_whose_images_do_not_fit_is_passed_over():
    own = ["large"] * 9 + ["a", "b", "c"]
    assert chexpert.draw_patients(own, 3) == {"a", "b", "c"}
    assert chexpert.draw_patients(own, 0) == set()


@pytest.mark.parametrize(
    ("value", "label"), [("1.0", 1), ("-1.0", 1), ("0.0", 0), ("", 0), ("1", 1), ("-1", 1)]
)
def test_uncertain_is_positive_and_blank_is_negative(value, label, small):
    change(small, 5, "Edema", value)
    path = layout.path(layout.lines("train", 90, 45, TOP)[4]).removeprefix(f"{TOP}/")
    assert labels_of(small, path)[layout.LABELS.index("Edema")] == label


def test_five_labels_are_scored(small):
    found = chexpert.read(small)
    assert found.classes == layout.LABELS
    assert [found.classes[i] for i in found.scored] == list(chexpert.SCORED)
    assert found.scored == (8, 2, 6, 5, 10)


@pytest.mark.parametrize("place", ["chexpert", "CheXpert-v1.0", "chexpert/CheXpert-v1.0"])
@pytest.mark.parametrize("release", ["small", "full", "batches"])
def test_each_release_is_found_and_read(release, place, tmp_path, monkeypatch):
    """The prefix of the listed paths is that of the release, whatever the folder is called."""
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(tmp_path))
    if release == "batches":
        layout.write_batches(tmp_path / place)
    else:
        layout.write(tmp_path / "made", TOP if release == "small" else "CheXpert-v1.0")
        (tmp_path / place).parent.mkdir(exist_ok=True)
        next((tmp_path / "made").iterdir()).rename(tmp_path / place)
    catalog.load.cache_clear()
    found = catalog.load("chexpert")
    catalog.load.cache_clear()
    assert {part: len(own.labels) for part, own in found.parts.items()} == layout.SMALL
    assert found.scored == (8, 2, 6, 5, 10)
    assert found.side == 128
    for part, own in found.parts.items():
        origin = "test" if part == "test" else "train"
        for i in range(0, len(own.labels), 3):
            assert layout.seen(own.images.decode(i, 128)[0]) == (own.labels[i].tolist(), origin)


def test_patients_that_a_copy_lacks_are_left_out_and_the_others_stay(small, monkeypatch):
    before = {part: patients(own) for part, own in chexpert.read(small).parts.items()}
    gone = set(sorted(before["train"])[::2])
    (small / "elsewhere").mkdir()
    for patient in gone:
        (small / "train" / patient).rename(small / "elsewhere" / patient)
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(small.parent))
    catalog.load.cache_clear()
    found = catalog.load("chexpert")
    catalog.load.cache_clear()
    after = {part: patients(own) for part, own in found.parts.items()}
    assert after == before | {"train": before["train"] - gone}
    for i in range(len(found.parts["train"].labels)):
        own = found.parts["train"]
        assert layout.seen(own.images.decode(i, 128)[0]) == (own.labels[i].tolist(), "train")


CUT = f"{TOP}/train/patient00002/stu"


@pytest.mark.parametrize(
    "end", [CUT, "a,b,c", f"{CUT},Male,61,Frontal,AP{',' * 13}", f"{CUT}/a.jpg{',2.0' * 18}"]
)
def test_a_list_that_is_cut_is_named(end, small):
    with (small / "train.csv").open("a") as f:
        f.write(end)
    with pytest.raises(InputError, match=r"train\.csv: cut or not the official list"):
        chexpert.read(small)


def test_a_missing_list_is_a_missing_file(small):
    (small / "valid.csv").unlink()
    with pytest.raises(FileNotFoundError) as raised:
        chexpert.read(small)
    assert str(raised.value.filename) == str(small / "valid.csv")
