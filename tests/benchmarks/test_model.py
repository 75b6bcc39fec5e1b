"""A kept model: the same logits from the disk as in the run, and one line for whatever is wrong with it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept_models import Made, made_by, saved
from PIL import Image
from transferbench import InputError
from transferbench.benchmarks.model.files import ABOUT, TENSORS
from transferbench.benchmarks.model.load import Model, load_model
from transferbench.datasets import catalog as datasets
from transferbench.methods import catalog
from transferbench.methods.networks.network import evaluation_mode

NAMES = [name for name in catalog.names() if name != "pretrain"]
VARIANTS = [
    ("linear_probe", "method.taps=3"),
    ("ncm", "method.unit_length=false"),
    ("knn", "method.num_neighbors=3"),
    ("head2toe", "method.target_size=0"),
    ("atl", "method.taps=all"),
    ("finetune", "bn=shared"),
    ("finetune", "bn=frozen"),
    ("finetune", "recipe.test_crops=ten", "recipe.crop_pct=0.875"),
    ("finetune", "recipe.precision=bf16"),
    ("finetune", "backbone=digits_cnn", "recipe.image_size=32"),
    ("finetune", "backbone=mobilenetv1_025", "recipe.image_size=32"),
    ("spottune", "backbone=resnet10t", "recipe.image_size=32"),
    ("head2toe", "backbone=resnet10t", "recipe.image_size=32"),
]
ALL = [(name,) for name in NAMES] + VARIANTS


@pytest.fixture(scope="module")
def made(config_of, built_of) -> Callable[..., Made]:
    return partial(made_by, config_of, built_of)


@pytest.mark.parametrize("spec", ALL, ids=" ".join)
def test_logits_from_the_disk_are_those_of_the_run(made, spec, tmp_path):
    """From the pixels of the test images on: decoding, crop, encoder, head."""
    config, built, method = made(*spec)
    model = saved(tmp_path, (config, built, method))
    some = built.test.subset(torch.arange(0, len(built.test), 40))
    ten = config.recipe.test_crops == "ten"
    with evaluation_mode(method.net), torch.no_grad():
        expected = torch.cat([method.predict(x) for x, _ in some.batches(16, ten_crops=ten)])
    array = datasets.load(config.target).part("test").images.array
    decoded = [model.decoded(array[i]) for i in some.index.tolist()]
    assert torch.allclose(model.logits(model.batch(decoded)), expected, atol=1e-5)
    assert model.classes == built.test.classes
    assert len({tuple(row) for row in expected.tolist()}) > 1  # the images do matter
    mean = expected.unflatten(0, (len(some), -1)).mean(1).softmax(1)
    got = np.stack([p.probabilities for p in model.predictions(decoded)])
    assert np.allclose(got, mean.numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def kept(made, tmp_path_factory) -> tuple[Path, Model]:
    folder = tmp_path_factory.mktemp("kept")
    return folder, saved(folder, made("finetune"))


def test_every_form_of_an_image_is_the_same_image(kept, tmp_path):
    _, model = kept
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    found = model.predict([path, str(path), path.read_bytes(), pixels, Image.fromarray(pixels)])
    assert len({p.probabilities.tobytes() for p in found}) == 1
    top = found[0].top(3)
    assert (found[0].label, found[0].probability) == top[0]
    assert top[0][1] >= top[1][1] >= top[2][1]
    with pytest.raises(InputError, match=r"b\.png: cannot be read"):
        model.predict([tmp_path / "b.png"])
    (tmp_path / "c.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"c\.jpg: not read as an image"):
        model.predict([tmp_path / "c.jpg"])


@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.float64, (20, 30, 3)), (np.float32, (20, 30)), (np.uint8, (20, 30, 1))]
)
def test_pixels_of_another_kind_are_refused(kept, dtype, shape):
    _, model = kept
    with pytest.raises(InputError, match=rf"a ndarray: .*{np.dtype(dtype)} .*expected uint8 \[H,W,3\]"):
        model.predict([np.zeros(shape, dtype)])


def test_short_memory_takes_fewer_images_and_for_one_says_what_helps(kept, monkeypatch):
    _, model = kept
    images = list(np.random.default_rng(0).integers(0, 255, (7, 20, 30, 3)).astype(np.uint8))
    expected = [found.probabilities for found in model.predict(images)]
    whole, most = Model.logits, 2

    def short(self: Model, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, batch)

    monkeypatch.setattr(Model, "logits", short)
    assert np.allclose([found.probabilities for found in model.predict(images)], expected, atol=1e-6)
    most = 0
    with pytest.raises(InputError, match="device=cpu: out of memory for one image of tiny at 16 px"):
        model.predict(images)


def changed(folder: Path, place: Path, **fields: Any) -> Path:
    about = {**json.loads((folder / ABOUT).read_text()), **fields}
    (place / ABOUT).write_text(json.dumps(about))
    (place / TENSORS).write_bytes((folder / TENSORS).read_bytes())
    return place


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "of another version"),
        ({"classes": "0123"}, "no valid field 'classes'"),
        ({"classes": ["a", "b"]}, "2 classes, and its head has 10"),
        ({"backbone": "small_"}, "neither 'small' nor a timm model"),
        ({"backbone": "small"}, "does not fit model.json"),
        ({"head": {"in_features": 1}}, "does not describe"),
        ({"head": {"in_features": -1, "out_features": 10}}, "does not describe"),
        ({"head": {"in_features": 10**12, "out_features": 10}}, "does not describe"),
        ({"method": "finetune_"}, "no method 'finetune_'"),
        ({"tensors": {"sha256": "0"}}, "its hash is not that of model.json"),
        ({"classes": [1] * 10}, "a class without a name"),
        ({"seed": "0"}, "no valid field 'seed'"),
        ({"preprocessing": {}}, "preprocessing.side=None: expected a whole number"),
        ({"predictor": {"autocast": "load"}}, "predictor.autocast='load': expected '' or 'bfloat16'"),
        ({"predictor": {"autocast": ["bfloat16"]}}, "predictor.autocast="),
    ],
)
def test_one_line_for_a_model_that_is_not_as_it_was(kept, tmp_path, fields, message):
    folder, _ = kept
    with pytest.raises(InputError, match=message) as error:
        load_model(changed(folder, tmp_path, **fields))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("side", value) for value in (0, True, 32.0, 10**6)),
        *(("crop_pct", value) for value in ("0.875", None, 0, 2, True, float("nan"), [1])),
        *(("mean", value) for value in ("half", [0.5], [0.5, "0.5", 0.5], {})),
        *(("std", value) for value in ([0.5, 0.5, 0], None)),
        *(("interpolation", value) for value in ("nearest", ["bicubic"])),
        *(("test_crops", value) for value in ("five", 10, ["ten"])),
        *(("hflip", value) for value in ("no", 1, None)),
    ],
)
def test_one_line_for_preprocessing_that_was_edited(kept, tmp_path, name, value):
    folder, model = kept
    given = {**model.about["preprocessing"], name: value}
    with pytest.raises(InputError, match=f"preprocessing.{name}=.*expected") as error:
        load_model(changed(folder, tmp_path, preprocessing=given))
    assert "\n" not in str(error.value)


def test_one_line_for_files_that_are_gone_or_cut(kept, tmp_path):
    folder, _ = kept
    with pytest.raises(InputError, match="no such folder"):
        load_model(tmp_path / "none")
    with pytest.raises(InputError, match="no model; expected the folder of a finished run"):
        load_model(tmp_path)
    place = changed(folder, tmp_path)
    (place / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        load_model(place)
    (place / ABOUT).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        load_model(place)
