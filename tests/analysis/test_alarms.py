"""Alarms on planted failures, and the claims that they rule out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_results import make_record, save
from transferbench.analysis import wording
from transferbench.analysis.alarms import alarms, checked, is_sound
from transferbench.analysis.page.headline import findings, headline
from transferbench.analysis.records.comparison import CLOSED_FORM, HEAD_ALONE, compare
from transferbench.analysis.records.load import parse_run
from transferbench.analysis.records.schema import read_record
from transferbench.analysis.report import differences_frame, write_report
from transferbench.analysis.tables.comparison_table import comparison_table, markdown, sentences
from transferbench.analysis.tables.frozen import against_frozen
from transferbench.methods import catalog

HEALTHY = {"Fine-tuning": 0.80, "L2TL": 0.86, "DATL": 0.81, "Linear probe": 0.70}
LN_10 = math.log(10)
FAILURES = {  # of fine-tuning: how it is planted, and the reason to claim nothing against it
    "chance": ({"skill": {"Fine-tuning": 0.1, "L2TL": 0.86, "DATL": 0.81}}, "fine-tuning is at chance"),
    "dead": ({"losses": {"Fine-tuning": LN_10 * 1.01}}, "fine-tuning has not learned"),
    "gap": (
        {"skill": HEALTHY | {"L2TL": 0.95}, "losses": {"Fine-tuning": 0.01}},
        "fine-tuning overfits or forgets",
    ),
    "frozen wins": ({"skill": HEALTHY | {"Linear probe": 0.9}}, "frozen features are above fine-tuning"),
    "end of grid": (
        {"changed": {"Fine-tuning": {"choice": {"lr": 3e-4, "at_end": ["lr low"]}}}},
        "fine-tuning's best value is at an end of the range tried",
    ),
}


def records(skill=HEALTHY, seeds=3, losses=None, changed=None, **every):
    """Return records with true scores by label; `losses` and `changed` are by label too."""
    made = []
    for label, share in skill.items():
        for seed in range(seeds):
            record = make_record(label, seed=seed, share=share, num_classes=10, majority=0.1)
            record["curve"][-1]["train"]["loss"] = (losses or {}).get(label, 0.4)
            made.append(record | every | (changed or {}).get(label, {}))
    return made


def comparison(*arguments, **planted):
    return compare([parse_run("record.json", record) for record in records(*arguments, **planted)])


def kinds(found):
    return [(alarm.label, alarm.kind, alarm.is_about_reference) for alarm in alarms(found)]


def test_a_healthy_comparison_has_no_alarm_and_its_claims():
    found = comparison()
    assert kinds(found) == []
    assert is_sound(found)
    assert {item.no_claim for item in checked(found).differences.values()} == {""}
    assert "Alarm" not in markdown(found)
    assert "L2TL is above fine-tuning by" in markdown(found)


def test_old_records_have_no_alarm():
    old = [make_record(label, seed=seed, share=0.1 if label == "DATL" else 0.8) for label in HEALTHY
           for seed in range(3)]  # fmt: skip
    assert kinds(compare([parse_run("record.json", record) for record in old])) == []


@pytest.mark.parametrize(("kind", "planted", "reason"), [(k, *v) for k, v in FAILURES.items()])
def test_nothing_is_claimed_against_a_fine_tuning_in_doubt(tmp_path, kind, planted, reason):
    found = comparison(**planted)
    assert kinds(found)[0] == ("Fine-tuning", kind, True)
    assert not is_sound(found)
    differences = checked(found).differences
    assert {differences[label].outcome for label in differences if label != "Fine-tuning"} == {"no claim"}
    table = comparison_table(found)
    for sentence in sentences(table):
        assert f"no claim: {reason}" in sentence
        assert not any(word in sentence for word in ("is above", "is below", "inconclusive"))
    named = findings([(found, "digits", table)])
    assert {item.outcome for item in named} == {"no claim"}
    others = sorted(item.label for item in named)
    assert headline(named) == [f"No claim about {wording.listing(others)} on digits: {reason}."]
    assert not differences_frame([found])["significant"].any()
    lines = markdown(found).splitlines()
    assert lines[2].startswith("- **Alarm:** F")  # Fine-tuning, or: Frozen features win
    assert next(i for i, line in enumerate(lines) if line.startswith("| method")) > 2
    for record in records(**planted):
        save(tmp_path / "results", record)
    page = write_report(tmp_path / "results", tmp_path / "report").read_text()
    block = page.index('<ul class="alarms" aria-label="Alarms">')
    assert block < page.index('<p class="lead">')
    assert ">digits</a>:</strong> F" in page[block:]
    assert "\N{BLACK UP-POINTING TRIANGLE}" not in page[page.index("<main") :]
    assert "\N{BLACK DOWN-POINTING TRIANGLE}" not in page[page.index("<main") :]


@pytest.mark.parametrize("kind", ["chance", "dead", "gap", "frozen wins"])
def test_a_row_that_was_tuned_is_not_advised_to_be_tuned(kind):
    planted = FAILURES[kind][0]
    assert "tune=auto" in alarms(comparison(**planted))[0].text
    tuned = {"Fine-tuning": {"choice": {"lr": 0.01, "at_end": []}}}
    first = alarms(comparison(**planted, changed=tuned))[0]
    assert first.kind == kind
    assert not any(word in first.text for word in ("tune=auto", "recipe.lr", "bn=frozen"))


def test_claims_on_other_targets_stay():
    doubtful = comparison(FAILURES["chance"][0]["skill"])
    found = findings([(item, name, comparison_table(item))
                      for item, name in ((doubtful, "digits"), (comparison(), "pets"))])  # fmt: skip
    text = " ".join(headline(found))
    assert text.startswith(
        "No claim about DATL and L2TL on digits: fine-tuning is at chance. L2TL is above"
        " fine-tuning on pets by "
    )
    assert text.count("digits") == 1


def test_frozen_features_that_win_come_first_with_their_gap():
    losses = {"Fine-tuning": 0.01}  # overfits as well
    found = comparison(HEALTHY | {"Linear probe": 0.93}, losses=losses)
    assert [kind for _, kind, _ in kinds(found)] == ["frozen wins", "gap"]
    first = markdown(found).splitlines()[2]
    assert first.startswith("- **Alarm:** Frozen features win: Linear probe is above fine-tuning by 1")
    assert "(95 % CI" in first
    assert ", p " in first
    assert (
        "frozen features are above fine-tuning and fine-tuning overfits"
        in sentences(comparison_table(found))[0]
    )


def test_the_sentence_on_frozen_features_that_win_agrees_with_the_alarm():
    (sentence,) = against_frozen(comparison(HEALTHY | {"Linear probe": 0.93}))
    assert sentence.startswith("Fine-tuning is \N{MINUS SIGN}1")
    assert "the best row on frozen features, at " in sentence


def test_frozen_features_do_not_win_by_a_difference_that_is_not_significant():
    assert kinds(comparison(HEALTHY | {"Linear probe": 0.805})) == []
    assert kinds(comparison(HEALTHY | {"Linear probe": 0.95}, seeds=1)) == []  # one seed concludes nothing


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_row_at_chance_is_named_and_not_compared(seeds):
    found = comparison(HEALTHY | {"DATL": 0.1}, seeds)
    assert kinds(found) == [("DATL", "chance", False)]
    assert alarms(found)[0].text.startswith("DATL is at chance: accuracy ")
    differences = checked(found).differences
    assert differences["DATL"].outcome == "no claim"
    assert differences["DATL"].no_claim == "training failed"
    assert differences["L2TL"].no_claim == ""
    assert is_sound(found)


@pytest.mark.parametrize(
    ("metric", "about", "score", "is_at_chance"),
    [
        ("top1", {"num_classes": 10, "majority": 0.6}, 0.6, True),  # all images in the largest class
        ("top1", {"num_classes": 10, "majority": 0.1}, 0.6, False),
        ("top1", {"num_classes": 10, "majority": None}, 0.1, True),
        ("mean_per_class", {"num_classes": 10, "majority": 0.6}, 0.1, True),
        ("mean_per_class", {"num_classes": 10, "majority": 0.6}, 0.6, False),
        ("auroc", {"num_classes": 10, "majority": None}, 0.51, True),
        ("auroc", {"num_classes": 10, "majority": None}, 0.6, False),
        ("auroc", {}, 0.5, False),  # an old record
        ("top1", {"num_classes": 1}, 1.0, False),
    ],
)
def test_chance_is_that_of_the_score(metric, about, score, is_at_chance):
    made = []
    for seed in range(3):
        record = make_record("L2TL", seed=seed, metric=metric, correct=None, **about)
        record["test"] |= {metric: score}
        made.append(parse_run("record.json", record))
    assert [kind for _, kind, _ in kinds(compare(made))] == ["chance"] * is_at_chance


def test_chance_is_two_standard_errors_wide():
    error = math.sqrt(0.1 * 0.9 / 797)
    for errors, is_at_chance in ((1.9, True), (2.1, False)):
        record = make_record("L2TL", num_classes=10, correct=None)
        record["test"] |= {"top1": 0.1 + errors * error}
        same = [parse_run("record.json", record | {"seed": seed}) for seed in range(3)]
        assert bool(kinds(compare(same))) == is_at_chance  # seeds that agree do not make the error zero
        assert bool(kinds(compare(same[:1]))) == is_at_chance
    spread = [parse_run("record.json", record | {"seed": seed}) for seed in range(2)]
    spread = [replace(run, score=score) for run, score in zip(spread, (0.2, 0.8), strict=True)]
    assert kinds(compare(spread)) == [("L2TL", "chance", False)]


@pytest.mark.parametrize(
    ("loss", "is_dead"), [(LN_10, True), (LN_10 * 0.981, True), (LN_10 * 0.979, False), (3.0, False)]
)
def test_a_loss_of_guessing_is_dead(loss, is_dead):
    found = comparison(losses={"L2TL": loss})
    assert kinds(found) == [("L2TL", "dead", False)] * is_dead
    if is_dead:
        assert "after 300 steps, where guessing has ln 10 = 2.30" in alarms(found)[0].text
        assert checked(found).differences["L2TL"].outcome == "no claim"


def test_rows_in_closed_form_do_not_train():
    losses = {"L2TL": LN_10, "DATL": 0.0}
    changed = {"L2TL": {"method": "knn"}, "DATL": {"method": "ncm"}}
    assert kinds(comparison({**HEALTHY, "L2TL": 0.7, "DATL": 0.6}, losses=losses, changed=changed)) == []


def test_a_fit_that_is_far_below_the_best_is_a_gap():
    low = HEALTHY | {"DATL": 0.7}
    found = comparison(low, losses={"DATL": 0.1, "L2TL": 0.01})  # the best row fits too, and may
    assert kinds(found) == [("DATL", "gap", False)]
    text = alarms(found)[0].text
    assert text.startswith(
        "DATL fits its training images (loss 0.10, guessing has ln 10 = 2.30) and is below"
    )
    assert "is below L2TL by 1" in text
    assert checked(found).differences["DATL"].outcome == "below"  # it is no failure of training
    assert kinds(comparison(low, losses={"DATL": 0.3})) == []
    assert kinds(comparison(HEALTHY, losses={"DATL": 0.01})) == []  # 5 points are no gap


def test_values_at_an_end_of_their_range_are_named():
    choice = {"lr": 0.3, "strengths": {"alpha": 0.01}, "at_end": ["lr high", "alpha low"]}
    found = comparison(changed={"L2TL": {"choice": choice}, "DATL": {"choice": {"lr": 0.1}}})
    assert kinds(found) == [("L2TL", "end of grid", False)]
    text = alarms(found)[0].text
    assert "lr 0.3 (high) and alpha 0.01 (low); better ones may lie beyond it" in text
    assert text.endswith("by tune=off and recipe.lr and method.alpha.")


def test_at_the_ceiling_no_method_could_be_seen_to_be_above():
    made = comparison(dict.fromkeys(HEALTHY, 1.1))
    assert kinds(made) == [(None, "ceiling", False)]
    assert alarms(made)[0].text.startswith("This comparison cannot show that a method is better: ")
    few = comparison({"L2TL": 1.1, "DATL": 1.1})  # without a reference
    assert "the interval of each row reaches 99.5 %" in alarms(few)[0].text
    assert kinds(comparison({"L2TL": 1.1})) == []  # one row is no comparison


def test_the_smallest_comparisons_have_no_alarm():
    for skill in ({"Fine-tuning": 0.8}, {"L2TL": 0.8}):
        for seeds in (1, 2):
            assert kinds(comparison(skill, seeds)) == []
    nothing = {"curve": [], "num_classes": None, "majority": None, "choice": None, "labels": None}
    assert kinds(comparison(**nothing)) == []
    points = [
        {"step": 1, "seconds": 0.0, "holdout": None, "train": {"loss": value}} for value in (None, np.nan)
    ]
    assert kinds(comparison(curve=points[:1])) == kinds(comparison(curve=points)) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"choice": []},
        {"choice": {"lr": "high"}},
        {"choice": {"at_end": "lr low"}},
        {"choice": {"strengths": {"alpha": "1"}}},
        {"curve": [{"step": 1, "seconds": 0.0, "holdout": None, "train": {"loss": "0.1"}}]},
    ],
)
def test_a_record_with_other_values_there_is_refused(tmp_path, bad):
    path = save(tmp_path, make_record(**bad))
    with pytest.raises(Exception, match=f"no whole record .field '{next(iter(bad))}' holds"):
        read_record(path)


def test_the_methods_that_do_not_train_or_train_a_head_alone_are_those_of_the_catalog():
    known = {name: catalog.load(name) for name in catalog.names()}
    assert set(CLOSED_FORM) == {name for name, method in known.items() if method.closed_form}
    assert set(HEAD_ALONE) <= {name for name, method in known.items() if method.own_norms}
