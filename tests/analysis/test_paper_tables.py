"""The tables of the paper: from its own numbers they come out equal; what was not run stays empty."""

import json
import math
import re

import pandas as pd
import paper_records
import pytest
from paper_records import answers, cell, read, suite_of, write_plan, write_run
from transferbench.analysis.records.published import find, of_element
from transferbench.analysis.tables.paper_tables import (
    missing_line,
    to_text,
    write_section,
)
from transferbench.analysis.tables.scores import results as results_of
from transferbench.analysis.views import VIEWS, suite_section

SCORES = {"Table 2": "top1", "Table 3": "top1", "Table 6": "top1"}


def lines_of(section, number=0):
    """Return the text of a table, one dictionary a line."""
    table = section.tables[number]
    return [dict(zip(table.columns, [entry.text for entry in row], strict=True)) for row in table.rows]


def of_kind(section, kind):
    """Return the lines of one kind of number of a table of several columns, by method."""
    return {line["method"]: line for line in lines_of(section) if line["number"] == kind}


def score(text):
    """Return the mean of "78.1 (78.0 to 78.2), 3 seeds"."""
    return re.match(r"[\d.]+", text)[0]


def one_suite(results, cells, name="mine", element="", view="scores"):
    write_plan(results, name, element, "Mine", view, cells)
    return read(results)[name]


def section_of(results, cells, **changed):
    return suite_section(one_suite(results, cells, **changed))


def test_table_2_comes_out_equal_to_the_papers(results):
    section = suite_section(suite_of(results, "Table 2"))
    ours, quoted = of_kind(section, "ours, %"), of_kind(section, "quoted, %")
    seen = 0
    for item in of_element("Table 2"):
        if item.row in ours or item.row == "DATL*":
            seen += 1
            assert (
                score(ours[item.row.removesuffix("*") if item.row == "DATL*" else item.row][item.target])
                == item.text
            )
        if item.is_quoted:
            row = "DATL" if item.row == "DATL*" else item.row
            assert quoted[row][item.target] == item.text
    assert seen == 15
    assert set(ours) == {"Fine-tuning", "DATL", "L2TL"}
    assert section.tables[0].columns == ["method", "number", *paper_records.TARGETS]  # in the plan's order
    from_printed = of_kind(section, "from published, points")
    assert {line[t] for line in from_printed.values() for t in paper_records.TARGETS} == {"0.0"}


@pytest.mark.parametrize("element", ["Table 3", "Table 6"])
def test_tables_3_and_6_come_out_equal_to_the_papers(results, element):
    lines = {line["method"]: line for line in lines_of(suite_section(suite_of(results, element)))}
    assert {row: score(line["ours, %"]) for row, line in lines.items()} == {
        item.row: item.text for item in of_element(element)
    }
    assert {row: line["published, %"] for row, line in lines.items()} == {
        item.row: item.text for item in of_element(element)
    }
    assert {line["seeds"] for line in lines.values()} == {"3 (0–2)"}


def test_table_6_pairs_ten_shots_with_ten_shots(results):
    lines = {line["method"]: line for line in lines_of(suite_section(suite_of(results, "Table 6")))}
    gap = "from fine-tuning, points"
    assert score(lines["10-shot, L2TL"][gap][1:]) == "5.1"
    assert score(lines["L2TL"][gap][1:]) == "1.7"
    assert lines["10-shot, Fine-tuning"][gap] == "reference"


def test_table_4_comes_out_equal_to_the_papers(results):
    lines = lines_of(suite_section(suite_of(results, "Table 4")))
    for target in paper_records.TARGETS:
        printed = {i.row: f"{i.value:.2f}" for i in of_element("Table 4") if i.target == target}
        ours = [(line["class"], line["weight"]) for line in lines if line["for"] == target]
        assert dict(ours[: len(printed)]) == printed
        weights = [float(weight) for _, weight in ours]
        assert weights == sorted(weights, reverse=True)
        beside = {
            line["published class"]: line["published weight"] for line in lines if line["for"] == target
        }
        beside.pop("", None)
        assert beside == {i.row: i.text for i in of_element("Table 4") if i.target == target}


