"""Predictions in records: what is written is read, and what contradicts itself is refused."""

import json

import numpy as np
import pytest
from simulated_results import make_record
from transferbench.analysis.records.answers import answers_of, to_text
from transferbench.analysis.records.load import read_all

CLASSES = ["cat", "dog", "newt"]


def record(**changed):
    """Return a record with the answers to four images, of which the last is wrong."""
    labels, predicted = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])
    own = {
        "correct": "4A==",
        "predictions": {"classes": to_text(predicted, "u2"), "probabilities": to_text(np.full(4, 0.5), "f2")},
        "test_labels": to_text(labels, "u2"),
        "class_names": CLASSES,
        "test": {"top1": 0.75, "num_images": 4},
    }
    return make_record() | own | changed


def read(folder, content):
    (folder / "record.json").write_text(json.dumps(content))
    return read_all(folder)


def test_what_was_written_is_read(tmp_path):
    [run] = read(tmp_path, record()).runs
    assert run.answers.predicted.tolist() == [0, 1, 2, 0]
    assert run.answers.labels.tolist() == [0, 1, 2, 2]
    assert run.answers.probabilities.tolist() == [0.5] * 4
    assert run.answers.classes == tuple(CLASSES)
    assert np.array_equal(run.answers.correct, run.correct)


@pytest.mark.parametrize("name", ["predictions", "test_labels", "class_names"])
def test_earlier_records_have_none(tmp_path, name):
    content = record()
    del content[name]
    assert read(tmp_path, content).runs[0].answers is None
    assert answers_of(record(**{name: None}), np.array([True] * 3 + [False])) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test_labels": "AAA="}, "field 'test_labels' holds 2 bytes, where 4 images take 8"),
        ({"test_labels": "no base64"}, "no whole record"),
        ({"class_names": CLASSES[:2]}, "class 2, where class_names has 2"),
        ({"correct": "8A=="}, "fields 'predictions' and 'correct' disagree"),
        ({"predictions": {"classes": 3}}, "field 'predictions' holds a dict of another form"),
        (
            {"predictions": record()["predictions"] | {"probabilities": to_text(np.full(4, np.nan), "f2")}},
            "holds a number that is not from 0 to 1",
        ),
    ],
)
def test_what_contradicts_itself_is_left_out_and_named(tmp_path, changed, message):
    found = read(tmp_path, record(**changed))
    assert not found.runs
    assert message in found.unread[0].reason
