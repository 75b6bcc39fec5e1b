"""The advice: it follows the evidence, keeps to the budget, and says its doubt."""

import pytest
import simulated_results
from simulated_results import METHODS, make_record, save
from transferbench import InputError
from transferbench.analysis.candidates import Candidate, corrected
from transferbench.analysis.recommend import recommend
from transferbench.analysis.records.load import parse_run
from transferbench.analysis.statistics.paired import Difference

FEW = {label: METHODS[label] for label in ("Scratch", "Linear probe", "Fine-tuning", "DATL", "L2TL")}
SKILL = {"Scratch": 0.60, "Linear probe": 0.80, "Fine-tuning": 0.85, "DATL": 0.851, "L2TL": 0.91}


def write(folder, target="digits", skill=SKILL, seeds=5, **changed):
    for label, share in skill.items():
        for seed in range(seeds):
            save(folder, make_record(label, target, seed, share=share, **changed))
    return folder


def test_what_is_above_fine_tuning_is_taken_with_its_numbers_and_its_price(tmp_path):
    text = recommend(write(tmp_path), "digits")
    assert text.startswith("For digits (glyphs → digits; shots=5")
    assert "take L2TL (accuracy 91." in text
    assert " points (95 % CI +" in text
    assert "from fine-tuning, p " in text
    assert "takes 42.5 s per run; that is 3.5 times fine-tuning's time" in text
    assert (
        "Times were measured on cpu (x86_64) on desk, without the shared pre-training (62 s, once)." in text
    )


def test_what_is_not_told_apart_gives_way_to_fine_tuning(tmp_path):
    text = recommend(write(tmp_path, skill=SKILL | {"L2TL": 0.86}), "digits")
    assert "take Fine-tuning (accuracy" in text
    assert "No method is significantly above fine-tuning." in text
    assert "L2TL has the highest mean, +" in text
    assert "at 42.5 s per run: Fine-tuning is cheaper and not distinguishable; an advantage of up to" in text
    assert "points is not excluded (minimum detectable effect at 80 % power: " in text


def test_the_budget_leaves_out_what_takes_longer(tmp_path):
    write(tmp_path)
    text = recommend(tmp_path, "digits", seconds=15)
    assert "take Fine-tuning" in text
    assert "Left out because they take longer than 15 s: L2TL (42." in text
    assert "DATL (42." in text  # 12 s of its own and 30 s of its own pre-training
    text = recommend(tmp_path, "digits", seconds=5)
    assert "Fine-tuning takes 12." in text
    assert " s and does not fit. For digits" in text
    assert "take Linear probe" in text
    assert "no method fits into the budget: the fastest, Linear probe, takes 3." in recommend(
        tmp_path, "digits", 1
    )


def test_of_two_that_are_above_and_not_told_apart_the_cheaper_is_taken(tmp_path):
    text = recommend(write(tmp_path, skill=SKILL | {"Bi-tuning": 0.909}), "digits")
    assert "take Bi-tuning (accuracy" in text
    assert "L2TL has the highest mean, +" in text
    assert "Bi-tuning is cheaper and not distinguishable; an advantage of up to" in text


def test_of_two_that_are_above_and_told_apart_the_better_is_taken(tmp_path):
    text = recommend(write(tmp_path, skill=SKILL | {"Bi-tuning": 0.88}), "digits")
    assert "take L2TL (accuracy" in text
    assert "Bi-tuning" not in text


def test_a_cheaper_method_that_is_not_told_apart_is_taken(tmp_path):
    text = recommend(write(tmp_path, skill={"Fine-tuning": 0.85, "Linear probe": 0.849}), "digits")
    assert "take Linear probe" in text
    assert "from fine-tuning, inconclusive; it takes 3.93 s per run; that is 0.32 times fine-tuning's" in text
    assert "Linear probe is cheaper and not distinguishable; an advantage of up to" in text
    assert "no difference" not in text


def test_the_cheapest_is_not_taken_where_the_runs_cannot_tell(tmp_path):
    skill = {"Fine-tuning": 0.985, "Linear probe": 0.984}
    text = recommend(write(tmp_path, skill=skill, seeds=2), "digits")
    assert "This comparison cannot show that a method is better" in text
    assert "take Fine-tuning" in text
    assert "These runs do not decide it: Linear probe takes " in text


def test_of_one_seed_nothing_is_claimed(tmp_path):
    text = recommend(write(tmp_path, seeds=1), "digits")
    assert "take Fine-tuning" in text
    assert "these seeds allow no conclusion: run more." in text


