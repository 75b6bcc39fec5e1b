"""What was learned of the source: rankings of classes, and whether seeds agree on them."""

import math

import numpy as np
import pandas as pd
import pytest
from paper_records import cell, read, write_plan, write_run
from scipy.stats import spearmanr
from transferbench.analysis.statistics.ranking import (
    extremes,
    rank_correlation,
    ranking,
    stability,
    weights_frame,
)
from transferbench.analysis.tables.class_table import sentence
from transferbench.analysis.views import suite_section


def frame(*columns, names=None):
    index = names or [f"class {i}" for i in range(len(columns[0]))]
    return pd.DataFrame(dict(enumerate(columns)), index=index)


def test_classes_are_ranked_by_their_mean_weight():
    table = ranking(frame([0.2, 0.9, 0.5], [0.4, 0.7, 0.5], names=["a", "b", "c"]))
    assert table["class"].tolist() == ["b", "c", "a"]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["mean"].tolist() == pytest.approx([0.8, 0.5, 0.3])
    assert table["deviation"].tolist() == pytest.approx([math.sqrt(0.02), 0, math.sqrt(0.02)])
    assert (table["low"].tolist(), table["high"].tolist()) == ([0.7, 0.5, 0.2], [0.9, 0.5, 0.4])


def test_classes_of_equal_weight_keep_the_order_of_the_source():
    order = [*range(1, 100, 2), *range(0, 100, 2)]
    assert ranking(frame([0.4, 0.5] * 50))["class"].tolist() == [f"class {i}" for i in order]


def test_rank_correlation_is_spearmans_ties_included():
    random = np.random.default_rng(0)
    weights = frame(*random.integers(0, 8, (4, 40)) / 8)
    found = stability(weights)
    pairs = [spearmanr(weights[a], weights[b]).statistic for a in range(4) for b in range(a)]
    assert rank_correlation(weights) == found.correlation == pytest.approx(np.mean(pairs))
    assert found.correlation_min == pytest.approx(min(pairs))


def test_of_one_seed_there_is_no_correlation():
    assert math.isnan(rank_correlation(frame([1, 2])))


def test_no_class_is_both_high_and_low():
    highest, lowest = extremes(
        frame([0.9, 0.2, 0.5, 0.1, 0.5], names=["bee", "cup", "oak", "sea", "urn"]), 10
    )
    assert list(highest["class"]) == ["bee", "oak"]
    assert list(lowest["class"]) == ["cup", "sea"]


def test_shared_first_classes_are_counted_beside_chance():
    one = list(range(40, 0, -1))
    other = [*one[5:10], *one[:5], *one[10:]]  # the first ten of each are the same ones
    third = [*one[20:40], *one[:20]]  # and none of them is among the first of this
    assert stability(frame(one, other)).overlap == 10
    found = stability(frame(one, other, third))
    assert found.overlap == pytest.approx((10 + 0 + 0) / 3)
    assert found.overlap_chance == pytest.approx(10 * 10 / 40)


def test_of_few_classes_only_half_are_first():
    found = stability(frame(list(range(8)), list(range(8))))
    assert (found.top, found.overlap, found.overlap_chance) == (4, 4, 2)


def test_chance_is_what_the_law_of_shuffled_classes_says():
    random = np.random.default_rng(1)
    truth = random.random(200)
    found = stability(frame(*(truth + random.normal(0, 0.02, (3, 200)))))
    spread = 1.96 / math.sqrt(199 * 3)  # a correlation's variance is 1 / 199; three pairs, uncorrelated
    assert found.correlation_chance == pytest.approx((-spread, spread), abs=0.025)
    assert found.correlation_p_value == found.overlap_p_value == pytest.approx(1 / 300)
    four = stability(frame([9, 8, 1, 2], [9, 8, 2, 1]))
    assert four.overlap == 2
    assert four.overlap_p_value == pytest.approx(1 / 6, abs=0.06)  # both of two, of four


def test_first_classes_that_seeds_share_may_be_read():
    random = np.random.default_rng(1)
    first = np.concatenate([np.full(10, 2.0), np.zeros(490)])
    found = stability(frame(*(first + random.random((3, 500)))))  # and nothing in common beyond
    assert found.overlap == 10
    assert found.correlation < 0.2
    assert found.is_readable
    assert sentence("birds", found).startswith(
        "birds: the first classes are stable enough to interpret: of 3 seeds two share 10.0 of their first 10"
        " classes (by chance 0.2; p = 0.0033); the rank correlation of all 500 is "
    )


