"""Columns of chosen values, of the cost of tuning, and of labels."""

import math

import pandas as pd
import pytest
from simulated_results import make_record, save
from transferbench.analysis.alarms import checked
from transferbench.analysis.records.comparison import compare
from transferbench.analysis.records.load import parse_run
from transferbench.analysis.report import write_report
from transferbench.analysis.tables import comparison_table as tables
from transferbench.analysis.tables.frozen import against_frozen

CHOICE = {"num_trials": 13, "num_steps": 1200, "seconds": 40.0, "lr": 0.01, "weight_decay": 1e-4,
          "head_lr_factor": 10.0, "bn": "frozen", "strengths": {"alpha": 0.1}, "at_end": []}  # fmt: skip
LABELS = {"training": 500, "rewards": 0, "choosing": 0, "all": 500}
MORE = {"training": 500, "rewards": 250, "choosing": 500, "all": 1250}


def records(tuned=True, tune="auto"):
    own = {
        "Fine-tuning": {"choice": CHOICE | {"bn": "split", "strengths": {}, "head_lr_factor": 1.0}},
        "L2TL": {"choice": CHOICE, "labels": MORE},
        "DATL": {"choice": None},
        "k-NN": {"choice": None, "method": "knn"},
    }
    made = [make_record(label, seed=seed, share=0.8, labels=LABELS) | changed
            for label, changed in own.items() for seed in range(2)]  # fmt: skip
    for record in made:
        record["config"] = record["config"] | {"tune": tune}
        record["choice"] = record["choice"] if tuned else None
    return made


def comparison(**how):
    return compare([parse_run("record.json", record) for record in records(**how)])


def column(found, name):
    table = tables.method_table(found, tables.comparison_table(found))
    place = table.columns.index(name)
    return {row[0].text: row[place].text for row in table.rows}


def test_chosen_values_and_the_cost_of_tuning_stand_in_each_row():
    assert column(comparison(), "chosen") == {
        "Fine-tuning": "lr 0.01",
        "L2TL": "lr 0.01, head 0.1, alpha 0.1, bn frozen",
        "DATL": "lr 0.01, not tuned",
        "k-NN": "–",
    }
    assert column(comparison(), "tuning") == {
        "Fine-tuning": "40 s (13 trials, 1.2 k steps)",
        "L2TL": "40 s (13 trials, 1.2 k steps)",
        "DATL": "none",
        "k-NN": "none",
    }


def test_a_row_without_training_shows_what_it_chose_itself():
    made = [record for record in records() if record["label"] == "k-NN"]
    for record, value in zip(made, (5, 11), strict=True):
        record["chosen_values"] = {"num_neighbors": value}
    found = compare([parse_run("record.json", record) for record in [*records()[:2], *made]])
    assert column(found, "chosen")["k-NN"] == "num neighbors 5 / num neighbors 11"


@pytest.mark.parametrize("tune", ["auto", "off"])
def test_a_row_with_training_shows_what_it_chose_itself(tune):
    made = [record for record in records() if record["label"] in ("Fine-tuning", "L2TL")]
    values = {"Fine-tuning": {"share": 0.7, "part": 3}, "L2TL": {"models": [1, 3, 4]}}
    for record in made:
        record["chosen_values"] = values[record["label"]]
        if tune == "off":
            record["choice"] = None
    found = compare([parse_run("record.json", record) for record in made])
    shown = column(found, "chosen")
    assert shown["Fine-tuning"].endswith(", share 0.7, part 3")
    assert shown["L2TL"].endswith(", models 1+3+4")
    assert ("not tuned" in shown["L2TL"]) == (tune == "off")
    assert "share 0.7" in tables.markdown(found)


def test_seeds_that_chose_otherwise_are_both_shown():
    made = records()
    made[2] = made[2] | {"choice": CHOICE | {"lr": 0.03, "strengths": {"alpha": 1.0}}}
    found = compare([parse_run("record.json", record) for record in made])
    assert column(found, "chosen")["L2TL"] == (
        "lr 0.03, head 0.3, alpha 1, bn frozen / lr 0.01, head 0.1, alpha 0.1, bn frozen"
    )
    row = tables.comparison_table(found).set_index("label").loc["L2TL"]
    assert math.isnan(row["chosen_lr"])
    assert (row["chosen_bn"], row["chosen_strengths"]) == ("frozen", "")


def test_the_weight_decay_is_shown_where_it_was_chosen():
    assert column(comparison(tune="paper_grid"), "chosen")["Fine-tuning"] == "lr 0.01, weight decay 0.0001"


def test_without_tuning_there_are_no_such_columns_but_a_note():
    found = comparison(tuned=False, tune="off")
    columns = tables.method_table(found, tables.comparison_table(found)).columns
    assert not {"chosen", "tuning"} & set(columns)
    assert "not tuned (tune=off)" in tables.markdown(found)
    assert "not tuned (tune=off)" not in tables.markdown(comparison())


