"""The advice: it follows the evidence, keeps to the budget, and says its doubt."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simulated_results
from scipy.stats import ttest_1samp
from simulated_results import METHODS, NUM_IMAGES, make_record, save
from transferbench import InputError
from transferbench.analysis import wording
from transferbench.analysis.alarms import checked
from transferbench.analysis.candidates import Candidate, corrected, over_targets
from transferbench.analysis.choice import choose
from transferbench.analysis.prior import Case, Found, task_of
from transferbench.analysis.recommend import WIDTH, Labeled
from transferbench.analysis.recommend import recommend as printed
from transferbench.analysis.records.comparison import compare, comparisons
from transferbench.analysis.records.load import load, parse_run
from transferbench.analysis.statistics.paired import Difference
from transferbench.analysis.sureness import take
from transferbench.analysis.tables.comparison_table import comparison_table, method_table, notes

FEW = {label: METHODS[label] for label in ("Scratch", "Linear probe", "Fine-tuning", "DATL", "L2TL")}
SKILL = {"Scratch": 0.60, "Linear probe": 0.80, "Fine-tuning": 0.85, "DATL": 0.851, "L2TL": 0.91}


def write(folder, target="digits", skill=SKILL, seeds=5, **changed):
    for label, share in skill.items():
        for seed in range(seeds):
            save(folder, make_record(label, target, seed, share=share, **changed))
    return folder


def recommend(*args, **kwargs):
    """Return the lines as one."""
    return " ".join(printed(*args, **kwargs).split())


def test_what_is_above_fine_tuning_is_taken_with_its_numbers_and_its_price(tmp_path):
    text = recommend(write(tmp_path), "digits")
    assert text.startswith("Target: digits (glyphs → digits) Take: L2TL: accuracy 91.")
    assert "points (95 % CI +" in text
    assert "from fine-tuning, p " in text
    assert "Cost: 42.5 s per run: 3.5 times fine-tuning's time." in text
    assert "Settings: shots=5" in text
    assert "measured on cpu (x86_64) on desk, without the pre-training that rows share (once, 62 s)." in text


def test_lines_are_short_and_each_says_what_it_is_about(tmp_path):
    *lines, command = printed(write(tmp_path), "digits").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == [
        "Target", "Take", "Why", "Why", "Sure", "Cost", "Settings", "Times",
    ]  # fmt: skip
    assert command.startswith("Next:      `transferbench reproduce")


def test_what_the_runs_do_not_tell_apart_is_named(tmp_path):
    text = recommend(write(tmp_path, skill={"Fine-tuning": 0.85, "DATL": 0.851}), "digits")
    assert "Sure: Not distinguishable from " in text
    same = Path("record.json"), make_record(share=0.5)
    runs = [replace(parse_run(*same), seed=seed) for seed in range(3)]
    comparison = compare(runs)
    assert "(the same in all 3 seeds); 12.1 s per run. It is the only row here: " in take(comparison)["why"]


def test_it_ends_with_the_commands_for_the_model_that_is_kept(tmp_path):
    write(tmp_path)
    folders = sorted(path.parent for path in tmp_path.glob("*/l2tl/*/*/record.json"))
    for folder in folders[1:3]:
        (folder / "model.json").write_text("{}")
    best = folders[2].relative_to(folders[2].parents[1])
    (folders[2].parents[1] / "best.json").write_text(f'{{"run": "{best}"}}')
    predict, export = printed(tmp_path, "digits").splitlines()[-2:]
    assert predict == f"Next:      `transferbench predict {folders[2]} PATH`"
    assert export == f"Next:      `transferbench export {folders[2]} to=onnx`"


def write_right(folder, num_right, target="digits"):
    """Write five seeds of each label, of which seed s has the first num_right + s images right."""
    for label, number in num_right.items():
        for seed in range(5):
            correct = np.arange(NUM_IMAGES) < number + seed
            test = {
                "top1": float(correct.mean()),
                "mean_per_class": 0.9,
                "auroc": 0.9,
                "num_images": NUM_IMAGES,
            }
            packed = base64.b64encode(np.packbits(correct)).decode()
            save(folder, make_record(label, target, seed, test=test, correct=packed))
    return folder


def test_a_cheaper_row_that_loses_no_more_than_the_margin_is_taken(tmp_path):
    text = recommend(write_right(tmp_path, {"Fine-tuning": 740, "L2TL": 743}), "digits")
    assert "Take: Fine-tuning" in text
    assert "L2TL has the highest mean and takes 3.5 times as long. Fine-tuning loses 0.4 points (95 %" in text
    assert "a loss of more than 1 point is excluded." in text


def test_inconclusive_is_not_equal_the_highest_mean_is_taken(tmp_path):
    text = recommend(write_right(tmp_path, {"Fine-tuning": 740, "L2TL": 746}), "digits")
    assert "Take: L2TL: accuracy" in text
    assert "Cheaper: Fine-tuning takes 12" in text
    assert "times that; it may lose up to 1." in text
    assert "more seeds decide" in text


def test_a_cheaper_row_that_surely_loses_more_is_not_named(tmp_path):
    text = recommend(write_right(tmp_path, {"Fine-tuning": 700, "L2TL": 746}), "digits")
    assert "Take: L2TL: accuracy" in text
    assert "Cheaper" not in text


def test_the_budget_leaves_out_what_takes_longer(tmp_path):
    write(tmp_path)
    text = recommend(tmp_path, "digits", seconds=15)
    assert "Take: Fine-tuning" in text
    assert "Left out: L2TL (42." in text
    assert "DATL (42." in text  # 12 s of its own and 30 s of its own pre-training
    assert "a run takes longer than 15 s." in text
    text = recommend(tmp_path, "digits", seconds=5)
    assert "Fine-tuning (12." in text
    assert "Take: Linear probe" in text
    assert "No method fits into the budget: the fastest, Linear probe, takes 3." in recommend(
        tmp_path, "digits", 1
    )


def test_of_one_seed_nothing_is_claimed_and_no_mean_is_given_up(tmp_path):
    text = recommend(write(tmp_path, seeds=1), "digits")
    assert "Take: L2TL" in text
    assert "one seed allows no conclusion: run seeds=5." in text
    assert "from fine-tuning, no conclusion from one seed." in text


def test_where_no_seed_is_shared_the_reason_is_that(tmp_path):
    write(tmp_path, skill={"Fine-tuning": 0.85}, seeds=3)
    for seed in range(3, 6):
        save(tmp_path, make_record("L2TL", "digits", seed, share=0.91))
    text = recommend(tmp_path, "digits")
    assert "It is not compared with fine-tuning, no seed in common." in text
    assert "Sure: Not compared with Fine-tuning, the next: no seed in common." in text


def test_without_fine_tuning_the_highest_mean_is_named_and_the_next(tmp_path):
    text = recommend(write(tmp_path, skill={"L2TL": 0.91, "DATL": 0.85}), "digits")
    assert "There are no runs of fine-tuning here." in text
    assert "Take: L2TL" in text
    assert "Sure: Above every other row; the nearest is DATL (+" in text


def test_the_row_to_take_is_at_hand_for_others(tmp_path):
    [comparison] = comparisons(load(write(tmp_path)))
    assert choose(comparison).taken.label == "L2TL"
    assert choose(comparison, seconds=15).taken.label == "Fine-tuning"
    assert choose(comparison, seconds=1).taken is None


def test_a_small_ratio_keeps_two_digits():
    assert [wording.times(x) for x in (0.0042, 0.32, 1, 3.54, 27.1, 140.2, 1e-7)] == [
        "0.0042", "0.32", "1", "3.5", "27", "140", "less than 0.0001",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0301, "0.03"), (0.05, "0.05"), (0.0502, "0.0502"), (0.04999, "0.05"), (0.0500001, "0.0500001")],
)
def test_a_p_value_is_not_rounded_to_the_other_side_of_the_level(value, text):
    assert wording.p_value(value) == f"p = {text}"


def test_the_comparison_with_the_most_evidence_is_used_and_others_are_mentioned(tmp_path):
    write(tmp_path)
    skill = {"Fine-tuning": 0.5, "DATL": 0.9}
    write(tmp_path, skill=skill, seeds=2, comparison_id="other", setting="shots=1")
    text = recommend(tmp_path, "digits")
    assert "Take: L2TL" in text
    assert "Not used: 1 comparison with other settings." in text


def test_other_targets_are_weaker_evidence_and_said_to_be(tmp_path):
    for i, target in enumerate(("digits", "pets", "cars", "food")):
        write(tmp_path, target, {label: share - 0.02 * i for label, share in SKILL.items()})
    text = recommend(tmp_path, "aircraft; rm -rf /")
    assert text.startswith("Target: aircraft; rm -rf /: there are no runs on it. Take: L2TL")
    assert "Why: On average over these targets it is +" in text
    assert "Evidence: 4 other targets (" in text
    assert f"`transferbench bench 'target=aircraft; rm -rf /' results={tmp_path}` measures it. Next:" in text
    assert "Take: Fine-tuning" in recommend(tmp_path, "aircraft", seconds=20)
    assert "Fine-tuning does not fit into the budget. Of the others that fit, it is best" in recommend(
        tmp_path, "aircraft", seconds=5
    )
    assert "No method fits" in recommend(tmp_path, "aircraft", seconds=1)


def test_costs_are_compared_on_the_same_targets(tmp_path):
    for target in ("digits", "pets", "cars"):
        write(tmp_path, target)
    hours = {"prepare": 0.0, "step": 7200.0, "per_step_median": 9.0, "parts": {}}
    write(tmp_path, "food", {"Fine-tuning": 0.85, "DATL": 0.85}, seconds=hours)
    text = recommend(tmp_path, "aircraft")
    assert "(3 of these targets have it). Cost: 3.5 times" in text
    assert "Evidence: 4 other targets" in text


def test_what_the_suites_own_runs_do_not_show_takes_nothing_back(tmp_path, monkeypatch):
    planted(monkeypatch, L2TL=-2.0, BitFit=-1.0)
    for i, target in enumerate(("digits", "pets", "cars", "food")):
        write(tmp_path, target, {label: share - 0.02 * i for label, share in SKILL.items()})
    text = recommend(tmp_path, "birds")
    assert "Take: L2TL" in text
    assert "not shown to help. Next:" in text


def test_points_of_other_scores_are_not_averaged(tmp_path):
    for target in ("digits", "pets"):
        write(tmp_path, target)
    areas = {"auroc": 0.8, "num_images": NUM_IMAGES}
    write(tmp_path, "xray", metric="auroc", test=areas, holdout={"auroc": 0.8}, correct=None, curve=[])
    text = recommend(tmp_path, "birds")
    assert "Evidence: 2 other targets (digits and pets)" in text
    assert "Not used: xray (AUROC, the others accuracy)." in text


def test_one_other_target_is_not_enough_to_advise_more_than_fine_tuning(tmp_path):
    text = recommend(write(tmp_path), "pets")
    assert "Take: Fine-tuning Why: No method is significantly above it there." in text
    assert "The highest, L2TL, is +" in text
    assert "from fine-tuning, no conclusion from one target. It takes 3.5 times" in text


def test_where_nothing_is_beside_fine_tuning_nothing_is_said(tmp_path):
    text = recommend(write(tmp_path, skill={"Fine-tuning": 0.85}), "pets")
    assert "Target: pets: there are no runs on it. Take: Fine-tuning Earlier: The suite's own" in text
    assert "Evidence:" not in text
    assert f"Next: `transferbench bench target=pets results={tmp_path}` measures it." in text
    with pytest.raises(InputError, match="no results in"):
        recommend(tmp_path / "nowhere", "pets")


def planted(monkeypatch, **points):
    """Let the suite's own runs be of four pairs, on which rows are so many points above fine-tuning."""
    cases = [
        Case(
            (pair, "t"),
            task_of(5, 10),
            {name: Found(own + 0.1 * i, 2.0, True, name.lower()) for name, own in points.items()},
        )
        for i, pair in enumerate("abcd")
    ]
    monkeypatch.setattr("transferbench.analysis.recommend.known_cases", lambda: cases)