def test_without_fine_tuning_the_highest_mean_is_named_and_the_next(tmp_path):
    text = recommend(write(tmp_path, skill={"L2TL": 0.91, "DATL": 0.85}), "digits")
    assert text.startswith("There are no runs of fine-tuning here. For digits")
    assert "take L2TL" in text
    assert " from DATL, the next, significant" in text


def test_the_comparison_with_the_most_evidence_is_used_and_others_are_mentioned(tmp_path):
    write(tmp_path)
    skill = {"Fine-tuning": 0.5, "DATL": 0.9}
    write(tmp_path, skill=skill, seeds=2, comparison_id="other", setting="shots=1")
    text = recommend(tmp_path, "digits")
    assert "take L2TL" in text
    assert "Not used: 1 comparison with other settings." in text


def test_other_targets_are_weaker_evidence_and_said_to_be(tmp_path):
    for i, target in enumerate(("digits", "pets", "cars", "food")):
        write(tmp_path, target, {label: share - 0.02 * i for label, share in SKILL.items()})
    text = recommend(tmp_path, "aircraft; rm -rf /")
    assert text.startswith("There are no runs on aircraft; rm -rf /. The following is from 4 other targets (")
    assert "weaker evidence. Try L2TL: on average over targets it is +" in text
    assert text.endswith("`transferbench bench 'target=aircraft; rm -rf /'` measures it.")
    assert "Take fine-tuning" in recommend(tmp_path, "aircraft", seconds=20)
    assert "Fine-tuning does not fit into the budget; of the methods that fit" in recommend(
        tmp_path, "aircraft", seconds=5
    )
    assert "no method fits" in recommend(tmp_path, "aircraft", seconds=1)


def test_one_other_target_is_not_enough_to_advise_more_than_fine_tuning(tmp_path):
    text = recommend(write(tmp_path), "pets")
    assert "Take fine-tuning: there no method is significantly above it; the highest, L2TL, is +" in text


def test_where_nothing_is_beside_fine_tuning_nothing_is_said(tmp_path):
    text = recommend(write(tmp_path, skill={"Fine-tuning": 0.85}), "pets")
    assert "no advice is possible; `transferbench bench target=pets` measures it" in text
    with pytest.raises(InputError, match="no results in"):
        recommend(tmp_path / "nowhere", "pets")


def test_p_values_are_corrected_for_the_number_of_methods():
    runs = [parse_run("record.json", make_record())]
    score = (80.0, 79.0, 81.0)
    found = [
        Candidate("A", 1.0, score, Difference(1.0, 0.1, 1.9, 5, p_value=0.03), runs),
        Candidate("B", 1.0, score, Difference(1.0, 0.1, 1.9, 5, p_value=0.02), runs),
        Candidate("C", 1.0, score, Difference(9.0, 8.0, 10.0, 1, p_value=0.001), runs),
        Candidate("Fine-tuning", 1.0, score, None, runs),
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
    assert "3 seeds) with lr 0.01, head 0.1, alpha 0.1, bn frozen: it is +" in text
    assert "it takes 42.5 s per run and 40 s of tuning, once; that is 1.6 times fine-tuning's time" in text
    assert "Alarm" not in text


def test_rows_are_ranked_among_themselves_where_fine_tuning_is_in_doubt(tmp_path):
    text = recommend(write_tuned(tmp_path, at_end=["lr low"]), "digits")
    assert text.startswith(
        "Alarm: Fine-tuning: the best value is at an end of the range tried: lr 0.01 (low)"
    )
    assert "So no method is compared with fine-tuning here (fine-tuning's best value is at an end" in text
    assert "take L2TL" in text
    assert " from Linear probe, the next, significant." in text
    assert "from fine-tuning" not in text


def test_other_targets_where_fine_tuning_is_in_doubt_are_left_out(tmp_path):
    write_tuned(tmp_path, "cars", at_end=["lr low"])
    text = recommend(write_tuned(tmp_path), "pets")
    assert "from 1 other target (digits)" in text
    assert "Not used: cars (fine-tuning's best value is at an end of the range tried)." in text


def test_where_every_row_failed_none_is_taken(tmp_path):
    text = recommend(write(tmp_path, skill={"Fine-tuning": 0.1, "L2TL": 0.1}, num_classes=10), "digits")
    assert "No row can be recommended for digits" in text


def test_a_target_is_found_by_its_path(tmp_path):
    about = {"target": {"name": "pond/fish", "place": "at pond"}, "source": {"name": "glyphs", "place": ""}}
    write(tmp_path / "results", "fish", SKILL, seeds=2, data_sets=about)
    for path in (tmp_path / "pond" / "fish", "../pond/fish.tar", "../elsewhere/fish/", "fish", "pond/fish"):
        assert recommend(tmp_path / "results", str(path)).startswith("For fish (glyphs → fish")
