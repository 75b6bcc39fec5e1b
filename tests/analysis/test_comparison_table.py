"""Comparisons, their table and the words under it."""

import math

import numpy as np
import pandas as pd
import pytest
from simulated_results import make_record
from transferbench.analysis import wording
from transferbench.analysis.figures import accuracy, curves, style
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.load import parse_run
from transferbench.analysis.records.migrations import upgraded
from transferbench.analysis.statistics.paired import Difference
from transferbench.analysis.tables import comparison_table
from transferbench.analysis.tables.formats import to_markdown
from transferbench.analysis.tables.size_table import size_table
from transferbench.analysis.tables.step_costs import step_costs
from transferbench.analysis.tables.table import Cell, Table

NAN = math.nan
ABOVE, BELOW = "X is above fine-tuning by ", "X is below fine-tuning by "
NONE = "X: inconclusive: "


def make_run(label="Fine-tuning", seed=0, score=0.8, **changed):
    record = {
        "label": label, "method": "finetune" if label == "Fine-tuning" else "l2tl", "source": "glyphs",
        "target": "digits", "seed": seed, "digest": f"{label}{seed}", "bench": "b1", "setting": "",
        "config": {"seed": seed}, "metric": "auroc", "test": {"auroc": score, "num_images": 10},
        "correct": None, "curve": [], "fingerprints": {"target": "t1"},
        "images": {"target": 19200, "source": 0, "holdout": 0},
        "seconds": {"prepare": 1.0, "step": 12.0, "per_step_median": 0.04, "parts": {}}, "num_steps": 300,
        "pretraining": [{"digest": "p", "seconds": 60.0, "steps": 9, "shared": True}],
        "environment": {"commit": "c0ffee", "dirty": False, "device": "cpu", "host": "desk"},
        "ended": "2026-11-22T15:01:00Z",
    }  # fmt: skip
    return parse_run("record.json", upgraded({"format": 1} | record | changed))


def test_table_has_the_best_first_and_differences_from_fine_tuning():
    runs = [make_run(seed=seed, score=0.80) for seed in range(3)]
    seconds = {"prepare": 0.0, "step": 36.0, "per_step_median": 0.14, "parts": {}}
    runs += [make_run("L2TL", seed, 0.81 + 0.01 * seed, seconds=seconds) for seed in range(3)]
    (comparison,) = comparisons(runs)
    table = comparison_table.comparison_table(comparison).set_index("label")
    assert list(table.index) == ["L2TL", "Fine-tuning"]
    assert table.loc["L2TL", "difference"] == pytest.approx(2.0)
    assert table.loc["L2TL", "difference_low"] == pytest.approx(2 - 2.484, abs=1e-3)
    assert table.loc["L2TL", "step_ratio"] == pytest.approx(3.5)
    assert table.loc["Fine-tuning", "train_seconds"] == 13.0
    assert math.isnan(table.loc["Fine-tuning", "difference"])


def test_without_fine_tuning_nothing_is_claimed():
    (comparison,) = comparisons([make_run("L2TL"), make_run("L2TL", 1)])
    table = comparison_table.comparison_table(comparison)
    assert comparison_table.sentences(table) == []
    assert math.isnan(table["step_ratio"].item())
    assert any("no run of fine-tuning" in note for note in comparison.notes)


def test_runs_are_compared_only_within_a_bench():
    found = comparisons([make_run(), make_run("L2TL", bench="b2"), make_run("L2TL")])
    assert [(item.comparison_id, list(item.by_label)) for item in found] == [
        ("b1", ["Fine-tuning", "L2TL"]),
        ("b2", ["L2TL"]),
    ]


def test_the_latest_of_several_runs_of_a_seed_is_used_and_said():
    early = make_run(score=0.1, digest="early", ended="2026-11-22T15:00:00Z")
    (comparison,) = comparisons([make_run(score=0.9, digest="late"), early])
    assert [run.digest for run in comparison.runs] == ["late"]
    assert comparison.notes[0] == (
        "Fine-tuning, seed 0: 2 different runs; the latest, late, is used and early left out."
    )