def test_without_any_runs_the_suites_own_say_what_they_know(tmp_path):
    text = recommend(None, "pets", 60, lambda name: Labeled(500, 5))
    assert text.startswith(
        "Target: pets: there are no runs on it. Take: Fine-tuning Earlier: The suite's own"
    )
    assert "those count most that had about 100 labels in each of 5 classes. Try: " in text
    assert "Not used: seconds=60: no run here tells how long training takes." in text
    assert "labels and classes of the target are not known here" in recommend(
        tmp_path, "pets", None, lambda name: None
    )
    with pytest.raises(InputError, match="seconds=nan: expected a number above 0"):
        printed(None, "pets", float("nan"))


def test_what_helps_on_pairs_left_out_is_advised_and_nothing_else(monkeypatch):
    planted(monkeypatch, L2TL=2.0, BitFit=-1.0)
    text = recommend(None, "pets", None, lambda name: Labeled(50, 10))
    assert "Take: L2TL Earlier: The suite's own runs, on a to t, b to t, c to t and d to t; those" in text
    assert "Try: L2TL: +2.2 points (95 % CI +" in text
    assert "It takes 2 times fine-tuning's time and source images." in text
    assert "over fine-tuning: it helps on average." in text
    measures = "measures L2TL beside fine-tuning, PATH being source images."
    assert text.endswith(f"`transferbench bench target=pets methods=finetune,l2tl source=PATH` {measures}")
    planted(monkeypatch, L2TL=-2.0, BitFit=-1.0)
    text = recommend(None, "pets", None, lambda name: Labeled(50, 10))
    assert "Take: Fine-tuning" in text
    assert "Try: nothing else; no row is above fine-tuning there. The nearest is BitFit: −0.9 points" in text
    assert "not shown to help, hence fine-tuning." in text
    assert text.endswith("`transferbench bench target=pets` measures it.")


