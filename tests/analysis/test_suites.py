"""Plans of suites: their cells are joined with the runs that are there, and a bad plan is named."""

import json

import pytest
from paper_records import cell, read, write_plan, write_run
from transferbench import InputError
from transferbench.analysis.records.load import load
from transferbench.analysis.records.suites import load_suites


def write_one(results, **changed):
    runs = [write_run(results, "L2TL", seed) for seed in (1, 0)]
    runs.append({"seed": 2, "digest": "later", "record": "imagenet-birds/l2tl/later/record.json"})
    write_plan(results, "mine", "", "Mine", "scores", [cell("L2TL", "birds", runs)], **changed)


def test_a_cell_has_the_runs_that_are_done_by_seed(results):
    write_one(results)
    (suite,) = read(results).values()
    (only,) = suite.cells
    assert ([run.seed for run in only.runs], only.planned) == ([0, 1], 3)
    assert (only.row, only.column, only.at, only.reason) == ("L2TL", "birds", None, "")
    assert suite.command == "transferbench suite mine"


def test_the_reference_is_fine_tuning_of_the_same_bench_one_run_a_seed(results):
    write_run(results, "Fine-tuning", 0, digest="early", ended="2026-01-01T00:00:00Z")
    write_run(results, "Fine-tuning", 0, comparison_id="b1", target="pets")
    write_run(results, "Fine-tuning", 0, bench="other")
    path = results / write_run(results, "Fine-tuning", 1)["record"]
    again = json.loads(path.read_text()) | {"digest": "again", "ended": "2027-01-01T00:00:00Z"}
    (path.parent / "again").mkdir()
    (path.parent / "again" / "record.json").write_text(json.dumps(again))
    write_one(results)
    (only,) = read(results)["mine"].cells
    assert [run.digest for run in only.reference] == ["early", "again"]


def test_names_come_in_the_order_of_the_plan(results):
    write_run(results)
    cells = [cell(row, column, []) for row in ("L2TL", "DATL") for column in ("pets", "birds")]
    write_plan(results, "mine", "", "Mine", "scores", cells)
    suite = read(results)["mine"]
    assert (suite.rows, suite.columns) == (["L2TL", "DATL"], ["pets", "birds"])


def test_a_cell_without_images_has_a_reason_and_no_bench(results):
    write_run(results)
    bare = cell("L2TL", "birds", [], reason="no images of birds")
    for key in ("comparison_id", "label", "method"):
        del bare[key]
    write_plan(results, "mine", "", "Mine", "scores", [bare])
    (only,) = read(results)["mine"].cells
    assert (only.reason, only.comparison_id, only.reference, only.planned) == (
        "no images of birds",
        "",
        [],
        0,
    )


def test_without_plans_there_are_no_suites(results):
    write_run(results)
    assert load_suites(results, load(results)) == []


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("{", "broken JSON"),
        ("[]", "a list, where a plan is a JSON object"),
        ('{"format": 2}', "format 2 is unknown; this version reads 1"),
        ('{"format": 1, "view": "scores"}', "no whole plan (KeyError: 'cells')"),
        ('{"format": 1, "view": "scores", "cells": 3}', "no whole plan (TypeError"),
        ('{"format": 1, "view": "scores", "cells": [{"runs": []}]}', "no whole plan (KeyError"),
        ('{"format": 1, "view": "scores", "cells": [{"runs": [{"record": 1}]}]}', "no whole plan (TypeError"),
        ('{"format": 1, "view": "scores", "cells": ["a"]}', "no whole plan (TypeError"),
    ],
)
def test_a_bad_plan_is_named_in_one_line(results, plan, said):
    write_run(results)
    (results / "suites").mkdir()
    (results / "suites" / "bad.json").write_text(plan)
    with pytest.raises(InputError) as error:
        read(results)
    message = str(error.value)
    assert said in message
    assert "bad.json" in message
    assert "\n" not in message
