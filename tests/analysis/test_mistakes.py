"""What went wrong where: planted confusions, calibration and pairs of rows are found."""

import base64
import json
import re

import numpy as np
import pytest
from scipy.stats import binomtest
from simulated_results import answered, make_record, save, write_results
from sklearn.metrics import confusion_matrix
from transferbench.analysis import mistakes, report
from transferbench.analysis.page import wrong
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.load import load
from transferbench.analysis.records.pictures import pictures_path, read_pictures
from transferbench.analysis.report import write_report

NAMES = ["cat", "dog", "newt", "owl"]
LABELS = np.arange(400) % 4


def with_newts_as_owls(seed, count=30):
    """Return answers that are right but for some newts, which are other ones with each seed."""
    predicted = LABELS.copy()
    newts = np.flatnonzero(LABELS == 2)
    predicted[np.roll(newts, seed)[:count]] = 3
    return predicted


def write(folder, predicted_of, seeds=2, sure=None, classes=NAMES, labels=LABELS):
    """Write rows by label, given a function from the seed to the answers; return their comparison."""
    for label, predicted in predicted_of.items():
        for seed in range(seeds):
            record = make_record(label, seed=seed)
            save(folder, answered(record, predicted(seed), labels, sure, classes))
    [comparison] = comparisons(load(folder))
    return comparison


def test_a_planted_confusion_is_the_first(tmp_path):
    comparison = write(tmp_path, {"Fine-tuning": with_newts_as_owls})
    [row] = mistakes.rows_of(comparison)
    found = mistakes.confusion(row)
    each = [confusion_matrix(LABELS, with_newts_as_owls(seed)) for seed in (0, 1)]
    assert np.array_equal(found, np.mean(each, axis=0))
    part = wrong.wrong_part(comparison, ["Fine-tuning"], {}, 0)
    numbers = json.loads(part["numbers"])["rows"][0]
    assert numbers["pairs"] == [[2, 3, 30.0]]
    assert numbers["worst"][0][:2] == [2, 70.0]
    assert numbers["worst"][0][4:] == [3, 30.0]
    assert "most often takes newt for owl (30.0 of 100 images per seed)" in part["sentence"]
    assert "lowest recall is 70.0 % on newt (100 images)" in part["sentence"]


def test_pictures_are_within_their_bytes_the_surest_mistakes_of_each_row_first():
    mistakes_of = [[[5, 0], [6, 0], [7, 0]], [[8, 0], [5, 0]]]
    pictures = dict.fromkeys((5, 6, 8), "x" * 100)
    assert list(wrong._within(mistakes_of, pictures, 1000)) == [5, 8, 6]
    assert list(wrong._within(mistakes_of, pictures, 250)) == [5, 8]
    assert wrong._within(mistakes_of, pictures, 0) == {}


def test_a_page_of_many_comparisons_with_large_pictures_stays_small(tmp_path, monkeypatch):
    for i in range(12):
        record = answered(
            make_record(seed=0, comparison_id=f"c{i:09}"), with_newts_as_owls(0), LABELS, None, NAMES
        )
        save(tmp_path, record)
    pictures = dict.fromkeys(range(400), base64.b64encode(bytes(300_000)).decode())
    monkeypatch.setattr(report, "read_pictures", lambda path: pictures)
    size = write_report(tmp_path, tmp_path / "report").stat().st_size
    assert 4_000_000 < size < 15_000_000


def test_many_classes_have_the_most_frequent_confusions_instead_of_a_matrix(tmp_path):
    labels = np.arange(3000) % 1000
    predicted = labels.copy()
    predicted[[7, 1007, 2007]] = 8
    names = [f"class {i}" for i in range(1000)]
    comparison = write(tmp_path, {"Fine-tuning": lambda seed: predicted}, classes=names, labels=labels)
    numbers = json.loads(wrong.wrong_part(comparison, ["Fine-tuning"], {}, 0)["numbers"])
    assert "matrix" not in numbers["rows"][0]
    assert numbers["rows"][0]["pairs"] == [[7, 8, 3.0]]
    assert len(numbers["rows"][0]["worst"]) == wrong.NUM_WORST


def test_the_calibration_error_is_that_of_its_definition(tmp_path):
    random = np.random.default_rng(0)
    sure = random.uniform(0.25, 1, 400).astype(np.float16)
    predicted = np.where(random.random(400) < sure.astype(float) ** 2, LABELS, (LABELS + 1) % 4)
    comparison = write(tmp_path, {"Fine-tuning": lambda seed: predicted}, seeds=1, sure=sure)
    [row] = mistakes.rows_of(comparison)
    found = mistakes.calibration(row)
    expected, values = 0.0, sure.astype(float)
    for i in range(15):
        inside = (i / 15 < values) & (values <= (i + 1) / 15)
        if inside.any():
            gap = values[inside].mean() - (predicted == LABELS)[inside].mean()
            expected += abs(gap) * inside.mean()
    assert found.error == pytest.approx(expected, abs=1e-6)
    assert found.error > 0.05
    assert found.counts.sum() == 400
    assert found.excess == pytest.approx(sure.astype(float).mean() - (predicted == LABELS).mean(), abs=1e-6)