def test_without_the_suites_own_runs_other_targets_are_enough(tmp_path, monkeypatch):
    def broken():
        raise InputError("evidence.parquet: cannot be read")

    monkeypatch.setattr("transferbench.analysis.recommend.known_cases", broken)
    assert "Take: Fine-tuning Why: No method is" in recommend(write(tmp_path), "pets")
    assert "No advice is possible: no other target has runs" in recommend(None, "pets")


def screened(folder, name, shares, **changed):
    """Write a screening of an encoder."""
    screen = {
        **{"format": 1, "kind": "encoder", "label": "small", "source": "none", "target": "birds"},
        **{"learns_source": False, "metric": "top1", "config": {"pretrained": True}, "image_size": 64},
        **{"num_images": 50, "num_classes": 5, "scores": {"logistic": shares}, "seconds": {}},
        **{"fingerprints": {"target": "f"}, **changed},
    }
    path = folder / "screen" / "none-birds" / f"encoder-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(screen))


def test_a_screening_of_the_same_images_tells_more_of_a_target(tmp_path):
    screened(tmp_path, "a", [0.2, 0.2])
    screened(tmp_path, "b", [0.6, 0.8])
    screened(tmp_path, "other", [0.9], fingerprints={"target": "g"})
    screened(tmp_path, "few", [0.9], config={"pretrained": True, "shots": 5})
    screened(tmp_path, "random", [0.9], config={"pretrained": False})
    text = recommend(tmp_path, "../my/birds/", None, lambda name: Labeled(50, 5, "f"))
    assert "10 labels in each of 5 classes, and frozen features 63 % of the way from chance to all" in text
    assert f"`transferbench bench target=../my/birds/ results={tmp_path}` measures it. Next: " in text


