"""The report end to end, on simulated records: page, files, words, and what did not end well."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import simulated_results
from simulated_results import HOSTILE, METHODS, make_record, save
from transferbench import InputError
from transferbench.analysis.page import run_log, svg_charts
from transferbench.analysis.page.headline import Finding, findings, headline, places
from transferbench.analysis.page.page_tables import Anchors, across_grid
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.load import load, parse_run
from transferbench.analysis.report import find_comparison, write_report
from transferbench.analysis.statistics.difference import Difference
from transferbench.analysis.statistics.pareto import pareto_front
from transferbench.analysis.tables import comparison_table as tables
from transferbench.analysis.tables.comparison_table import comparison_table
from transferbench.analysis.tables.table import Cell

FEW = {label: METHODS[label] for label in ("Scratch", "Fine-tuning", "DATL", "Uniform weights", "L2TL")}
BENCH = simulated_results.digest("bench", "digits")


@pytest.fixture
def results(tmp_path):
    return simulated_results.write_results(tmp_path / "results", FEW, {"digits": 85.0}, trouble=False)


def shown(page):
    """Return the text of a page between its tags, blanks as one."""
    return " ".join(re.sub(r"<[^>]*>", "", page[page.index("<body>") :]).split())


def test_report_is_whole_and_needs_nothing_from_outside(results, tmp_path):
    page = write_report(results, tmp_path / "report").read_text()
    assert "http:" not in page
    assert "https:" not in page
    assert "src=" not in page
    assert page.count('class="chart"') == 2  # curves and cost
    assert page.count('class="strip"') == len(FEW)
    assert all(label in page for label in FEW)
    assert "Scratch is below fine-tuning by" in page  # a negative result is printed as it is
    tables = sorted(path.suffix for path in (tmp_path / "report" / "tables").iterdir())
    assert tables == [".csv", ".md", ".parquet", ".tex"]
    runs = pd.read_parquet(tmp_path / "report" / "tables" / "runs.parquet")
    assert runs["label"].value_counts().to_dict() == dict.fromkeys(FEW, 5)
    latex = next((tmp_path / "report" / "tables").glob("*.tex")).read_text()
    assert latex.count(r" \\") == 1 + len(FEW)
    assert r"\caption{Methods compared: glyphs $\rightarrow$ digits; shots=5" in latex
    assert not (tmp_path / "report" / "figures").exists()


def test_figures_are_printed_on_request(tmp_path):
    for label in ("Fine-tuning", "L2TL"):
        save(tmp_path / "results", make_record(label))
    write_report(tmp_path / "results", tmp_path / "report", prints=True)
    kinds = [
        f"{kind}.{ending}" for kind in ("accuracy", "cost", "curves") for ending in ("csv", "pdf", "png")
    ]
    figures = sorted(path.name for path in (tmp_path / "report" / "figures").iterdir())
    differences = [f"differences.{ending}" for ending in ("csv", "pdf", "png")]
    assert figures == [*differences, *(f"glyphs-digits-{BENCH}-{name}" for name in kinds)]


def test_equal_records_give_equal_files(tmp_path):
    simulated_results.write_results(tmp_path / "results", FEW, {"digits": 85.0}, seeds=2)
    simulated_results.write_plan(tmp_path / "results", targets={"digits": 85.0})
    for name in ("once", "again"):
        write_report(tmp_path / "results", tmp_path / name)
    files = [path for path in (tmp_path / "once").rglob("*") if path.is_file()]
    assert len(files) >= 9
    for path in files:
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "once")).read_bytes()


def test_names_are_escaped_everywhere(tmp_path):
    for name in ("Fine-tuning", '<b>" onload="x', f"{HOSTILE} of many letters"):
        changed = {"setting": HOSTILE, "digest": f"{HOSTILE}{name}", "notes": [HOSTILE], "host": HOSTILE}
        save(tmp_path / "results", make_record(name, HOSTILE, **changed))
    page = write_report(tmp_path / "results", tmp_path / "report").read_text()
    assert page.count("<script") == 1
    assert "<b>" not in page
    assert '" onload' not in page


def test_curves_may_be_absent(tmp_path):
    save(tmp_path / "results", make_record(curve=[]))
    page = write_report(tmp_path / "results", tmp_path / "report").read_text()
    assert "on the holdout part" not in page


def test_every_link_leads_somewhere_and_no_place_is_named_twice(tmp_path):
    results = simulated_results.write_results(tmp_path / "results", FEW, {"digits": 85.0}, seeds=2)
    simulated_results.write_plan(results, targets={"digits": 85.0})
    save(results, make_record("L2TL", "pets", digest=make_record("L2TL")["digest"]))  # a digest that is there
    page = write_report(results, tmp_path / "report").read_text()
    named = re.findall(r' id="([^"]+)"', page)
    assert len(named) == len(set(named)) > 20
    linked = re.findall(r' href="#([^"]+)"', page)
    linked += [name for group in re.findall(r'data-runs="([^"]+)"', page) for name in group.split()]
    assert set(linked) <= set(named)
    assert {f"run-{run.digest}" for run in load(results)} <= set(named)


def test_what_is_missing_or_failed_is_said_with_its_command(tmp_path):
    results = simulated_results.write_results(tmp_path / "results", FEW, {"digits": 85.0}, seeds=2)
    simulated_results.write_plan(results, targets={"digits": 85.0})
    (results / "glyphs-digits" / "l2tl" / "Uniform weights" / "x").mkdir()
    text = shown(write_report(results, tmp_path / "report").read_text())
    assert "failed glyphs-digits/lwf/seed5-feedc0ffee OutOfMemoryError: CUDA out of memory" in text
    assert "not finished glyphs-digits/l2tl/seed5-deadbeef00 step 120 of 300 on node7" in text
    assert "Co-Tuning, glyphs → digits the source has no class &lt;script&gt;" in text
    assert "L2TL, n=21, digits transferbench bench target=digits source=glyphs" in text
    assert "L2TL, aircraft" in text
    assert "cannot be run: no images of aircraft" in text
    assert "Fine-tuning: seed 1 transferbench bench" in text
    assert "(left out: a later run of this seed is used)" in text


def test_a_thousand_runs_take_ten_seconds_and_no_torch_or_drawing_library(tmp_path):
    targets = {f"set{i:02d}": 70 + i for i in range(20)}
    simulated_results.write_results(tmp_path / "results", targets=targets)
    code = (
        "import sys, time; from pathlib import Path; from transferbench.analysis.report import write_report;"
        f"write_report(Path({str(tmp_path / 'results')!r}), Path({str(tmp_path / 'report')!r}));"
        "print([m for m in ('torch', 'matplotlib', 'seaborn') if m in sys.modules], time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, seconds = done.stdout.strip().rsplit(" ", 1)
    assert loaded == "[]"
    assert float(seconds) < 10


def test_markdown_of_one_comparison(results):
    text = tables.markdown(find_comparison(results, "glyphs", "digits", BENCH))
    assert "shots=5, protocol=holdout" in text
    assert "| 5 (0–4) |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (2 + len(FEW))  # scores, and what each model takes
    for grid in (lines[: 2 + len(FEW)], lines[2 + len(FEW) :]):
        assert len({len(line) for line in grid}) == 1
    with pytest.raises(InputError, match="no runs of glyphs → pets, comparison 0 .* glyphs → digits"):
        find_comparison(results, "glyphs", "pets", "0")


def finding(label="L2TL", points=1.0, low=0.5, high=1.5, num_seeds=5, place="digits", adjusted=0.01):
    difference = Difference(
        points, low, high, num_seeds, p_value=0.001, detectable=0.8, p_value_holm=adjusted, num_compared=8
    )
    (comparison,) = comparisons([parse_run("record.json", make_record())])
    return Finding(comparison, place, label, difference, 3.5)


def test_the_headline_names_what_holm_correction_takes_back():
    text = " ".join(headline([finding(points=-3.8, low=-6.4, high=-1.2, adjusted=0.09)]))
    assert text.startswith(
        "No method is significantly above fine-tuning. L2TL on digits: \N{MINUS SIGN}3.8 points (95 % CI"
        " \N{MINUS SIGN}6.4 to \N{MINUS SIGN}1.2), not significant after Holm correction (p = 0.09)."
    )
    assert "nconclusive" not in text


def test_what_ran_everywhere_is_said_to_be_inconclusive_in_all():
    found = [finding("DATL", 0.1, -0.2, 0.4, place=place) for place in ("digits", "pets")]
    assert "Inconclusive in all of 2 comparisons: DATL; minimum" in " ".join(headline(found))


def test_the_headline_says_who_is_above_where_and_at_what_cost():
    text = " ".join(
        headline(
            [
                finding(points=2.0, low=1.2, high=2.8),
                finding(points=1.0, low=-0.2, high=2.2, place="pets"),
                finding("Scratch", -20, -21, -19),
                finding("DATL", 0.1, -0.2, 0.4),
                finding("LwF", 5, 4, 6, num_seeds=1, adjusted=math.nan),
            ]
        )
    )
    assert text.startswith(
        "L2TL is above fine-tuning in 1 of 2 comparisons, by 2.0 points (95 % CI 1.2 to 2.8) on digits,"
        " at 3.5 times the time per step. Scratch is below fine-tuning on digits by 20.0 points"
    )
    assert "Inconclusive wherever tried: DATL; minimum detectable effect at 80 % power: 0.8 points." in text
    assert "No conclusion for LwF on digits: one seed, or no confidence interval." in text
    assert "LwF is above" not in text


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "above"),
        ({"points": -1.0, "low": -1.5, "high": -0.5}, "below"),
        ({"low": 0.0}, "inconclusive"),
        ({"high": 0.0, "low": -1.0}, "inconclusive"),
        ({"adjusted": 0.051}, "not significant"),
        ({"adjusted": 0.05}, "above"),
        ({"num_seeds": 1}, "untested"),
        ({"low": math.nan, "high": math.nan}, "untested"),
    ],
)
def test_a_verdict_claims_no_more_than_interval_and_correction(changed, verdict):
    item = finding(**changed)
    assert item.outcome == verdict
    assert ("No method is significantly above" in " ".join(headline([item]))) == (
        verdict not in ("above", "untested")
    )


def test_claims_are_corrected_over_methods_and_targets(tmp_path):
    simulated_results.write_results(tmp_path, FEW, {"digits": 85.0, "pets": 93.1})
    known = comparisons(load(tmp_path))
    found = findings([(item, item.target, comparison_table(item)) for item in known])
    tested = [item.difference for item in found if item.difference.is_tested]
    assert {item.num_compared for item in tested} == {
        8
    }  # four methods on two targets; of one seed there is no test
    assert {item.label for item in found if not item.difference.is_tested} == {"L2TL"}
    smallest = min(tested, key=lambda item: item.p_value)
    assert smallest.p_value_holm == pytest.approx(8 * smallest.p_value)


def test_without_fine_tuning_nothing_is_compared():
    assert "nothing is compared" in headline([])[0]


def test_places_are_named_by_what_sets_them_apart():
    changed = [
        {},
        {"comparison_id": "b2", "setting": "shots=10, tune=off"},
        {"comparison_id": "b3", "source": "photos"},
    ]
    first = {"comparison_id": "b1", "setting": "shots=5, tune=off"}
    runs = [parse_run(f"{i}", make_record(**{**first, **own})) for i, own in enumerate(changed)]
    runs.append(parse_run("4", make_record(target="pets")))
    names = list(places(comparisons(runs)).values())
    assert names == [
        "digits (from glyphs, shots=5)",
        "digits (from glyphs, shots=10)",
        "digits (from photos, shots=5)",
        "pets",
    ]


def test_comparisons_are_told_apart_by_their_score_and_stand_by_their_shots():
    asked = [(20, "top1"), (5, "auroc"), (None, "top1"), (5, "top1")]
    runs = []
    for i, (shots, metric) in enumerate(asked):
        words = "tune=off" if shots is None else f"shots={shots}, tune=off"
        record = make_record(comparison_id=f"b{i}", setting=words, metric=metric)
        record["config"] = {**record["config"], "shots": shots}
        runs.append(parse_run(f"{i}", record))
    assert list(places(comparisons(runs)).values()) == [
        "digits (shots=5, AUROC)", "digits (shots=5, accuracy)", "digits (shots=20, accuracy)",
        "digits (all images, accuracy)",
    ]  # fmt: skip


def test_time_is_counted_once_a_record(tmp_path):
    runs = [make_record("L2TL", seed=seed) for seed in range(3)] + [simulated_results.pretraining()]
    frame = run_log.times(runs)
    seconds = [run["seconds"]["step"] for run in runs]
    ((_, _, count, total, _),) = run_log.by_machine(frame)
    assert count == ("4", 4)
    assert total[1] == pytest.approx(sum(seconds))
    rows = {row[0][0]: row[2][1] for row in run_log.by_method(frame)}
    assert rows == {"L2TL": pytest.approx(sum(seconds[:3])), "source pre-training": pytest.approx(seconds[3])}


def test_the_command_for_missing_seeds_has_all_that_the_record_was_asked_for():
    own = {"Uniform weights": ["method.weights=uniform", "source_recipe.steps=500"]}
    runs = [
        parse_run(Path(f"{label}{seed}"), make_record(label, seed=seed, overrides=own.get(label, [])))
        for label, seeds in (("Fine-tuning", 3), ("Uniform weights", 1))
        for seed in range(seeds)
    ]
    (gap,) = run_log.gaps(*comparisons(runs))
    assert gap.what == "Uniform weights: seeds 1, 2"
    assert gap.command == (
        "transferbench bench target=digits source=glyphs methods=l2tl seeds=3 method.weights=uniform"
        " source_recipe.steps=500"
    )


def test_the_command_for_missing_seeds_stands_for_own_images_and_names_the_results(tmp_path):
    place = {"target": {"name": "my/birds", "place": "3f"}, "source": {"name": "glyphs", "place": ""}}
    for label, seed in (("Fine-tuning", 0), ("Fine-tuning", 1), ("L2TL", 0)):
        path = tmp_path / "glyphs-birds" / label / str(seed) / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(make_record(label, "birds", seed, data_sets=place)))
    (gap,) = run_log.gaps(*comparisons(load(tmp_path)))
    wanted = f"bench target=PATH source=glyphs results={tmp_path} methods=l2tl seeds=2 recipe.lr=0.01"
    assert gap.command == f"transferbench {wanted}"


def test_a_comparison_without_shots_is_named_by_its_images():
    settings = {"b1": "shots=5, tune=off", "b2": "tune=off", "b3": "tune=paper_grid"}
    records = {name: make_record(comparison_id=name, setting=words) for name, words in settings.items()}
    runs = [parse_run(name, record) for name, record in records.items()]
    assert list(places(comparisons(runs)).values()) == [
        "digits (shots=5, tune=off)", "digits (all images, tune=off)", "digits (all images, tune=paper_grid)",
    ]  # fmt: skip


def test_of_many_methods_the_cost_figure_names_those_that_matter():
    labels = [f"method {i}" for i in range(20)] + ["Fine-tuning"]
    scores = [60.0 + i % 7 for i in range(20)] + [61.0]
    table = pd.DataFrame({"label": labels, "score": scores, "seconds": [*range(40, 20, -1), 50.0]})
    table = table.assign(score_low=table["score"] - 1, score_high=table["score"] + 1)
    svg = svg_charts.cost(table, svg_charts.series(labels), "Accuracy")
    front = [row["label"] for row in pareto_front(table).to_dict("records")]
    assert re.findall(r'<g class="dot.*?<text[^>]*>([^<]*)</text></g>', svg) == [
        *sorted(front, key=lambda label: -scores[labels.index(label)]), "Fine-tuning",
    ]  # fmt: skip
    assert svg.count("<title>method") == 20


def test_a_torn_file_of_a_failed_run_stops_nothing(tmp_path):
    folder = tmp_path / "glyphs-digits" / "l2tl" / "seed0-aa"
    simulated_results.leave(folder, "l2tl", 0)
    (folder / "error.json").write_text('{"error": ')
    (folder / "heartbeat").write_text("[]")
    assert [(item.state, item.reason) for item in run_log.unfinished(tmp_path)] == [
        ("not finished", "its process has ended")
    ]


def test_methods_over_targets_stand_beside_fine_tuning_on_the_same_ones(tmp_path):
    simulated_results.write_results(tmp_path, FEW, {"digits": 85.0, "pets": 93.1}, trouble=False)
    grid = across_grid(comparisons(load(tmp_path)))
    assert [row[0].text for row in grid.rows][0] == "L2TL"
    assert grid.rows[0][1].text == "2"
    assert grid.rows[0][4].value == pytest.approx(0.99, abs=0.005)
    assert len(grid.rows[0][4].digests) == 20
    assert across_grid([item for item in comparisons(load(tmp_path)) if item.target == "pets"]) is None


def test_over_targets_one_score_counts_and_no_row_without_a_claim(tmp_path):
    at_chance = {"num_classes": 10, "share": 0.1}
    for target in ("digits", "pets"):
        for seed in range(3):
            simulated_results.save(tmp_path, make_record("Fine-tuning", target, seed))
            simulated_results.save(tmp_path, make_record("L2TL", target, seed))
            simulated_results.save(tmp_path, make_record("DATL", target, seed, **at_chance))
            area = {
                "metric": "auroc",
                "test": {"auroc": 0.8, "num_images": 400},
                "correct": None,
                "curve": [],
            }
            for label in ("Fine-tuning", "L2TL"):
                simulated_results.save(tmp_path, make_record(label, "xray", seed, **area))
    grid = across_grid(comparisons(load(tmp_path)))
    assert grid.title == "Over targets with accuracy"
    assert [(row[0].text, row[1].text) for row in grid.rows] == [("L2TL", "2")]


def test_places_of_runs_are_unlike_even_where_digests_are_not():
    runs = [parse_run(f"{i}", make_record(digest=name)) for i, name in enumerate(("a/b", "a b", "a b", "c"))]
    anchors = Anchors(runs)
    assert list(anchors.of_run.values()) == ["run-a-b", "run-a-b-2", "run-a-b-3", "run-c"]
    assert anchors.of_digest == {"a/b": "run-a-b", "a b": "run-a-b-2", "c": "run-c"}


def test_an_interval_stands_in_a_line_of_its_own():
    assert (Cell("85.8 (84.5 to 87.0), 5 seeds", 85.8).head, Cell("reference").tail) == ("85.8", "")
    assert Cell("85.8 (84.5 to 87.0), 5 seeds", 85.8).tail == "84.5 to 87.0, 5 seeds"
    assert Cell("birds (10 shots)").head == "birds (10 shots)"


def test_an_axis_has_round_numbers_and_shows_the_best_whole():
    assert svg_charts.ticks(83.2, 96.1) == [85, 90, 95]
    assert svg_charts.ticks(0, 300) == [0, 100, 200, 300]
    low, high = svg_charts.limits([62.0, 83.0, 85.0, 87.0])
    assert 62 < low < 83
    assert high > 87
    low, high = svg_charts.limits([85.0, 85.0])
    assert high - low >= svg_charts.NARROWEST


def test_names_in_a_figure_do_not_cover_each_other():
    placed = svg_charts._spread_out({"a": 10.0, "b": 11.0, "c": 100.0, "d": 101.0}, 15, 0, 110)
    ordered = [placed[name] for name in "abcd"]
    assert all(after - before >= 15 for before, after in zip(ordered, ordered[1:], strict=False))
    assert ordered[0] == 10
    assert ordered[-1] <= 110


def test_other_roles_are_left_out(tmp_path):
    path = save(tmp_path, make_record(role="trial"))
    with pytest.raises(InputError, match=r"1 record\(s\), none of them of a run.*transferbench bench"):
        load(tmp_path)
    path.write_text(json.dumps(make_record()))
    assert [run.label for run in load(tmp_path)] == ["Fine-tuning"]


def test_no_records(tmp_path):
    with pytest.raises(InputError, match="no record.json.*`transferbench bench` fills this folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "broken JSON"),
        ("[]", "a list, where a record is a JSON object"),
        (json.dumps(make_record(format=5)), "format 5 is of a newer version; this one reads 1 to 4"),
        (json.dumps(make_record(role="runs")), "role 'runs' is unknown"),
        (json.dumps(make_record(metric="f1")), "metric 'f1' is unknown; this version reads 'top1' or "),
        (json.dumps(make_record(correct="AAAA")), "holds 3 bytes, where 797 test images take 100"),
        (json.dumps(make_record(correct="!")), "no base64"),
        (json.dumps(make_record(images=None)), "no whole record"),
        (json.dumps(make_record(seconds={})), "no field 'seconds.prepare'"),
    ],
)
def test_a_bad_record_is_named(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