def test_weak_agreement_is_told_from_chance_but_not_read():
    random = np.random.default_rng(2)
    truth = random.random(500)
    found = stability(frame(*(truth + random.normal(0, 0.6, (3, 500)))))
    assert 0.1 < found.correlation < 0.4
    assert not found.is_readable
    assert "more than by chance, but on too few first classes" in sentence("birds", found)


def test_to_share_a_few_of_the_first_classes_is_not_enough():
    random = np.random.default_rng(5)
    first = np.concatenate([np.full(3, 2.0), np.zeros(497)])
    found = stability(frame(*(first + random.random((3, 500)))))
    assert 3 <= found.overlap < 5
    assert found.overlap_p_value < 0.01
    assert found.is_agreement
    assert not found.is_readable


def test_a_high_correlation_does_not_make_other_first_classes_readable():
    common = np.arange(300.0)
    random = np.random.default_rng(3)
    found = stability(frame(*[np.concatenate([common, 1000 + random.permutation(60)]) for _ in range(2)]))
    assert found.correlation > 0.9
    assert found.overlap < 5
    assert not found.is_readable


@pytest.mark.parametrize("num_classes", [8, 40])
def test_rankings_without_anything_in_common_pass_for_agreement_in_one_of_twenty(num_classes):
    random = np.random.default_rng(4)
    found = [stability(frame(*random.random((3, num_classes)))) for _ in range(60)]
    assert sum(item.correlation_p_value <= 0.05 for item in found) <= 8  # 3 expected; 9 or more: 0.3 %
    assert sum(item.is_agreement for item in found) <= 8
    assert sum(item.is_readable for item in found) <= 8
    assert sum(item.correlation_p_value <= 0.5 for item in found) >= 18  # 30 expected; 17 or fewer: 0.1 %
    assert any("do not agree by more than chance" in sentence("x", item) for item in found)


def test_a_seed_that_weighs_all_classes_alike_agrees_with_none():
    found = stability(frame([0.5] * 50, list(range(50))))
    assert found.correlation == 0
    assert not found.is_readable


def test_one_seed_says_nothing():
    found = stability(frame(list(range(30))))
    assert math.isnan(found.correlation)
    assert not found.is_readable
    assert sentence("birds", found) == (
        "birds: one ranking of 30 classes from 1 seed; one seed does not show whether the ranking is stable,"
        " so do not interpret it."
    )


def learned(results, *weights, target="birds", element=""):
    runs = [write_run(results, "L2TL", i, target=target, class_weights=w) for i, w in enumerate(weights)]
    write_plan(results, "mine", element, "Mine", "classes", [cell("L2TL", target, runs)])
    return read(results)["mine"]


def test_classes_are_joined_by_name(results):
    suite = learned(results, {"a": 0.1, "b": 0.2, "only": 1.0}, {"b": 0.4, "a": 0.3}, None)
    weights = weights_frame(suite.runs)
    assert list(weights.columns) == [0, 1]
    assert weights.loc["b"].tolist() == [0.2, 0.4]
    assert list(weights.index) == ["a", "b"]


def test_one_seed_is_a_table_without_a_spread(results):
    section = suite_section(learned(results, {f"c{i}": i / 30 for i in range(30)}))
    first = [entry.text for entry in section.tables[0].rows[0]]
    assert first == ["birds", "1", "c29", "0.97", "–"]
    assert len(section.tables[0].rows) == 10
    assert len(section.tables[0].numbers) == 30
    assert section.tables[1].rows[0][-1].text == "unknown"
    assert "one seed does not show" in section.sentences[0]


def test_a_method_that_learns_no_weights_has_no_ranking(results):
    suite = learned(results, None, None)
    assert weights_frame(suite.runs).empty
    section = suite_section(suite)
    assert section.tables[0].rows == []
    assert section.sentences == ["birds: no learned weights of source classes, so there is no ranking."]


def test_published_classes_stand_beside_ours_in_their_own_order(results):
    suite = learned(results, {f"c{i}": i / 30 for i in range(30)}, target="aircraft", element="Table 4")
    rows = [[entry.text for entry in row] for row in suite_section(suite).tables[0].rows]
    assert rows[2] == ["aircraft", "3", "c27", "0.90", "–", "freight car", "0.80"]
    assert len(rows) == 10