def test_who_is_sure_and_right_is_calibrated(tmp_path):
    comparison = write(tmp_path, {"Fine-tuning": lambda seed: LABELS}, sure=np.ones(400))
    [row] = mistakes.rows_of(comparison)
    assert mistakes.calibration(row).error == 0
    assert mistakes.confident_mistakes(row) == []
    assert "every test image right" in wrong.wrong_part(comparison, ["Fine-tuning"], {}, 0)["sentence"]


def test_the_mistakes_that_all_seeds_are_sure_of_come_first(tmp_path):
    sure = np.full(400, 0.5)
    sure[[10, 14]] = 0.9, 0.8

    def predicted(seed):
        answers = LABELS.copy()
        answers[[10, 14, 18][: 3 - seed]] = 1  # image 18 is wrong with one seed only
        return answers

    comparison = write(tmp_path, {"Fine-tuning": predicted}, sure=sure)
    found = mistakes.confident_mistakes(mistakes.rows_of(comparison)[0])
    assert [(item.image, item.true, item.predicted, item.num_seeds) for item in found] == [
        (10, 2, 1, 2), (14, 2, 1, 2), (18, 2, 1, 1),
    ]  # fmt: skip
    assert [item.probability for item in found] == pytest.approx([0.9, 0.8, 0.5], abs=1e-3)


def test_two_rows_are_compared_image_by_image(tmp_path):
    def other(seed):
        answers = with_newts_as_owls(seed)
        answers[np.flatnonzero(LABELS == 0)[: 5 + seed]] = 1
        answers[LABELS == 2] = 2
        answers[np.flatnonzero(LABELS == 2)[:10]] = 3
        return answers

    comparison = write(tmp_path, {"Fine-tuning": with_newts_as_owls, "L2TL": other})
    a, b = mistakes.rows_of(comparison)
    found = mistakes.disagreements(a, b)
    for seed in (0, 1):
        right, right_too = with_newts_as_owls(seed) == LABELS, other(seed) == LABELS
        kinds = (right & right_too, right & ~right_too, ~right & right_too, ~right & ~right_too)
        assert found[seed] == tuple(map(np.count_nonzero, kinds))
        assert sum(found[seed]) == 400
    for _, only_a, only_b, _ in found.values():
        expected = binomtest(only_a, only_a + only_b, 0.5).pvalue
        assert mistakes.exact_p_value(only_a, only_b) == pytest.approx(expected)
    assert mistakes.exact_p_value(0, 0) == 1
    numbers = json.loads(wrong.wrong_part(comparison, ["L2TL", "Fine-tuning"], {}, 0)["numbers"])
    assert [row["label"] for row in numbers["rows"]] == ["L2TL", "Fine-tuning"]
    assert numbers["second"] == 1
    [two] = numbers["two"]
    assert two["seeds"][0][:5] == [0, 365, 20, 5, 10]
    assert two["text"].startswith("+3.6 points")


def test_runs_on_other_test_images_are_not_mixed(tmp_path):
    write(tmp_path, {"Fine-tuning": with_newts_as_owls})
    moved = answered(make_record("L2TL"), LABELS[::-1], LABELS[::-1], None, NAMES)
    save(tmp_path, moved)
    [comparison] = comparisons(load(tmp_path))
    assert [row.label for row in mistakes.rows_of(comparison)] == ["Fine-tuning"]


@pytest.mark.parametrize(("share", "num"), [(0.0, 5), (0.5, 20), (1.0, 3)])
def test_the_interval_of_a_recall_is_wilsons(share, num):
    expected = binomtest(round(share * num), num).proportion_ci(method="wilson")
    assert wrong.wilson(share, num) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_earlier_records_say_nothing_and_hostile_names_stay_text(tmp_path):
    write_results(tmp_path, {"Fine-tuning": None, "L2TL": None}, {"digits": 85, "pets": 90}, seeds=2)
    text = write_report(tmp_path, tmp_path / "report").read_text()
    assert text.count("<summary>What went wrong where") == text.count('<details class="more wrong"') == 1
    [data] = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert "3 <script>alert(1)</script>" in json.loads(data)["classes"]


def test_pictures_are_found_by_the_test_images(tmp_path):
    record = make_record()
    path = pictures_path(tmp_path, record)
    path.parent.mkdir()
    path.write_text(json.dumps({"images": {"3": "/9j/AAAA", "4": "<script>", "x": "/9j/AAAA"}}))
    assert read_pictures(path) == {}  # a key is no number: not written by `bench`
    path.write_text(json.dumps({"images": {"3": "/9j/AAAA", "4": "<script>"}}))
    assert read_pictures(path) == {3: "/9j/AAAA"}
    assert read_pictures(tmp_path / "nowhere.json") == {}
    prints = record["fingerprints"] | {"splits": {"test": "other"}}
    assert pictures_path(tmp_path, record | {"fingerprints": prints}) != path
