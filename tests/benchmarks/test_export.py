"""Kept models in the forms of other programs: equal classes and logits, or one line on what works instead."""

import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from kept_models import Made, made_by, saved
from PIL import Image
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.model.export import WRITERS, facts
from transferbench.benchmarks.model.load import Model
from transferbench.datasets.pixels import SMALL

DOCS = Path(__file__).parents[2] / "docs"
TIMM = ("backbone=resnet10t", "recipe.image_size=32")
FORMS = [
    ("finetune",),
    ("ncm",),
    ("knn",),
    ("head2toe",),
    ("spottune",),
    ("vpt",),
    ("adaptformer",),
]


@pytest.fixture(scope="module")
def made(config_of, built_of) -> Callable[..., Made]:
    return partial(made_by, config_of, built_of)


@pytest.fixture(scope="module")
def model_of(made, tmp_path_factory) -> Callable[..., Model]:
    """Make a model once."""
    known: dict[tuple[str, ...], Model] = {}

    def model(*spec: str) -> Model:
        if spec not in known:
            known[spec] = saved(tmp_path_factory.mktemp("model"), made(*spec))
        return known[spec]

    return model


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("spec", FORMS, ids=" ".join)
def test_it_is_written_with_equal_logits(model_of, tmp_path, spec, kind):
    """The writer itself compares the logits."""
    WRITERS[kind](model_of(*spec), tmp_path / "model")
    assert (tmp_path / "model").stat().st_size > 1000


def test_a_state_dict_of_timm_gives_equal_classes_and_logits(model_of, tmp_path):
    model = model_of("finetune", *TIMM)
    use = WRITERS["timm"](model, tmp_path / "model.safetensors")
    assert use == "timm.create_model('resnet10t', num_classes=10, checkpoint_path=PATH)"
    path = str(tmp_path / "model.safetensors")
    whole = timm.create_model("resnet10t", num_classes=10, checkpoint_path=path).eval()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(whole(x), model.logits(x), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (("finetune",), "to=timm: timm has no tiny; expected to=onnx or to=pt2"),
        (("spottune", *TIMM), "SpotTune is more than a timm model; expected to=onnx or to=pt2"),
        (("knn", *TIMM), "k nearest neighbors has no linear classifier"),
    ],
)
def test_what_is_no_timm_model_is_refused(model_of, tmp_path, spec, message):
    with pytest.raises(InputError, match=message):
        WRITERS["timm"](model_of(*spec), tmp_path / "model.safetensors")


def test_the_command_writes_classes_and_preprocessing_beside_the_file(made, tmp_path, capsys):
    saved(tmp_path, made("finetune", *TIMM))
    out = tmp_path / "a.safetensors"
    assert main(["export", str(tmp_path), "to=timm", f"out={out}"]) == 0
    assert (
        f"use: timm.create_model('resnet10t', num_classes=10, checkpoint_path='{out}')"
        in capsys.readouterr().out
    )
    beside = json.loads((tmp_path / "a.safetensors.json").read_text())
    assert beside["classes"] == [str(i) for i in range(10)]
    assert beside["preprocessing"]["image_size"] == 32
    for words, message in (
        (("to=jax",), "to=jax: expected to=timm, to=onnx, to=pt2"),
        (("to=onnx", "out=a.bin"), "out=a.bin: expected a name that ends in .onnx"),
        (("to=onnx", "out=no/a.onnx"), "out=no/a.onnx: expected a file in a folder that exists"),
        (("to=timm", f"out={tmp_path}/model.safetensors"), "the kept model itself; expected another file"),
    ):
        assert main(["export", str(tmp_path), *words]) == 2
        assert message in capsys.readouterr().err


def test_what_cannot_be_written_is_refused_in_one_line(model_of, tmp_path, monkeypatch):
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no such operation\nand much more")

    monkeypatch.setattr(torch.export, "export", broken)
    message = "to=pt2: Fine-tuning on tiny: no such operation; expected to=onnx, or `transferbench predict`"
    with pytest.raises(InputError, match=message):
        WRITERS["pt2"](model_of("finetune"), tmp_path / "a.pt2")


@pytest.mark.parametrize("shape", [(97, 64), (64, 97), (80, 80), (300, 200)])
def test_the_preprocessing_of_the_docs_gives_the_input(model_of, tmp_path, shape):
    """On a photo with an EXIF orientation; its values are smooth, as a photo's."""
    model = model_of("finetune", *TIMM, "recipe.crop_pct=0.875")
    spec = importlib.util.spec_from_file_location("preprocess", DOCS / "how-to" / "preprocess.py")
    docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docs)
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize(shape, Image.Resampling.BICUBIC)
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.png", exif=exif)
    own = docs.preprocess(tmp_path / "photo.png", facts(model)["preprocessing"])
    right = model.batch([model.decoded(tmp_path / "photo.png")])[0]
    step = 1 / 255 / min(facts(model)["preprocessing"]["std"])
    assert np.abs(own - right.numpy()).max() < (1e-4 if model.side <= SMALL else 1.01 * step)