@pytest.mark.parametrize("changed", [{"scores": {}}, {"num_classes": 1}, {"num_images": 0}])
@pytest.mark.parametrize("shares", [[], "high", [None], [float("nan")]])
def test_a_damaged_screening_is_not_used(tmp_path, shares, changed):
    screened(tmp_path, "a", shares)
    screened(tmp_path, "b", [0.5], **changed)
    text = recommend(tmp_path, "birds", None, lambda name: Labeled(50, 5, "f"))
    assert "10 labels in each of 5 classes. Try" in text


def test_a_row_that_gains_less_than_the_margin_is_not_advised_for_a_new_target(tmp_path):
    for i, target in enumerate(("digits", "pets", "cars", "food")):
        write_right(tmp_path, {"Fine-tuning": 700, "L2TL": 703 + i % 2}, target)
    text = recommend(tmp_path, "birds")
    assert (
        "Take: Fine-tuning Why: No method is significantly above it by more than 1 point on average" in text
    )
    assert "The highest, L2TL, is +0.4 points (95 % CI +0.3 to +0.6) from fine-tuning, p" in text


def test_a_target_without_runs_is_checked_and_one_with_runs_is_not(tmp_path):
    def check(name):
        raise InputError(f"{name}: no such data set")

    write(tmp_path, skill={"Fine-tuning": 0.85, "DATL": 0.85})
    with pytest.raises(InputError, match="digitz: no such data set"):
        printed(tmp_path, "digitz", None, check)
    assert "Take: " in recommend(tmp_path, "digits", None, check)