def test_table_5_comes_out_equal_to_the_papers(results):
    section = suite_section(suite_of(results, "Table 5"))
    names = {
        "pretraining_steps": "pre-training steps",
        "transfer_steps": "transfer steps",
        "pretraining_seconds_per_step": "a pre-training step",
        "transfer_seconds_per_step": "a transfer step",
        "hours_from_scratch": "from scratch",
        "hours_pretrained": "with a pre-trained source",
    }
    ours, published = of_kind(section, "ours"), of_kind(section, "published")
    for item in of_element("Table 5"):
        if item.quantity in names:
            text = ours[item.row][names[item.quantity]]
            assert text.rstrip(" hs").replace(",", "") == item.text
            assert text == published[item.row][names[item.quantity]]
    for line in (ours["L2TL"], published["L2TL"]):
        assert (line["step, ratio to fine-tuning"], line["ratio by passes"]) == ("3.57", "3.33")
    assert section.sentences[1] == (
        "L2TL: a step takes 3.57 times as long as in fine-tuning (3.57 to 3.57 on 3 seeds); counted by"
        " passes 3.33; in the paper 3.57, by passes 3.33."
    )


def test_table_7_comes_out_equal_to_the_papers(results):
    section = suite_section(suite_of(results, "Table 7"))
    ours, quoted = of_kind(section, "ours, %"), of_kind(section, "quoted, %")
    for item in of_element("Table 7"):
        label = item.quantity.removeprefix("auroc:") if ":" in item.quantity else "mean"
        line = quoted if item.is_quoted else ours
        assert score(line[item.row][label]) == item.text
    assert section.tables[0].columns[2:] == [
        "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion", "mean",
    ]  # fmt: skip
    assert of_kind(section, "from fine-tuning, points")["L2TL"]["mean"] == "+0.7"


def test_what_was_not_run_is_empty_and_has_its_command(results):
    write_run(results)
    runs = [{"seed": 0, "digest": "later", "record": "later/record.json"}]
    cells = [
        cell("Fine-tuning", "birds", runs),
        cell("L2TL", "birds", runs),
        cell("L2TL", "pets", [], reason="no pets"),
    ]
    section = section_of(results, cells, element="Table 2")
    assert of_kind(section, "ours, %")["L2TL"] == {
        "method": "L2TL",
        "number": "ours, %",
        "birds": "",
        "pets": "",
    }
    assert of_kind(section, "published, %")["L2TL"]["birds"] == "78.1"
    assert "from published, points" not in {line["number"] for line in lines_of(section)}
    assert section.sentences == []
    assert [(missing_line(item), item.text, item.is_command) for item in section.missing] == [
        ("Fine-tuning, birds", "transferbench bench target=birds method=finetune", True),
        ("L2TL, birds", "transferbench bench target=birds method=l2tl", True),
        ("L2TL, pets", "no pets", False),
    ]
    text = to_text(section)
    assert "- L2TL, birds: `transferbench bench target=birds method=l2tl`" in text
    assert "- L2TL, pets: cannot be run: no pets" in text


def test_a_cell_that_is_not_whole_says_how_many_runs_are_missing(results):
    runs = [write_run(results, "L2TL", 0, **answers(78, 2443, 0))]
    runs += [{"seed": s, "digest": "", "record": f"{s}/record.json"} for s in (1, 2)]
    section = section_of(results, [cell("L2TL", "birds", runs)])
    assert missing_line(section.missing[0]) == "L2TL, birds: 2 of 3 runs"
    assert lines_of(section)[0]["seeds"] == "1 (0)"
    assert "published, %" not in lines_of(section)[0]  # nothing is, of this suite
    assert section.sentences == [
        "L2TL on birds: not compared with fine-tuning (no run of fine-tuning with the same settings)."
    ]


def test_other_images_are_not_set_beside_the_papers(results):
    runs = [write_run(results, "L2TL", seed, source="places365") for seed in (0, 1)]
    section = section_of(results, [cell("L2TL", "birds", runs, source="places365")], element="Table 3")
    lines = {line["method"]: line for line in lines_of(section)}
    assert lines["L2TL"]["published, %"] == ""
    assert lines["L2TL"]["from published, points"] == ""
    assert lines["L2TL, from jft"]["published, %"] == "82.4"
    assert lines["L2TL, from jft"]["ours, %"] == ""
    assert list(lines)[-1] == "L2TL"


def test_another_score_is_not_set_beside_accuracy(results):
    test = {"top1": 0.9, "mean_per_class": 0.8, "num_images": 10}
    runs = [write_run(results, "L2TL", 0, metric="mean_per_class", test=test)]
    (only,) = [
        r for r in results_of(one_suite(results, [cell("L2TL", "birds", runs)], element="Table 2")) if r.runs
    ]
    assert only.printed is None
    assert math.isnan(only.from_printed)


