"""What is expected of rows on a new target, and what such advice gains on pairs left out."""

import json
import math

import numpy as np
import pytest
from simulated_results import digest, make_record, save
from transferbench.analysis import evidence
from transferbench.analysis.prior import (
    UNKNOWN,
    Case,
    Found,
    cases_of,
    equal,
    expected,
    gain,
    is_shown,
    known_cases,
    left_out,
    likeness,
    task_of,
    to_try,
)
from transferbench.analysis.records.load import load
from transferbench.analysis.records.packed import accuracies, pack
from transferbench.analysis.statistics.paired import mean_interval


def case(pair, per_class, classes=10, frozen=math.nan, times=2.0, **points):
    rows = {label: Found(own, times) for label, own in points.items()}
    return Case((pair, "t"), task_of(per_class, classes, frozen), rows)


def test_each_factor_of_four_and_each_20_points_of_the_way_from_chance_halve_the_weight():
    assert likeness(task_of(5, 10), task_of(20, 10)) == pytest.approx(0.5)
    assert likeness(task_of(5, 10), task_of(20, 40)) == pytest.approx(0.25)
    assert likeness(task_of(5, 10, 0.55), task_of(5, 10, 0.91)) == pytest.approx(0.25)
    assert likeness(task_of(5, 10, 0.55), task_of(5, 10)) == 1
    assert likeness(UNKNOWN, task_of(5, 10, 0.9)) == 1
    assert task_of(5, 10, 0.1).frozen == pytest.approx(0)
    assert task_of(5, 2, 0.75).frozen == pytest.approx(0.5)


def test_expected_points_are_the_weighted_mean_with_pairs_as_units():
    cases = [case("a", 5, A=1.0), case("a", 20, A=2.0), case("b", 5, A=-1.0), case("c", 5, A=3.0)]
    (found,) = expected(task_of(5, 10), cases)
    means, weights = np.array([(1 + 0.5 * 2) / 1.5, -1.0, 3.0]), np.array([1.5, 1.0, 1.0])
    assert found.difference.points == pytest.approx(np.average(means, weights=weights))
    assert found.difference.num_seeds == 3
    assert found.difference.low < -1
    assert found.times == pytest.approx(2)


def test_with_equal_weights_the_interval_is_the_t_interval_over_pairs():
    points = [0.5, 1.5, 1.0, 2.5]
    cases = [case(str(i), 5, A=p) for i, p in enumerate(points)]
    (found,) = expected(task_of(5, 10), cases, equal)
    own = found.difference
    assert (own.points, own.low, own.high) == pytest.approx(mean_interval(points))


def test_what_is_better_with_few_labels_is_advised_for_few():
    cases = [case(pair, n, A=10 / n, B=n / 8 - 0.5) for pair in "abcd" for n in (5, 20)]
    assert to_try(task_of(4, 10), cases) == "A"
    assert to_try(task_of(40, 10), cases) == "B"
    assert to_try(task_of(5, 10), [case("a", 5, A=-1.0)]) == "Fine-tuning"
    assert to_try(task_of(5, 10), []) == "Fine-tuning"


def test_advice_for_a_pair_left_out_comes_from_the_others_alone():
    cases = [case("a", 5, A=9.0, B=-9.0), case("b", 5, A=-1.0, B=2.0), case("c", 5, A=-1.0, B=2.5)]
    found = left_out(cases)
    assert [(each.label, each.points) for each in found] == [("B", -9.0), ("A", -1.0), ("A", -1.0)]
    assert [each.best for each in found] == ["A", "B", "B"]
    assert not is_shown(gain(found))
    assert left_out(cases[:2]) == []


def test_a_row_that_a_pair_has_not_is_not_advised_there():
    cases = [case("a", 5, A=1.0), case("b", 5, A=1.0, B=5.0), case("c", 5, A=1.1, B=5.0)]
    assert [each.label for each in left_out(cases)] == ["A", "B", "B"]


def test_a_gain_that_all_pairs_share_is_shown():
    cases = [case(pair, n, A=2.0 + 0.1 * i) for i, pair in enumerate("abcde") for n in (5, 20)]
    found = gain(left_out(cases))
    assert found.points == pytest.approx(2.2)
    assert is_shown(found)
    assert found.num_seeds == 5