def test_a_row_of_easier_seeds_is_placed_by_its_paired_difference(tmp_path):
    shares = {0: 0.95, 1: 0.80, 2: 0.80}  # seed 0 is easy for every row
    for seed, share in shares.items():
        save(tmp_path, make_record("Fine-tuning", seed=seed, share=share))
        save(tmp_path, make_record("DATL", seed=seed, share=share + 0.03))
    save(tmp_path, make_record("L2TL", seed=0, share=0.96))
    (comparison,) = comparisons(load(tmp_path))
    rows = comparison_table(comparison)
    assert list(rows["label"]) == ["DATL", "L2TL", "Fine-tuning"]
    assert list(rows["score"]) != sorted(rows["score"], reverse=True)
    assert choose(comparison).taken.label == "DATL"
    assert any("placed by their paired difference" in note for note in notes(comparison, rows))
    assert method_table(comparison, rows).sorted_by is None


@pytest.mark.parametrize(("seeds", "said"), [(3, False), (2, True)])
def test_rows_of_other_seeds_are_said_to_be_compared_on_shared_ones(tmp_path, seeds, said):
    write(tmp_path, skill={"Fine-tuning": 0.8}, seeds=3)
    write(tmp_path, skill={"DATL": 0.85}, seeds=seeds)
    (comparison,) = comparisons(load(tmp_path))
    assert ("over the seeds that both rows have" in take(comparison)["why"]) == said


def test_p_values_are_corrected_for_the_number_of_methods():
    runs = [parse_run("record.json", make_record())]
    score = (80.0, 79.0, 81.0)
    found = [
        Candidate("A", 1.0, score, score[0], Difference(1.0, 0.1, 1.9, 5, p_value=0.03), runs),
        Candidate("B", 1.0, score, score[0], Difference(1.0, 0.1, 1.9, 5, p_value=0.02), runs),
        Candidate("C", 1.0, score, score[0], Difference(9.0, 8.0, 10.0, 1, p_value=0.001), runs),
        Candidate("Fine-tuning", 1.0, score, score[0], None, runs),
    ]
    adjusted = {item.label: item.difference.p_value_holm for item in corrected(found) if item.difference}
    assert adjusted["A"] == pytest.approx(0.04)  # Holm: the larger of 2 x .02 and .03
    assert adjusted["B"] == pytest.approx(0.04)
    assert not any(item.is_significant for item in corrected(found) if item.label in ("C", "Fine-tuning"))
    assert simulated_results.METHODS.keys() >= FEW.keys()


def choice(lr=0.01, **changed):
    own = {"num_trials": 13, "num_steps": 1200, "seconds": 40.0, "lr": lr, "head_lr_factor": 10.0}
    return own | {"bn": "frozen", "strengths": {"alpha": 0.1}, "at_end": []} | changed


def write_tuned(folder, target="digits", **changed):
    """Write rows that were tuned for 40 s each; `changed` is the choice of fine-tuning."""
    for label in ("Fine-tuning", "L2TL", "Linear probe"):
        own = choice(**(changed if label == "Fine-tuning" else {}))
        for seed in range(3):
            record = make_record(label, target, seed, share=SKILL[label], num_classes=10, choice=own)
            record["curve"][-1]["train"]["loss"] = 0.5
            save(folder, record)
    return folder


def test_the_values_of_the_row_and_its_tuning_are_named(tmp_path):
    text = recommend(write_tuned(tmp_path), "digits")
    assert "3 seeds) Values: lr 0.01, head 0.1, alpha 0.1, bn frozen Why" in text
    assert (
        "Cost: 42.5 s per run and 40 s of tuning, once: 1.6 times fine-tuning's time with its tuning." in text
    )
    assert "Alarm" not in text