def test_what_makes_runs_less_comparable_is_said():
    gpu = {"commit": "beef", "dirty": True, "device": "cuda", "host": "node1"}
    other = make_run(seed=1, environment=gpu, config={"seed": 1, "recipe": {"lr": 0.1}})
    changed = make_run("L2TL", fingerprints={"target": "t2"})
    (comparison,) = comparisons([make_run(config={"seed": 0, "recipe": {"lr": 0.2}}), other, changed])
    notes = "\n".join(comparison.notes)
    for part in (
        "same recipe.lr",
        "cpu on desk; cuda on node1",
        "2 commits",
        "not committed",
        "images are not",
    ):
        assert part in notes


def test_sizes_are_the_most_of_any_run_and_no_table_where_none_is_known():
    size = {"trained_parameters": 1_290, "target_bytes": 936, "prediction_flops": 6_710_000}
    old, new = (
        make_run(),
        [make_run("L2TL", seed, peak_memory_bytes=1_250e6 + seed, size=size) for seed in range(2)],
    )
    (comparison,) = comparisons([old, *new])
    numbers = comparison_table.comparison_table(comparison)
    assert numbers.set_index("label").loc["L2TL", "peak_memory_bytes"] == 1_250_000_001
    shown = size_table(comparison, numbers)
    assert shown is not None
    assert {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows} == {
        "Fine-tuning": ["–", "–", "–", "–"],
        "L2TL": ["1.29 k", "936 B", "0.00671", "1.25 GB"],
    }
    assert "| stored per target |" in comparison_table.markdown(comparison)
    (comparison,) = comparisons([old])
    assert size_table(comparison, comparison_table.comparison_table(comparison)) is None
    assert "stored per target" not in comparison_table.markdown(comparison)


def step_run(label="Fine-tuning", seconds=0.04, seed=0, host="desk", threads=1, **changed):
    return make_run(
        label,
        seed,
        seconds={"prepare": 0.0, "step": 1.0, "per_step_median": seconds, "parts": {}},
        environment={"commit": "c", "dirty": False, "device": "cpu", "host": host, "threads": threads},
        **changed,
    )


def test_a_steps_cost_is_a_ratio_of_medians():
    runs = [step_run(seed=seed, seconds=s) for seed, s in enumerate((0.04, 0.05, 0.4))]
    runs += [step_run("L2TL", s, seed) for seed, s in enumerate((0.01, 0.15))]
    assert step_costs(runs) == {"Fine-tuning": "1.00 (3 runs)", "L2TL": "1.60 (2 runs)"}
    assert step_costs([]) == {}


@pytest.mark.parametrize("place", [{"host": "node"}, {"threads": 2}, {"bench": "b2"}, {"target": "letters"}])
def test_steps_are_compared_only_with_fine_tuning_in_the_same_place(place):
    there = step_run("L2TL", 0.12, **place)
    assert step_costs([step_run(), there]) == {"Fine-tuning": "1.00 (1 run)"}
    both = [step_run(), there, step_run("Fine-tuning", 0.06, **place), step_run("L2TL", 0.06)]
    assert step_costs(both) == {"Fine-tuning": "1.00 (2 runs)", "L2TL": "1.50 to 2.00 (2 runs)"}


def test_steps_of_records_that_do_not_tell_their_threads_are_compared():
    assert step_costs([make_run(), make_run("L2TL")])["L2TL"] == "1.00 (1 run)"


def test_file_names_are_safe():
    (comparison,) = comparisons([make_run(source="../my data", target="a/b")])
    assert comparison.slug == "my-data-a-b-b1"


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Difference(1.2, 0.3, 2.1, 5), ABOVE + "1.2 points (95 % CI 0.3 to 2.1)."),
        (Difference(-1.2, -2.1, -0.3, 5, "", 0.03), BELOW + "1.2 points (95 % CI 0.3 to 2.1), p = 0.03."),
        (
            Difference(1.2, 0.3, 2.1, 5, "", 0.001, 1.0, 0.006, 6),
            ABOVE + "1.2 points (95 % CI 0.3 to 2.1), p = 0.006 after Holm correction for 6 comparisons.",
        ),
        (
            Difference(-3.8, -6.4, -1.2, 5, "", 0.015, 1.0, 0.09, 6),
            "X: −3.8 points (95 % CI −6.4 to −1.2), not significant after Holm correction (p = 0.09).",
        ),
        (Difference(0.0, -1.0, 0.8, 5), NONE + "0.0 points (95 % CI −1.0 to +0.8)."),
        (
            Difference(0.3, -1.1, 1.6, 3, "why", 0.4, 1.8),
            NONE + "+0.3 points (95 % CI −1.1 to +1.6); 80 % power to detect 1.8 points (why).",
        ),
        (Difference(0.9, 0.0, 1.8, 3), NONE + "+0.9 points (95 % CI 0.0 to +1.8)."),
        (
            Difference(2, 1, 3, 1, "why"),
            "X: +2.0 points (95 % CI +1.0 to +3.0) from fine-tuning on 1 seed; one seed allows no conclusion"
            " (why).",
        ),
        (
            Difference(2, NAN, NAN, 2),
            "X: +2.0 points from fine-tuning on 2 seeds; no confidence interval.",
        ),
        (Difference(NAN, NAN, NAN, 0, "no seed"), "X: not compared with fine-tuning (no seed)."),
    ],
)  # fmt: skip
def test_a_sentence_claims_no_more_than_its_interval(difference, text):
    assert wording.sentence("X", difference) == text