def noisy_cells(results, targets, gap, **about):
    """Write two runs a method and target whose differences from fine-tuning are gap, give or take a point."""
    cells = []
    for target in targets:
        for row, shift in (("Fine-tuning", 0.0), ("L2TL", gap)):
            runs = []
            for seed in (0, 1, 2):
                value = 0.5 + (shift + (seed - 1) * (shift > 0)) / 100
                test = {"auroc": value, "num_images": 10}
                runs.append(write_run(results, row, seed, target=target, metric="auroc", test=test, **about))
            cells.append(cell(row, target, runs))
    return cells


def test_nothing_is_claimed_against_a_fine_tuning_in_doubt(results):
    cells = noisy_cells(results, ["a", "b"], 3.0, num_classes=5)  # fine-tuning's AUROC is that of guessing
    section = section_of(results, cells)
    doubt = "no claim: fine-tuning is at chance; +3.0 points (95 % CI +0.5 to +5.5) from fine-tuning"
    assert section.sentences == [f"L2TL on {name}: {doubt} (paired by seed only)." for name in "ab"]


def test_a_claim_has_to_survive_holms_correction(results):
    alone = section_of(results, noisy_cells(results, ["a"], 3.0))
    assert alone.sentences[0] == (
        "L2TL on a is above fine-tuning by 3.0 points (95 % CI 0.5 to 5.5), p = 0.035 (paired by seed only)."
    )
    many = section_of(results, noisy_cells(results, ["a", "b", "c"], 3.0))
    frame = many.tables[0].numbers.dropna(subset="p_value")
    assert many.sentences[0] == (
        "L2TL on a: +3.0 points (95 % CI +0.5 to +5.5), not significant after Holm correction (p = 0.11)"
        " (paired by seed only)."
    )
    assert frame["p_value"].tolist() == pytest.approx(
        [0.0351] * 3, abs=1e-4
    )  # t = 3 / (1 / sqrt 3), 2 degrees
    assert frame["p_value_holm"].tolist() == pytest.approx([0.1053] * 3, abs=1e-4)


def test_one_seed_is_no_comparison_to_correct_for(results):
    cells = noisy_cells(results, ["a", "b"], 3.0)
    for row in ("Fine-tuning", "L2TL"):
        runs = [write_run(results, row, 0, target="c", **answers(50 + len(row), 100, 1))]
        cells.append(cell(row, "c", runs))
    section = section_of(results, cells)
    assert "after Holm correction (p = 0.07)" in section.sentences[0]
    assert "one seed allows no conclusion" in section.sentences[2]


def test_over_targets_the_sentence_claims_no_more_than_its_interval(results):
    def last(targets, gap):
        return section_of(results, noisy_cells(results, targets, gap)).sentences[-1]

    assert re.fullmatch(
        r"L2TL over 2 targets: interquartile mean 53\.0 \(5.* to 5.*\) %, fine-tuning 50\.0 \(50.*\) %;"
        r" a run of it scores above a run of fine-tuning with probability 1\.00"
        r" \(95 % CI 0\.[6-9]\d to 1\.00\)\.",
        last(["a", "b"], 3.0),
    )
    assert last(["a", "b"], 0.5).endswith("; inconclusive over these targets.")
    assert "over" not in last(["a"], 3.0)


def test_a_label_that_a_run_lacks_is_left_out_of_it(results):
    tests = [{"auroc": 0.8, "auroc:A": 0.7, "num_images": 9}, {"auroc": 0.8, "auroc:B": 0.9, "num_images": 9}]
    runs = [
        write_run(results, "L2TL", i, target="x", metric="auroc", test=test) for i, test in enumerate(tests)
    ]
    section = section_of(results, [cell("L2TL", "x", runs)], element="Table 7", view="labels")
    assert section.tables[0].columns == ["method", "number", "A", "B", "mean"]  # none of the paper
    (line,) = lines_of(section)
    assert (line["A"], line["B"], line["mean"]) == (
        "70.0, 1 seed",
        "90.0, 1 seed",
        "80.0, 2 seeds",
    )