def write(folder):
    """Write runs on three pairs, in which L2TL is 2, 3 and 4 points above fine-tuning."""
    for i, (source, target) in enumerate((("glyphs", "digits"), ("mnist", "usps"), ("usps", "mnist"))):
        for label, lead in (("Fine-tuning", 0), ("L2TL", 2 + i)):
            for seed in range(4):
                record = make_record(
                    label,
                    target,
                    seed,
                    share=0.7 + lead / 100,
                    source=source,
                    num_classes=10,
                    digest=digest(source, target, label, seed),
                    comparison_id=digest(source, target),
                    config={"shots": 5, "recipe": {"image_size": 16}},
                    fingerprints={"target": f"t-{target}", "source": f"s-{source}"},
                )
                save(folder, record)
    return load(folder)


def test_cases_of_records_have_their_points_and_times(tmp_path):
    cases = cases_of(write(tmp_path), {("mnist", "usps", 5): 0.55})
    assert [each.pair[0] for each in cases] == ["glyphs", "mnist", "usps"]
    assert [round(each.task.frozen, 2) for each in cases[1:2]] == [0.5]
    assert math.isnan(cases[0].task.frozen)
    assert [each.rows["L2TL"].points for each in cases] == pytest.approx([2, 3, 4], abs=1.5)
    assert cases[0].rows["L2TL"].times == pytest.approx(3.5, rel=0.05)


def test_the_report_says_what_advice_gains_on_a_pair_left_out(tmp_path):
    runs = write(tmp_path / "results")
    pack([tmp_path / "results"], tmp_path / "evidence.parquet")
    text = evidence.report(runs, known_cases(tmp_path / "evidence.parquet"))
    advice = text.partition("## Advice for a pair left out")[2]
    assert advice.count("| mnist to usps ") == 1
    assert "- Weighted by likeness: +" in advice
    assert "- Equal weights: +" in advice
    assert text.endswith("points from fine-tuning\n")


def test_the_packed_evidence_of_the_suite_has_cases_with_screened_features():
    cases = known_cases()
    assert cases
    assert all(0 < each.task.frozen <= 1 and len(each.rows) > 8 for each in cases)
    for each in cases:
        without = {"Linear probe", "Logistic regression", "BitFit", "LoRA"}
        assert {label for label, row in each.rows.items() if not row.needs_source} == without


def test_a_row_without_a_shared_seed_is_left_out(tmp_path):
    write(tmp_path)
    record = make_record("DATL", "usps", 99, share=0.9, source="mnist", comparison_id=digest("mnist", "usps"))
    record |= {"config": {"shots": 5, "recipe": {}}, "digest": digest("alone"), "num_classes": 10}
    save(tmp_path, record | {"fingerprints": {"target": "t-usps", "source": "s-mnist"}})
    runs = load(tmp_path)
    assert [set(each.rows) for each in cases_of(runs, {})] == [{"L2TL"}] * 3
    assert cases_of([run for run in runs if run.label == "Fine-tuning"], {}) == []


def test_features_are_those_of_the_newest_screening_of_the_same_size_of_images(tmp_path):
    write(tmp_path)
    for name, side, share, ended in (
        ("a", 32, 0.3, "2"),
        ("b", 16, 0.5, "2"),
        ("c", 16, 0.7, "3"),
        ("d", 16, 0.9, "1"),
    ):
        screen = {
            **{"format": 1, "kind": "encoder", "label": "small", "source": "glyphs", "target": "digits"},
            **{"learns_source": True, "metric": "top1", "config": {"shots": 5}, "image_size": side},
            **{"num_images": 50, "num_classes": 10, "scores": {"logistic": [share]}, "seconds": {}},
            **{"fingerprints": {"target": "t-digits", "source": "s-glyphs"}, "ended": ended},
        }
        path = tmp_path / "screen" / "glyphs-digits" / f"encoder-{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(screen))
    pack([tmp_path], tmp_path / "evidence.parquet")
    assert accuracies(tmp_path / "evidence.parquet") == {("glyphs", "digits", 5): 0.7}
