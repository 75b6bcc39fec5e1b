"""Two data sets that share a name are two, and one in two states is one, in everything that is shown."""

import json
import re

import pytest
import simulated_results
from simulated_results import make_record, save
from transferbench import InputError
from transferbench.analysis.compare import compare_results
from transferbench.analysis.page.page_tables import across_grid
from transferbench.analysis.recommend import recommend
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.data_sets import Key, shown_names
from transferbench.analysis.records.load import load, load_records, runs_frame
from transferbench.analysis.report import write_report

A, B = "a" * 8, "b" * 8  # fingerprints


def of(name, images, place=None, ended="2026-11-22T15:01:00Z", **more):
    """Return what a record tells of a target; `place` is its long name, which stands for its path too."""
    about = (
        {} if place is None else {"target": {"name": place, "place": "" if place == name else f"at {place}"}}
    )
    return {
        "target": name,
        "source": "glyphs",
        "data_sets": about,
        "ended": ended,
        "fingerprints": {"target": images, "source": "s"},
        **more,
    }


def shown(*records):
    names = shown_names(records)
    keys = [Key("target", one["target"], one["fingerprints"]["target"]) for one in records]
    return [names[key] for key in keys]


@pytest.mark.parametrize(
    ("records", "names"),
    [
        ([of("images", A, "birds/images")], ["images"]),
        ([of("images", A, "birds/images"), of("images", B, "cars/images")], ["birds/images", "cars/images"]),
        ([of("digits", A, "digits"), of("digits", B, "my/digits")], ["digits", "my/digits"]),
        ([of("digits", A), of("digits", B, "my/digits")], ["digits", "my/digits"]),
        ([of("x", A, "home/x"), of("x", A, "disk/x")], ["x", "x"]),  # moved
        ([of("x", A, "home/x"), of("x", B, "home/x")], ["x (images aaaaaa)", "x (images bbbbbb)"]),
        ([of("x", A), of("x", B)], ["x (images aaaaaa)", "x (images bbbbbb)"]),
    ],
)  # fmt: skip
def test_a_name_is_as_long_as_it_takes(records, names):
    assert [one.name for one in shown(*records)] == names


def test_states_are_one_data_set_and_equal_parents_are_not():
    first, second = shown(of("x", A, "home/x"), of("x", B, "home/x"))
    assert first.data_set == second.data_set == "x"
    one, two = of("x", A, "data/x"), of("x", B, "data/x")
    two["data_sets"]["target"]["place"] = "elsewhere"
    assert [item.data_set for item in shown(one, two)] == ["data/x (images aaaaaa)", "data/x (images bbbbbb)"]


def write(results, parent, images, name="images", **more):
    """Write fine-tuning and another method on one target of this name."""
    about = {"name": f"{parent}/{name}", "place": f"at {parent}"}
    for label in ("Fine-tuning", "Scratch"):
        for seed in (0, 1):
            comparison_id = simulated_results.digest(parent, images)
            record = make_record(label, name, seed, comparison_id=comparison_id, **more)
            record["digest"] = simulated_results.digest(label, parent, images, seed)
            record["fingerprints"] |= {"target": images}
            save(
                results, record | {"data_sets": {"target": about, "source": {"name": "glyphs", "place": ""}}}
            )
    return results


@pytest.fixture
def two(tmp_path):
    results = write(tmp_path / "results", "birds", A)
    write(results, "cars", B)
    return write(results, "pond", "cccccccc", "fish")


def test_they_are_counted_and_headed_apart(two, tmp_path):
    page = write_report(two, tmp_path / "report").read_text()
    assert "on 3 targets" in page
    headings = re.findall(r"<h2>([^<]*)</h2>", page)
    assert {"birds/images", "cars/images", "fish"} <= set(headings)
    known = comparisons(load(two))
    across = across_grid(known)
    assert [row[1].text for row in across.rows] == ["3"]
    assert set(runs_frame(load(two))["target"]) == {"birds/images", "cars/images", "fish"}
    files = {path.name for path in (tmp_path / "report" / "tables").glob("*.tex")}
    assert len(files) == 3


def test_over_targets_takes_one_state_of_a_data_set(tmp_path):
    results = write(tmp_path / "results", "birds", A)
    write(results, "birds", "dddddddd")
    write(results, "pond", "cccccccc", "fish")
    known = comparisons(load(results))
    assert {item.target for item in known} == {"images (images aaaaaa)", "images (images dddddd)", "fish"}
    assert [row[1].text for row in across_grid(known).rows] == ["2"]


def test_recommend_wants_to_know_which(two):
    with pytest.raises(InputError, match="target=images: several data sets.*birds/images, cars/images"):
        recommend(two, "images")
    assert "birds/images" in recommend(two, "birds/images")
    assert "cars/images" in recommend(two, "../elsewhere/cars/images")
    assert "./glass: there are no runs on it" in recommend(two, "./glass")


def test_compare_pairs_by_the_images_where_versions_differ(two, tmp_path):
    other = tmp_path / "other"
    for parent, images in (("birds", A), ("cars", B)):
        write(other, parent, images)
    for path in other.rglob("record.json"):  # another version gives another comparison_id
        path.write_text(path.read_text().replace('"comparison_id": "', '"comparison_id": "0'))
    text = compare_results(two, other).text
    assert "Fine-tuning on birds/images" in text or "| birds/images" in text
    assert "none of them are paired" not in text


def test_a_row_left_out_is_noted_at_its_own_data_set(two):
    row = {"source": "glyphs", "target": "images", "label": "L2TL", "reason": "no class fits"}
    own = simulated_results.digest("cars", B)
    about = {"comparison_id": own, "fingerprints": {"target": B, "source": "s1"}}
    (two / "skipped-x.json").write_text(json.dumps(row | about))
    records = load_records(two)
    found = {item.target: item.notes for item in comparisons(records.runs, records.skipped)}
    assert "L2TL was not run: no class fits." in found["cars/images"]
    assert "L2TL was not run: no class fits." not in found["birds/images"]