def test_rows_are_ranked_among_themselves_where_fine_tuning_is_in_doubt(tmp_path):
    text = recommend(write_tuned(tmp_path, at_end=["lr low"]), "digits")
    assert text.startswith(
        "Alarm: Fine-tuning: the best value is at an end of the range tried: lr 0.01 (low)"
    )
    assert "So no method is compared with fine-tuning here (fine-tuning's best value is at an end" in text
    assert "Take: L2TL" in text
    assert "Sure: Above every other row; the nearest is Linear probe (+" in text
    assert "from fine-tuning" not in text


def test_fine_tuning_at_an_end_of_its_range_is_taken_if_it_is_highest(tmp_path, monkeypatch):
    monkeypatch.setitem(SKILL, "L2TL", 0.82)
    text = recommend(write_tuned(tmp_path, at_end=["lr high"]), "digits")
    assert "Alarm: Fine-tuning: the best value is at an end" in text
    assert "Take: Fine-tuning: accuracy 8" in text
    assert "Why: It has the highest mean. Sure: Above every other row; the nearest is L2TL" in text


def test_in_a_short_time_it_is_the_highest_of_those_that_fit(tmp_path):
    text = recommend(write_tuned(tmp_path, at_end=["lr high"]), "digits", seconds=20)
    assert "Take: Fine-tuning: accuracy 8" in text


def test_two_targets_that_are_equal_by_luck_prove_nothing(tmp_path):
    for target in ("digits", "pets"):
        for label, number in {"Fine-tuning": 600, "L2TL": 620}.items():
            correct = np.arange(NUM_IMAGES) < number
            correct = correct[::-1] if label == "L2TL" else correct  # others are right
            test = {"top1": float(correct.mean()), "num_images": NUM_IMAGES}
            packed = base64.b64encode(np.packbits(correct)).decode()
            save(tmp_path, make_record(label, target, test=test, correct=packed))
    (row,) = (each for each in over_targets(comparisons(load(tmp_path))) if each.label == "L2TL")
    assert row.difference.points > 1
    assert not row.difference.excludes_zero
    assert row.difference.p_value > 0.05


def test_a_mean_over_targets_has_its_t_interval_where_that_is_wider(tmp_path):
    for target, lead in (("digits", 0.02), ("pets", 0.06), ("cars", 0.1)):
        write(tmp_path, target, {"Fine-tuning": 0.8, "L2TL": 0.8 + lead})
    (row,) = (each for each in over_targets(comparisons(load(tmp_path))) if each.label == "L2TL")
    own = [checked(each).differences["L2TL"].points for each in comparisons(load(tmp_path))]
    expected = ttest_1samp(own, 0)
    assert row.difference.p_value == pytest.approx(expected.pvalue)
    assert (row.difference.low, row.difference.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_a_target_on_which_a_row_failed_counts(tmp_path):
    for target in ("digits", "pets", "cars"):
        write(tmp_path, target, {"Fine-tuning": 0.8, "L2TL": 0.9}, num_classes=10)
    write(tmp_path, "food", {"Fine-tuning": 0.8, "L2TL": 0.1}, num_classes=10)
    text = recommend(tmp_path, "birds")
    assert "Take: Fine-tuning Why: No method is significantly above it" in text
    assert "The highest, L2TL, is \N{MINUS SIGN}" in text, text


def test_other_targets_where_fine_tuning_is_in_doubt_are_left_out(tmp_path):
    write_tuned(tmp_path, "cars", at_end=["lr low"])
    text = recommend(write_tuned(tmp_path), "pets")
    assert "1 other target (digits)" in text
    assert "Not used: cars (fine-tuning's best value is at an end of the range tried)." in text


def test_where_every_row_failed_none_is_taken(tmp_path):
    text = recommend(write(tmp_path, skill={"Fine-tuning": 0.1, "L2TL": 0.1}, num_classes=10), "digits")
    assert "Take: No row can be recommended." in text


def test_a_target_is_found_by_its_path(tmp_path):
    about = {"target": {"name": "pond/fish", "place": "at pond"}, "source": {"name": "glyphs", "place": ""}}
    write(tmp_path / "results", "fish", SKILL, seeds=2, data_sets=about)
    for path in (tmp_path / "pond" / "fish", "../pond/fish.tar", "../elsewhere/fish/", "fish", "pond/fish"):
        assert recommend(tmp_path / "results", str(path)).startswith("Target: fish (glyphs → fish")