def test_numbers_as_words():
    assert wording.number(-0.04, sign=True) == "0.0"
    assert wording.number(-1.25, decimals=2) == "−1.25"
    assert wording.number(math.nan) == "–"
    assert [wording.count(value) for value in (0, 950, 999.9, 19_200, 999_999, 3_072_000)] == [
        "0", "950", "1 k", "19.2 k", "1 M", "3.07 M",
    ]  # fmt: skip
    assert [wording.duration(value) for value in (0, 0.0405, 0.9997, 12.04, 210, 7560)] == [
        "0 s", "40.5 ms", "1 s", "12 s", "3.5 min", "2.1 h",
    ]  # fmt: skip
    assert [wording.seeds(value) for value in ([0], [3, 0], [2, 0, 1], [0, 1, 5], [0, 1, 2, 3, 100])] == [
        "1 (0)", "2 (0, 3)", "3 (0–2)", "3 (0, 1, 5)", "5 (0–3, 100)",
    ]  # fmt: skip


def test_markdown_cells_cannot_break_the_table():
    text = to_markdown(Table("T", ["method", "seeds"], [[Cell("a|b\nc"), Cell("1")]]))
    assert text.splitlines()[2] == "| a\\|b c |     1 |"


def test_a_label_looks_the_same_everywhere_and_no_two_look_alike():
    labels = [f"method {i}" for i in range(24)] + ["Fine-tuning"]
    look = style.styles(labels)
    assert next(iter(look)) == "Fine-tuning"
    assert len(set(look.values())) == len(labels)
    assert style.styles(reversed(labels)) == look


def test_accuracy_figure_draws_every_seed_mean_and_interval():
    runs = pd.DataFrame({"label": ["A"] * 3 + ["B"], "seed": [0, 1, 2, 0], "score": [0.81, 0.82, 0.83, 0.5]})
    figure = accuracy.accuracy_figure(runs, style.styles("AB"), "Accuracy")
    (axes,) = figure.axes
    points = [collection.get_offsets() for collection in axes.collections]
    assert [len(group) for group in points] == [3, 1]
    assert np.allclose(points[0][:, 0], [81, 82, 83])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["A", "B"]
    bar = axes.lines[0].get_xdata()
    assert bar == pytest.approx([82 - 2.484, 82 + 2.484], abs=1e-3)


def test_curve_figure_draws_a_line_a_seed_and_a_mean():
    rows = [("A", seed, step, step / 100 + 0.1 * seed) for seed in (0, 1) for step in (10, 20)]
    curve = pd.DataFrame(rows, columns=["label", "seed", "step", "score"])
    figure = curves.curve_figure(curve, style.styles("A"), "Accuracy")
    lines = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert np.allclose(sorted(lines), [[10, 20], [15, 25], [20, 30]])


def test_a_source_model_that_seeds_share_is_told_of():
    shared, own = ([make_record("L2TL", seed=seed) for seed in range(2)] for _ in range(2))
    for record in own:
        (only,) = record["pretraining"]
        record["pretraining"] = [only | {"digest": f"{record['seed']:010}"}]
    published = [record | {"config": record["config"] | {"pretrained": True}} for record in shared]
    told = []
    for records in (shared, own, published):
        (found,) = comparisons([parse_run("record.json", record) for record in records])
        told.append("Seeds share a source model" in comparison_table.markdown(found))
    assert told == [True, False, False]
