"""Parts that a target lacks, drawn from its training images: seeded, by class, the same in every copy."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packed_trees import PLAIN, SPLIT, written
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.compose import request_for
from transferbench.benchmarks.config.overrides import overrides
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.training.pretraining import without_target
from transferbench.benchmarks.training.problem import build_problem
from transferbench.datasets import catalog
from transferbench.datasets.base import Dataset, Part, derive_seed
from transferbench.datasets.loading import draw as drawing
from transferbench.datasets.pixels import ArrayImages
from trees import TINY

COUNT = {"ant": 2, "bee": 7, "cow": 13}  # images of each class
TRAIN = [f"train/{c}/{i}.png" for c, n in COUNT.items() for i in range(n)]
LATER = {part: [f"{part}/{c}/{i}.png" for c in COUNT for i in range(2)] for part in ("val", "test")}


@pytest.fixture(autouse=True)
def fresh():
    catalog.load.cache_clear()
    yield
    catalog.load.cache_clear()


def names(found: Dataset, part: str) -> set[str]:
    images = found.parts[part].images
    return {"/".join(images.path(i).split("/")[-2:]) for i in range(len(images))}


@pytest.mark.parametrize(
    ("files", "draw"),
    [
        ([*TRAIN, *LATER["test"]], "holdout"),
        ([*TRAIN, *LATER["val"]], "test"),
        ([*TRAIN[1:], "train/ant/7.png", "train/ant/8.png"], "holdout,test"),
    ],
)
def test_a_fifth_of_each_class_is_drawn_by_a_hash_of_its_name(tmp_path, files, draw):
    place = written(tmp_path, files)
    found, whole = catalog.load(str(place), draw=draw), catalog.load(str(place), as_source=True)
    expected = {part: set() for part in ("train", *draw.split(","))}
    for c in COUNT:
        own = [f.removeprefix("train/") for f in files if f.startswith(f"train/{c}/")]
        left = sorted(own, key=lambda name: derive_seed(0, name))
        for part in draw.split(","):
            size = max(1, round((0.2 if len(left) == len(own) else 0.25) * len(left)))
            assert abs(size - 0.2 * len(own)) < 1
            expected[part] |= set(left[:size])
            left = left[size:]
        expected["train"] |= set(left)
    for part, chosen in expected.items():
        assert names(found, part) == chosen
        labels = [found.classes[y] for y in found.parts[part].labels]
        assert Counter(labels) == Counter(name.split("/")[0] for name in chosen)
    for part in set(whole.parts) - {"train"}:  # an official part stays as it is
        assert names(found, part) == names(whole, part)
    assert found.fingerprint != whole.fingerprint


def test_every_copy_has_the_same_draw(tmp_path):
    places = [
        written(tmp_path / "tree", [*TRAIN, *LATER["val"]]),
        written(tmp_path / "tar", [f"box/{f}" for f in [*TRAIN, *LATER["val"]]], "tar"),
        written(tmp_path / "shards", [*TRAIN, *LATER["val"]], "shards"),
        written(tmp_path / "named", [f.replace("train/", "Training/") for f in [*TRAIN, *LATER["val"]]]),
    ]
    found = [catalog.load(str(place), draw="test") for place in places]
    for part in ("train", "holdout", "test"):
        assert len({frozenset(names(one, part)) for one in found}) == 1
    more = [*TRAIN, *LATER["val"], *(f"train/dog/{i}.png" for i in range(5))]
    other = catalog.load(str(written(tmp_path / "more", more)), draw="test")
    assert {name for name in names(other, "test") if "dog" not in name} == names(found[0], "test")


def test_arrays_are_drawn_by_their_number():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    whole = Dataset("toy", ("a", "b"), {"train": Part(ArrayImages(images), np.arange(20) % 2)}, "f", 8)
    found = drawing.draw(whole, ("holdout", "test"))
    sizes = {part: len(own.labels) for part, own in found.parts.items()}
    assert sizes == {"train": 12, "holdout": 4, "test": 4}
    for own in found.parts.values():
        for i, label in enumerate(own.labels):
            (row,) = np.flatnonzero((images == own.images.array[i]).all((1, 2, 3)))
            assert row % 2 == label


@pytest.mark.parametrize(
    ("files", "draw", "message"),
    [
        (SPLIT, "test", "draw=test: pets has test images; only a missing part can be drawn"),
        ([*TRAIN, *LATER["val"]], "holdout,test", "draw=holdout,test: pets has holdout images; only a"),
        (PLAIN, "holdout", "draw=holdout: pets has holdout images"),
        (["train/a/0.png", *TRAIN], "test", "pets/train: class 'a' has 1 image; .* needs 2 or more"),
        (TRAIN, "holdout,test", "pets/train: class 'ant' has 2 images; a random split needs 3 or more"),
        (TRAIN, "tests", "draw=tests: expected holdout, test, holdout,test, or folds"),
        (TRAIN, "train", "draw=train: expected holdout, test"),
        (TRAIN, "test,test", "draw=test,test: expected holdout, test"),
        (TRAIN, "", ""),
    ],
)
def test_what_cannot_be_drawn(tmp_path, files, draw, message):
    place = written(tmp_path, files)
    if not message:
        assert catalog.load(str(place), draw=draw).notes == ()
        return
    with pytest.raises(InputError, match=message):
        catalog.load(str(place), draw=draw)


def test_images_of_several_labels_are_drawn_by_their_hash_alone():
    train = Part(ArrayImages(np.zeros((10, 8, 8, 3), np.uint8)), np.ones((10, 2), np.float32))
    whole = Dataset("toy", ("a", "b"), {"train": train}, "f", 8)
    found = drawing.draw(whole, ("test",))
    assert {part: own.labels.shape for part, own in found.parts.items()} == {"train": (8, 2), "test": (2, 2)}
    assert "20 % of them" in found.notes[0]


def config_of(place: Path, *given: str):
    words = (f"target={place}", "source=none", *TINY, *given)
    request, settings = request_for("scratch", words)
    return run_config(request, "scratch", settings, 0)


def test_the_setting_is_in_the_digest_only_if_it_is_given(tmp_path):
    place = written(tmp_path, [*TRAIN, *LATER["val"]])
    drawn, plain = config_of(place, "draw=test"), config_of(place)
    assert drawn.resolved()["draw"] == "test"
    assert "draw" not in plain.resolved()
    assert "draw=test" in drawn.describe()
    assert "draw=test" in overrides(drawn)
    assert drawn.digest != plain.digest
    assert drawn.data != plain.data
    assert without_target(drawn).digest == without_target(plain).digest


def test_order_and_brackets_do_not_matter(tmp_path):
    place = written(tmp_path, [f for f in TRAIN if "/ant/" not in f])
    found = {config_of(place, f"draw={v}").digest for v in ("holdout,test", "test,holdout", "[test,holdout]")}
    assert len(found) == 1


def test_a_planted_source_has_none_of_the_drawn_images(tmp_path):
    """It holds the target's training images, so the test images must be drawn there, too."""
    place = written(tmp_path, [*TRAIN, *LATER["val"]])
    name = f"planted:conflicting:0.5:glyphs:{place}"
    plain, drawn = (catalog.load(name, True, draw).parts["train"] for draw in (None, "test"))
    target = catalog.load(str(place), draw="test")
    num_near = [int((part.labels < 3).sum()) for part in (plain, drawn)]
    assert num_near == [len(TRAIN), len(target.parts["train"].labels)]
    config = replace(config_of(place, "draw=test"), source=name)
    assert len(build_problem(config).problem.source) == len(drawn.labels)
    assert without_target(config).draw == "test"


