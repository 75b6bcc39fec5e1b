"""The published numbers: those that follow from each other agree, and each is found by its name."""

from collections import Counter

import pytest
from transferbench.analysis.records.published import find, of_element, published


def test_every_table_is_there_in_full():
    assert Counter(item.element for item in published()) == {
        "Table 2": 2 + 3 + 2 + 4 * 5,
        "Table 3": 3,
        "Table 4": 12 + 11 + 12 + 10 + 9,
        "Table 5": 3 * 6 + 3 * 3,
        "Table 6": 5,
        "Table 7": 3 * 6,
    }
    keys = [(p.element, p.row, p.source, p.target, p.quantity) for p in published()]
    assert len(set(keys)) == len(keys)


def test_what_the_authors_quote_is_not_what_they_measured():
    quoted = {(item.element, item.row) for item in published() if item.is_quoted}
    assert quoted == {
        ("Table 2", "MixDCNN"),
        ("Table 2", "EMD"),
        ("Table 2", "OPAM"),
        ("Table 2", "Fine-tuning*"),
        ("Table 2", "DATL*"),
        ("Table 7", "Fine-tuning*"),
    }
    assert {item.standing for item in published()} == {"quoted", "measured"}


def test_totals_of_cost_are_steps_times_seconds():
    for row in ("Fine-tuning", "DATL", "L2TL"):
        number = {item.quantity: item.value for item in of_element("Table 5") if item.row == row}
        transfer = number["transfer_steps"] * number["transfer_seconds_per_step"]
        whole = transfer + number["pretraining_steps"] * number["pretraining_seconds_per_step"]
        own = transfer + (number["pretraining_steps"] - 213_000) * number["pretraining_seconds_per_step"]
        assert whole / 3600 == pytest.approx(number["hours_from_scratch"], abs=0.0501)
        assert own / 3600 == pytest.approx(number["hours_pretrained"], abs=0.0501)


def test_the_mean_of_the_labels_is_the_printed_mean():
    for row in ("Fine-tuning*", "Fine-tuning", "L2TL"):
        areas = {item.quantity: item.value for item in of_element("Table 7") if item.row == row}
        mean = areas.pop("auroc")
        assert len(areas) == 5
        assert sum(areas.values()) / 5 == pytest.approx(mean, abs=0.0501)


def test_a_number_is_found_by_its_place():
    l2tl = [
        find("Table 2", "L2TL", "imagenet", t, "top1").text
        for t in ("birds", "pets", "cars", "aircraft", "food")
    ]
    assert l2tl == ["78.1", "94.4", "92.6", "89.1", "89.2"]
    assert find("Table 3", "L2TL", "jft", "birds", "top1").text == "82.4"
    assert find("Table 6", "10-shot, L2TL", "imagenet", "dtd", "top1").text == "60.1"
    assert find("Table 5", "L2TL", "imagenet", "birds", "transfer_seconds_per_step").text == "0.75"
    assert find("Table 4", "airliner", "imagenet", "aircraft", "weight:10").text == "0.10"


def test_a_measured_number_is_taken_before_a_quoted_one():
    assert find("Table 2", "Fine-tuning", "imagenet", "birds", "top1").text == "77.1"
    datl = find("Table 2", "DATL", "imagenet", "birds", "top1")
    assert (datl.row, datl.text, datl.is_quoted) == ("DATL*", "76.6", True)


@pytest.mark.parametrize(
    "place",
    [
        ("Table 2", "L2TL", "places365", "birds", "top1"),
        ("Table 2", "L2TL", "imagenet", "digits", "top1"),
        ("Table 2", "L2TL", "imagenet", "birds", "mean_per_class"),
        ("Table 2", "l2tl", "imagenet", "birds", "top1"),
        ("", "L2TL", "imagenet", "birds", "top1"),
    ],
)
def test_other_images_other_scores_and_suites_of_ours_find_nothing(place):
    assert find(*place) is None