def test_every_number_leads_to_its_runs(results):
    section = suite_section(suite_of(results, "Table 3"))
    table = section.tables[0]
    row = dict(zip(table.columns, table.rows[-1], strict=True))
    own = tuple(f"birds-b1-L2TL-{seed}" for seed in range(3))
    assert row["ours, %"].digests == own
    assert row["from fine-tuning, points"].digests == (*own, *(f"birds-b1-Fine-tuning-{s}" for s in range(3)))
    assert row["published, %"].digests == ()
    assert len(section.digests) == len(set(section.digests)) == 9


def test_seconds_by_part_add_up_to_the_step(results):
    section = suite_section(suite_of(results, "Table 5"))
    table = section.tables[1]
    assert table.columns == ["method", "data", "target", "rest", "a step"]
    last = table.rows[-1]
    assert [entry.text for entry in last] == ["L2TL", "75 ms", "450 ms", "225 ms", "750 ms"]
    assert sum(entry.value for entry in last[1:4]) == pytest.approx(last[4].value)


def test_steps_on_different_devices_are_not_compared(results):
    other = {"commit": "c0ffee", "dirty": False, "device": "cuda", "host": "node1"}
    cells = [
        cell("Fine-tuning", "birds", [write_run(results, "Fine-tuning", 0)]),
        cell("L2TL", "birds", [write_run(results, "L2TL", 0, environment=other)]),
    ]
    section = section_of(results, cells, view="cost")
    assert section.sentences == [
        "L2TL: its time per step is not compared with fine-tuning's because they ran on cuda and tpu."
    ]
    assert any("tpu on cloud" in note for note in section.notes)


def test_low_shot_has_one_table_a_target_and_one_column_a_number_of_images(results, tmp_path):
    cells = []
    for at in (5, "all"):
        for target in ("birds", "pets"):
            bench = f"b{at}"
            for row, score in (("Fine-tuning", 50), ("L2TL", 60)):
                test = answers(score, 100, 1)
                runs = [write_run(results, row, 0, target=target, bench=bench, **test)]
                cells.append(cell(row, target, runs, bench=bench, at=at))
    suite = one_suite(results, cells, name="figure3", view="shots", element="Figure 3")
    section = suite_section(suite)
    write_section(suite_section(suite), tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").glob("*.csv")}
    assert written == {"figure3.csv", "figure3-pets.csv"}
    assert [table.title for table in section.tables] == ["Figure 3: Mine, birds", "Figure 3: Mine, pets"]
    assert section.tables[0].columns == ["method", "number", "5", "all"]
    assert section.sentences[0].startswith("L2TL on birds with 5 images per class: +10.0")
    assert len(section.tables[0].numbers) == 8


def test_files_hold_text_and_numbers_and_are_the_same_each_time(results, tmp_path):
    suite = suite_of(results, "Table 4")
    for name in ("a", "b"):
        write_section(suite_section(suite), tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "table4-stability.csv", "table4-stability.parquet",
        "table4.csv", "table4.md", "table4.parquet", "table4.tex",
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    frame = pd.read_csv(tmp_path / "a" / "table4.csv")
    assert len(frame[frame["target"] == "birds"]) == 212
    pd.testing.assert_frame_equal(
        frame, pd.read_parquet(tmp_path / "a" / "table4.parquet"), check_dtype=False
    )


def test_every_view_of_an_empty_plan_is_a_section(results, tmp_path):
    write_run(results)
    for view in VIEWS:
        suite = one_suite(results, [], name=view, view=view)
        write_section(suite_section(suite), tmp_path)
        assert suite_section(suite).sentences == []


def test_a_suites_name_is_a_safe_file_name(results, tmp_path):
    write_run(results)
    write_section(suite_section(one_suite(results, [], name="x")), tmp_path / "out")
    path = results / "suites" / "x.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "../../x y"}))
    write_section(suite_section(read(results)["../../x y"]), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"results", "out"}
    assert (tmp_path / "out" / "x-y.md").exists()


def test_the_difference_from_published_is_ours_less_theirs(results):
    runs = [write_run(results, "L2TL", seed, test={"top1": 0.791, "num_images": 1000}) for seed in (0, 1)]
    section = section_of(results, [cell("L2TL", "birds", runs)], element="Table 2")
    line = next(line for line in lines_of(section) if line["method"] == "L2TL")
    assert find("Table 2", "L2TL", "imagenet", "birds", "top1").value == 78.1
    assert line["from published, points"] == "+1.0"