def test_bench_says_what_was_drawn_and_reproduce_draws_the_same(tmp_path, capsys):
    place, results = written(tmp_path, TRAIN + ["train/ant/9.png"]), tmp_path / "results"
    given = [f"target={place}", "source=none", f"results={results}", *TINY]
    assert main(["bench", *given, "methods=scratch"]) == 2
    error = capsys.readouterr().err
    assert "no 'holdout' and no 'test' images; it has train" in error
    assert "draw them from train with draw=holdout,test" in error
    assert main(["bench", *given, "methods=scratch", "draw=holdout,test"]) == 0
    how = "20 % of each class with seed 0 (draw=holdout,test)"
    note = f"pets: 5 holdout and 5 test images are drawn from train, {how}"
    assert note in capsys.readouterr().out
    assert "are drawn from train" in (results / "report" / "report.html").read_text()
    (run,) = results.glob("*/scratch/seed0-*")
    shutil.copytree(place, tmp_path / "copy" / "pets")
    words = ["reproduce", str(run), f"target={tmp_path / 'copy' / 'pets'}", "device=cpu"]
    assert main([*words, f"results={tmp_path / 'again'}"]) == 0
    assert main(["data", "doctor", str(place), "draw=holdout,test"]) in (0, 1)
    assert f"note: {note}" in capsys.readouterr().out
