"""Alarms on planted failures, and the claims that they rule out."""

import math

import pytest
from simulated_results import make_record
from transferbench.analysis.alarms import alarms, checked, is_sound
from transferbench.analysis.records.comparison import compare
from transferbench.analysis.records.load import parse_run

HEALTHY = {"Fine-tuning": 0.80, "L2TL": 0.86, "DATL": 0.81, "Linear probe": 0.70}


def comparison(skill=HEALTHY, seeds=3, losses=None, changed=None, **every):
    """Return a comparison with true scores by label; `losses` and `changed` are by label too."""
    runs = []
    for label, share in skill.items():
        for seed in range(seeds):
            record = make_record(label, seed=seed, share=share, num_classes=10, majority=0.1)
            record["curve"][-1]["train"]["loss"] = (losses or {}).get(label, 0.4)
            runs.append(parse_run("record.json", record | every | (changed or {}).get(label, {})))
    return compare(runs)


def kinds(found):
    return [(alarm.label, alarm.kind, alarm.is_about_reference) for alarm in alarms(found)]


def test_a_healthy_comparison_has_no_alarm_and_its_claims():
    found = comparison()
    assert kinds(found) == []
    assert is_sound(found)
    assert {item.no_claim for item in checked(found).differences.values()} == {""}


def test_old_records_have_no_alarm():
    records = [make_record(label, seed=seed) for label in HEALTHY for seed in range(3)]
    assert kinds(compare([parse_run("record.json", record) for record in records])) == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_row_at_chance_is_named_and_not_compared(seeds):
    found = comparison(HEALTHY | {"DATL": 0.1}, seeds)
    assert kinds(found) == [("DATL", "chance", False)]
    assert alarms(found)[0].text.startswith("DATL is at chance: accuracy ")
    differences = checked(found).differences
    assert differences["DATL"].outcome == "no claim"
    assert differences["DATL"].no_claim == "its training failed"
    assert differences["L2TL"].no_claim == ""
