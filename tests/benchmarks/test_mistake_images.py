"""Pictures of mistakes: those of the images that records name, each once, and none of other images."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from simulated_results import answered, make_record, save
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.load import load
from transferbench.analysis.records.pictures import pictures_path, read_pictures
from transferbench.benchmarks.commands.mistake_images import write_mistake_images
from transferbench.datasets import catalog, digits


@pytest.fixture
def config(config_of):
    return config_of("finetune")


@pytest.fixture
def comparison(tmp_path):
    labels = digits.images()["test"][1]
    predicted = labels.copy()
    predicted[[5, 300]] = (labels[[5, 300]] + 1) % 10
    save(tmp_path, answered(make_record(), predicted, labels, None, digits.CLASSES))
    return comparisons(load(tmp_path))[0]


def test_the_images_of_the_mistakes_are_written_once(tmp_path, comparison, config, monkeypatch):
    write_mistake_images(config, comparison, tmp_path)
    path = pictures_path(tmp_path, comparison.runs[0].record)
    found = read_pictures(path)
    assert set(found) == {5, 300}
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[5]))).convert("L").resize((16, 16)))
    likeness = [np.corrcoef(shown.ravel(), image.ravel())[0, 1] for image in digits.images()["test"][0]]
    assert np.argmax(likeness) == 5
    monkeypatch.setattr(catalog, "load", None)
    write_mistake_images(config, comparison, tmp_path)  # nothing is missing, so nothing is read


def test_other_images_are_not_shown(tmp_path, comparison, config, monkeypatch):
    part = SimpleNamespace(labels=np.zeros(797))
    monkeypatch.setattr(catalog, "load", lambda *_, **__: SimpleNamespace(part=lambda name: part))
    write_mistake_images(config, comparison, tmp_path)
    assert not (tmp_path / "pictures").exists()
