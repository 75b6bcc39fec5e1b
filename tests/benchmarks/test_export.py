"""Kept models in the forms of other programs: equal classes and logits, or one line on what works instead."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from test_model import Made, made, saved  # noqa: F401  (a fixture)
from transferbench import InputError
from transferbench.benchmarks.model.export import WRITERS
from transferbench.benchmarks.model.load import Model

TIMM = ("backbone=resnet10t", "recipe.image_size=32")
FORMS = [
    ("finetune",),
    ("finetune", *TIMM),
    ("linear_probe", "method.taps=3"),
    ("ncm",),
    ("knn",),
    ("logistic",),
    ("atl",),
    ("head2toe",),
    ("spottune",),
    ("stochnorm",),
]


@pytest.fixture(scope="module")
def model_of(made, tmp_path_factory) -> Callable[..., Model]:  # noqa: F811
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
