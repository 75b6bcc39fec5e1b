"""A planted source: what is near, what is harmful, and that it is a source like any other."""

import numpy as np
import pytest
from transferbench import InputError
from transferbench.benchmarks.training.problem import build_problem
from transferbench.benchmarks.training.run import run_one
from transferbench.datasets import catalog
from transferbench.datasets.planted import short_name

KINDS = ("shuffled", "conflicting", "foreign")


def planted(kind, share="0.8", rest="glyphs:digits"):
    return catalog.load(f"planted:{kind}:{share}:{rest}")


def images(dataset, side=16):
    part = dataset.part("train")
    return np.stack([part.images.decode(i, side)[0] for i in range(len(part.labels))]), part.labels


@pytest.fixture(scope="module")
def digits():
    return images(catalog.load("digits"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_near_classes_are_the_targets(kind, digits):
    found = planted(kind)
    pixels, labels = images(found)
    assert found.truth == (1.0,) * 10 + (0.0,) * 40
    assert found.classes[3] == "near 3"
    assert np.array_equal(pixels[:600], digits[0])
    assert np.array_equal(labels[:600], digits[1])
    assert np.bincount(labels, minlength=50)[10:].min() > (10 if kind == "shuffled" else 49)


def test_shuffled_labels_keep_images_and_counts_but_not_their_match():
    clean, spoilt = (planted(kind) for kind in ("foreign", "shuffled"))
    assert clean.classes == spoilt.classes
    before, after = clean.part("train").labels, spoilt.part("train").labels
    assert np.array_equal(np.bincount(before), np.bincount(after))
    assert 0.005 < (before[600:] == after[600:]).mean() < 0.06  # one in 40 by chance


def test_conflicting_images_are_the_targets_under_any_label(digits):
    pixels, labels = images(planted("conflicting"))
    place = {image.tobytes(): label for image, label in zip(*digits, strict=True)}
    true = np.array([place[image.tobytes()] for image in pixels[600:]])  # each is one of them
    table = np.zeros((10, 50))
    np.add.at(table, (true, labels[600:]), 1)
    assert table[:, 10:].min() >= 0
    assert np.corrcoef(true, labels[600:])[0, 1] == pytest.approx(0, abs=0.07)


def test_foreign_images_have_the_same_rows_and_columns_in_one_other_order():
    glyphs = catalog.load("glyphs")
    found = planted("foreign")
    name = found.classes[20].removeprefix("harmful ")
    row = int(np.flatnonzero(glyphs.part("train").labels == glyphs.classes.index(name))[0])
    own = int(np.flatnonzero(found.part("train").labels == 20)[0])
    plain, _ = glyphs.part("train").images.decode(row, 16)
    moved, _ = found.part("train").images.decode(own, 16)
    assert not np.array_equal(plain, moved)
    assert sorted(plain.sum((1, 2))) == sorted(moved.sum((1, 2)))
    assert sorted(plain.sum((0, 2))) == sorted(moved.sum((0, 2)))


def test_a_third_of_the_near_labels_of_a_noisy_source_are_random(digits):
    pixels, labels = images(planted("noisy"))
    assert np.array_equal(pixels[:600], digits[0])
    wrong = labels[:600] != digits[1]
    assert wrong.mean() == pytest.approx(0.9 / 3, abs=0.06)  # one of ten random labels is the true one
    assert labels[:600].max() == 9
    assert np.bincount(labels[:600][wrong], minlength=10).min() > 5
    assert np.array_equal(images(planted("conflicting"))[0], pixels)


def test_no_image_of_a_turned_source_is_one_of_the_target(digits):
    found = planted("turned")
    pixels, labels = images(found)
    assert np.array_equal(labels[:600], digits[1])
    assert np.array_equal(pixels[:600], digits[0][:, ::-1, ::-1])
    own = {image.tobytes() for image in digits[0]}
    assert not any(image.tobytes() in own for image in pixels)
    assert all(np.ascontiguousarray(image[::-1, ::-1]).tobytes() in own for image in pixels)


@pytest.mark.parametrize("kind", [*KINDS, "noisy", "turned"])
def test_a_share_of_one_leaves_no_near_class(kind, digits):
    found, glyphs = planted(kind, "1"), catalog.load("glyphs")
    assert found.truth == (0.0,) * len(glyphs.classes)
    assert found.classes == tuple(f"harmful {name}" for name in glyphs.classes)
    pixels, labels = images(found)
    assert len(pixels) == len(labels) == len(glyphs.part("train").labels)
    assert np.array_equal(np.bincount(labels), np.bincount(glyphs.part("train").labels))
    own = {image.tobytes() for image in digits[0]}
    is_own = kind in ("conflicting", "noisy")
    assert all((image.tobytes() in own) == is_own for image in pixels[::50])
    assert found.name == f"digits+{kind}-1-glyphs"


def test_the_seed_and_the_kind_make_another_source():
    first, second = planted("shuffled"), planted("shuffled", rest="glyphs:digits:1")
    assert len({first.fingerprint, second.fingerprint, planted("foreign").fingerprint}) == 3
    assert first.classes != second.classes
    assert first.name == "digits+shuffled-0.8-glyphs"
    assert second.name == "digits+shuffled-0.8-glyphs-seed1"
    catalog.load.cache_clear()
    assert np.array_equal(planted("shuffled").part("train").labels, first.part("train").labels)


def test_it_is_a_source_of_the_command_line(config_of):
    config = config_of("l2tl", "source=planted:shuffled:0.5:glyphs:digits", "method.weights=oracle")
    assert config.source_name == "digits+shuffled-0.5-glyphs"
    built = build_problem(config)
    assert built.problem.source.truth == (1.0,) * 10 + (0.0,) * 10
    assert built.notes[0].startswith("digits+shuffled-0.5-glyphs: 10 classes")
    assert short_name("/data/packs/birds.tar") == "birds"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("planted:shuffled:0.5:glyphs", "expected planted:KIND:SHARE:SOURCE:TARGET"),
        ("planted:upset:0.5:glyphs:digits", "no kind 'upset'; expected one of shuffled"),
        ("planted:shuffled:1.5:glyphs:digits", "share '1.5'"),
        ("planted:shuffled:0:glyphs:digits", "expected a number above 0 and up to 1"),
        ("planted:shuffled:half:glyphs:digits", "share 'half'"),
        ("planted:shuffled:0.95:glyphs:digits", "needs 190 harmful ones; expected 1 to 94"),
        ("planted:shuffled:0.5:glyps:digits", "did you mean 'glyphs'"),
    ],
)
def test_a_wrong_name_is_one_line(name, said):
    with pytest.raises(InputError, match=said.replace(".", r"\.")) as error:
        catalog.load(name)
    assert "\n" not in str(error.value)


def test_a_run_records_the_truth_and_how_the_weights_went(config_of, results):
    given = ("source=planted:shuffled:0.5:glyphs:digits", "recipe.steps=3", "shots=2", "backbone=tiny")
    done = run_one(config_of("l2tl", *given), results)
    assert list(done["source_truth"].values()).count(1.0) == 10
    assert set(done["source_truth"]) == set(done["class_weights"])
    assert [set(point["class_weights"]) == set(done["class_weights"]) for point in done["curve"]] == [
        True
    ] * 3
    assert done["source"] == "digits+shuffled-0.5-glyphs"


def test_weights_of_a_source_without_a_near_class_are_learned_or_all_zero(config_of, results):
    given = ("source=planted:conflicting:1:glyphs:digits", "recipe.steps=3", "shots=2", "backbone=tiny")
    learned = run_one(config_of("l2tl_gradients", *given), results)
    oracle = run_one(config_of("l2tl", *given, "method.weights=oracle"), results)
    assert set(learned["source_truth"].values()) == set(oracle["class_weights"].values()) == {0.0}
    losses = [[point["train"][name] for point in oracle["curve"]] for name in ("loss", "source_loss")]
    assert np.isfinite(losses[0]).all()
    assert losses[1] == [0.0] * 3
