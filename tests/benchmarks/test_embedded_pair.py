"""The embedded pair: printed glyphs (source) and handwritten digits (target)."""

from types import ModuleType

import numpy as np
import pytest
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from transferbench.benchmarks.config.compose import compose_request
from transferbench.benchmarks.launch.plan import plan, requirements
from transferbench.datasets import digits, glyphs

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def pair() -> dict[str, Parts]:
    return {"glyphs": glyphs.images(), "digits": digits.images()}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("glyphs", {"train": 4700, "holdout": 940}),
        ("digits", {"train": 600, "holdout": 400, "test": 797}),
    ],
)
def test_sizes_and_types(pair: dict[str, Parts], name: str, sizes: dict[str, int]) -> None:
    assert list(pair[name]) == list(sizes)
    for part, (images, labels) in pair[name].items():
        assert images.shape == (sizes[part], 16, 16)
        assert labels.shape == (sizes[part],)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64


def test_class_names() -> None:
    assert len(glyphs.CLASSES) >= 80
    for module in (glyphs, digits):
        assert len(set(module.CLASSES)) == len(module.CLASSES)
        assert all(name.isascii() and name.isprintable() for name in module.CLASSES)
        assert not module.ABOUT.hflip
    assert len(set(glyphs.CHARACTERS.values())) == len(glyphs.CLASSES)


@pytest.mark.parametrize("module", [glyphs, digits])
def test_every_part_holds_every_class(pair: dict[str, Parts], module: ModuleType) -> None:
    name = module.__name__.rpartition(".")[2]
    for _, labels in pair[name].values():
        counts = np.bincount(labels)
        assert len(counts) == len(module.CLASSES)
        assert counts.min() >= 10


@pytest.mark.parametrize("module", [glyphs, digits])
def test_a_second_call_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    monkeypatch.setattr(module, "PER_CLASS", {"train": 4, "holdout": 2})  # drawing them all takes seconds
    first, second = module.images(), module.images()
    assert list(first) == list(second)
    for part, (images, labels) in first.items():
        np.testing.assert_array_equal(second[part][0], images)
        np.testing.assert_array_equal(second[part][1], labels)


def test_digits_are_those_of_scikit_learn(pair: dict[str, Parts]) -> None:
    bunch = load_digits()
    large = zoom(bunch.images * 255 / 16, (1, 2, 2), order=1, mode="nearest", grid_mode=True)
    for part, own in digits.split(bunch.target).items():
        images, labels = pair["digits"][part]
        np.testing.assert_array_equal(labels, bunch.target[own])
        np.testing.assert_allclose(images, large[own], atol=0.5001)  # rounding


def test_digit_parts_are_disjoint_and_complete() -> None:
    own = digits.split(load_digits().target)
    assert {name: len(positions) for name, positions in own.items()} == {
        "train": 600,
        "holdout": 400,
        "test": 797,
    }
    np.testing.assert_array_equal(np.sort(np.concatenate(list(own.values()))), np.arange(1797))


@pytest.mark.parametrize("name", ["glyphs", "digits"])
def test_no_image_is_in_two_parts(pair: dict[str, Parts], name: str) -> None:
    distinct = [{image.tobytes() for image in images} for images, _ in pair[name].values()]
    assert len(set.union(*distinct)) == sum(map(len, distinct))


@pytest.mark.parametrize("name", ["glyphs", "digits"])
def test_no_image_is_blank_or_full(pair: dict[str, Parts], name: str) -> None:
    for images, _ in pair[name].values():
        assert images.max(axis=(1, 2)).min() > 100
        assert images.min(axis=(1, 2)).max() < 60


def test_glyphs_look_like_digits(pair: dict[str, Parts]) -> None:
    glyph, digit = (pair[name]["train"][0].astype(float) / 255 for name in ("glyphs", "digits"))
    assert glyph.mean() == pytest.approx(digit.mean(), abs=0.05)  # share of ink
    assert glyph.std() == pytest.approx(digit.std(), abs=0.05)  # contrast
    bright = [np.median(image.max(axis=(1, 2))) for image in (glyph, digit)]
    assert bright[0] == pytest.approx(bright[1], abs=0.1)


def test_the_default_comparison_has_a_source_model_for_each_seed() -> None:
    configs = plan(compose_request([]), [])
    assert len(configs) == 10 * 16
    shared = {needed.digest for c in configs for needed in requirements(c) if c.method != "datl"}
    assert len(shared) == 16
    assert "source_recipe.steps=400, source_recipe.seed=null" in configs[0].describe()