def test_a_row_with_more_labels_than_fine_tuning_is_noted():
    assert column(comparison(), "labels") == {
        "Fine-tuning": "500", "L2TL": "1,250", "DATL": "500", "k-NN": "500",
    }  # fmt: skip
    notes = [line for line in tables.markdown(comparison()).splitlines() if "distinct labeled" in line]
    assert notes[0] == (
        "- L2TL used 1,250 distinct labeled target images (500 trained on, 250 for rewards or judging and 500"
        " for tuning), fine-tuning 500."
    )
    assert len([line for line in notes if " used " in line]) == 1


def test_rows_with_the_same_numbers_of_labels_share_a_note():
    made = [r | {"label": label} for r in records() if r["label"] == "L2TL" for label in ("L2TL", "Uniform")]
    made += [record for record in records() if record["label"] == "Fine-tuning"]
    text = tables.markdown(compare([parse_run("record.json", record) for record in made]))
    assert "- L2TL and Uniform used 1,250 distinct labeled target images (" in text


def test_old_records_have_no_labels_column():
    found = compare([parse_run("record.json", make_record(seed=seed)) for seed in range(2)])
    columns = tables.method_table(found, tables.comparison_table(found)).columns
    assert not {"labels", "chosen", "tuning"} & set(columns)
    assert columns[-1] == "image reads: target / source / holdout"


@pytest.mark.parametrize("ending", ["md", "tex", "csv"])
def test_all_files_have_them(tmp_path, ending):
    for record in records():
        save(tmp_path / "results", record)
    page = write_report(tmp_path / "results", tmp_path / "report").read_text()
    (path,) = (tmp_path / "report" / "tables").glob(f"*.{ending}")
    if ending == "csv":
        row = pd.read_csv(path).set_index("label").loc["L2TL"]
        expected = {"chosen_lr": 0.01, "chosen_weight_decay": 1e-4, "chosen_head_lr_factor": 10.0,
                    "chosen_bn": "frozen", "chosen_strengths": "alpha 0.1", "tuning_trials": 13,
                    "tuning_steps": 1200, "tuning_seconds": 40.0, "labels_training": 500,
                    "labels_rewards": 250, "labels_choosing": 500, "labels_all": 1250}  # fmt: skip
        assert {name: row[name] for name in expected} == expected
    else:
        assert "lr 0.01, head 0.1, alpha 0.1, bn frozen" in path.read_text()
    assert "lr 0.01, head 0.1, alpha 0.1, bn frozen" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "1,250" in page


def test_fine_tuning_is_set_beside_the_best_row_on_frozen_features():
    made = records()
    for record in made:
        record["seconds"] = record["seconds"] | {"prepare": 0.0, "step": 10.0}
    found = compare([parse_run("record.json", record) for record in made])
    (sentence,) = against_frozen(found)
    assert sentence.startswith("Fine-tuning is ")
    assert "from k-NN, the best row on frozen features" in sentence
    assert sentence.endswith("at 5 times its time with tuning.")
    untuned = [record | {"choice": None, "setting": "tune=off"} for record in made]
    (plain,) = against_frozen(compare([parse_run("record.json", record) for record in untuned]))
    assert plain.endswith(" times its time.")
    assert sentence in tables.markdown(found)
    without = [record for record in made if record["method"] != "knn"]
    assert against_frozen(compare([parse_run("record.json", record) for record in without])) == []


def test_what_is_said_of_frozen_features_is_corrected_and_withheld_as_in_the_table():
    made = records()
    for record in made:
        record["choice"] = (record["choice"] or {}) | {"at_end": ["lr high"]}
    (sentence,) = against_frozen(compare([parse_run("record.json", record) for record in made]))
    assert "from k-NN, the best row on frozen features, no claim, at" in sentence
    two = {"k-NN": 0.78, "L2TL": 0.8, "DATL": 0.8}  # of three rows, with two seeds each
    made = [r | ({"method": "knn"} if label == "k-NN" else {})
            for label, share in {**two, "Fine-tuning": 0.8}.items() for seed in range(2)
            for r in [make_record(label, seed=seed, share=share)]]  # fmt: skip
    found = compare([parse_run("record.json", record) for record in made])
    gap = checked(found).differences["k-NN"]
    assert gap.excludes_zero
    assert gap.p_value > 0.05 / 3
    (sentence,) = against_frozen(found)
    assert "features, not significant after Holm correction, at" in sentence


def test_one_step_over_all_images_is_not_compared_with_a_training_step():
    assert column(comparison(), "time per step")["k-NN"] == "–"
    assert column(comparison(), "step, ratio")["k-NN"] == "–"


def test_other_images_of_trials_are_told_once():
    assert sum("seed of their own" in note for note in notes_of(comparison())) == 1
    made = [record | {"labels": LABELS} for record in records()]
    told = notes_of(compare([parse_run("record.json", record) for record in made]))
    assert not any("seed of their own" in note for note in told)


def notes_of(found):
    return tables.notes(found, tables.comparison_table(found))


def test_a_frozen_encoder_shows_the_rate_of_its_head():
    made = records()
    for record in made:
        if record["label"] == "L2TL":
            record["method"] = "linear_probe"
    found = compare([parse_run("record.json", record) for record in made])
    assert column(found, "chosen")["L2TL"] == "lr 0.1, alpha 0.1, bn frozen"
