"""The measures of a planted source: by hand, against libraries, and from records."""

import math
import re

import numpy as np
import pytest
from paper_records import answers, cell, read, write_plan, write_run
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score
from transferbench.analysis.figures.planted import main, planted_frame
from transferbench.analysis.page.suite_figures import suite_pictures
from transferbench.analysis.report import write_report
from transferbench.analysis.tables.paper_tables import to_text
from transferbench.analysis.tables.planted_table import auc, fieller
from transferbench.analysis.views import suite_drawings, suite_section

TRUTH = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0, "e": 0.0}


def test_auc_by_hand_and_by_scikit_learn():
    names = list(TRUTH)
    assert auc({"a": 3, "b": 1, "c": 2, "d": 1, "e": 0}, TRUTH) == pytest.approx(4.5 / 6)
    weights = dict(zip(names, np.random.default_rng(0).random(5), strict=True))
    expected = roc_auc_score(list(TRUTH.values()), [weights[n] for n in names])
    assert auc(dict(reversed(weights.items())), TRUTH) == pytest.approx(expected)
    assert math.isnan(auc({"a": 1, "b": 2}, {"a": 0.0, "b": 0.0}))
    assert math.isnan(auc({"a": 1, "b": 2}, {"a": 1.0, "b": 1.0}))


def test_fiellers_ends_are_where_the_t_test_turns():
    random = np.random.default_rng(1)
    gap = 5 + random.normal(size=8)
    above = 0.7 * gap + 0.5 * random.normal(size=8)
    ratio, low, high = fieller(above, gap)
    assert ratio == pytest.approx(above.mean() / gap.mean())
    assert low < ratio < high
    for end in (low, high):
        assert ttest_1samp(above - end * gap, 0).pvalue == pytest.approx(0.05)


def test_fiellers_interval_covers():
    """True ratio .5: 95 % of intervals hold it."""
    random = np.random.default_rng(2)
    held = 0
    for _ in range(2000):
        gap = 4 + 2 * random.normal(size=10)
        _, low, high = fieller(0.5 * gap + random.normal(size=10), gap)
        held += low <= 0.5 <= high
    assert 0.93 < held / 2000 < 0.97


def test_a_gap_that_may_be_zero_has_no_share():
    ratio, low, high = fieller([1, 2, 3], [1, -1, 0.5])
    assert ratio == pytest.approx(12)
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(math.isnan(v) for v in fieller([], []))


def runs_of(results, label, percents, learned=None, points=(), seconds=0.02, weights="learned"):
    rows = []
    for seed, percent in enumerate(percents):
        curve = [
            {"step": 10 * (i + 1), "seconds": i, "holdout": {"top1": 0.5}, "class_weights": p}
            for i, p in enumerate(points)
        ]
        own = {"class_weights": learned, "source_truth": TRUTH, "curve": curve}
        own |= {"config": {"seed": seed, "settings": {"weights": weights}}}
        own |= {"seconds": {"prepare": 0.0, "step": 1.0, "per_step_median": seconds, "parts": {}}}
        rows.append(write_run(results, label, seed, target="digits", **own, **answers(percent, 1000, 1)))
    return rows


@pytest.fixture
def planted_suite(results):
    wrong, right = ({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.5}, TRUTH)
    rows = {
        "Fine-tuning": runs_of(results, "Fine-tuning", (80, 81, 79), seconds=0.01),
        "Uniform": runs_of(results, "Uniform", (80, 82, 81), weights="uniform"),
        "Oracle": runs_of(results, "Oracle", (90, 93, 90), right, weights="oracle"),
        "L2TL": runs_of(results, "L2TL", (85, 86, 87), right | {"c": 1.0}, [wrong, right, wrong]),
    }
    cells = [
        cell(name, "digits", runs, method="finetune" if name == "Fine-tuning" else "l2tl", label=name)
        for name, runs in rows.items()
    ]
    write_plan(results, "mine", "", "Planted", "planted", cells)
    return read(results)["mine"]


def test_the_table_of_a_planted_source(planted_suite):
    section = suite_section(planted_suite)
    lines = {row[0].text: [entry.text for entry in row] for row in section.tables[0].rows}
    own = lines["L2TL"]
    # above uniform: 5, 4, 6; the gap: 10, 11, 9
    assert own[3].startswith("0.50 (")
    assert own[4].startswith("0.83")
    assert own[6] == "20 (3 of 3)"
    assert own[8] == "2.00"
    assert lines["Fine-tuning"][4] == "–"
    assert lines["Oracle"][3] == "–"
    assert "the truth matters: oracle weights are +10.0" in section.sentences[0]
    assert "Fieller" in to_text(section)


def test_the_picture_of_a_planted_source(planted_suite, results, tmp_path):
    frame = planted_frame(planted_suite).set_index("label")
    assert list(frame.index) == ["Fine-tuning", "Oracle", "L2TL"]
    assert frame["points"].tolist() == pytest.approx([-1, 10, 5])
    assert frame.loc["L2TL", "auc"] == pytest.approx(5 / 6)
    assert frame["auc"].isna().tolist() == [True, True, False]
    first = suite_pictures("mine", suite_drawings(planted_suite, results))[0]
    assert "digits: L2TL +5.0 at an AUC of 0.83, the oracle +10.0." in first.svg
    main([str(tmp_path / "planted.png"), str(results)])
    assert (tmp_path / "planted.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_the_figures_of_a_planted_source(planted_suite, results, tmp_path):
    page = write_report(results, tmp_path / "report", prints=True).read_text()
    section = page[page.index('id="suite-mine"') : page.index('id="time"')]
    captions = re.findall(r"<figcaption>(.*?)<a ", section, re.DOTALL)
    assert [caption.split(":")[0] for caption in captions] == [
        "Bars are 95\N{NO-BREAK SPACE}% intervals over seeds. Dashed lines",
        "Oracle on digits",
        "L2TL on digits",
    ]
    assert section.count("<svg") == 3
    files = {path.name for path in (tmp_path / "report" / "figures").glob("mine-*")}
    assert files == {f"mine-{number}.{ending}" for number in (1, 2, 3) for ending in ("png", "pdf", "csv")}
