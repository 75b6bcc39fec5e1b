"""Records and plans of others: old ones are read, newer ones refused, a wrong one takes nothing with it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import simulated_results as simulated
from hostile import damaged, files_below, fuzz, in_time, wrong
from hypothesis import strategies as st
from transferbench import InputError
from transferbench.analysis.records import load, migrations, suites
from transferbench.analysis.records.load import parse_run, read_all, read_record
from transferbench.analysis.report import write_report
from transferbench.analysis.views import suite_section
from transferbench.benchmarks.training import record as records

METHODS = {name: simulated.METHODS[name] for name in ("Fine-tuning", "L2TL")}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two methods on one target, two seeds each."""
    return simulated.write_results(tmp_path / "results", METHODS, {"digits": 85.0}, seeds=2, trouble=False)


def readable(path: Path) -> bool:
    try:
        record = read_record(path)
        if record["role"] == "run":
            parse_run(path, record)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert len(str(error)) < 1000  # noqa: PT017
        return False
    return True


def test_a_wrong_record_is_named(tally, not_yet, tmp_path):
    """Any value anywhere; and any byte."""
    not_yet("hostile records", "-")
    path, seen = tmp_path / "record.json", set()
    plain = simulated.make_record("L2TL")

    def check(content: dict[str, Any] | bytes) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(data)
        seen.add(readable(path))

    inputs = st.one_of(wrong(plain), damaged([json.dumps(plain).encode()]))
    tried = fuzz(check, inputs, tally.times(200, 5000), tally.is_long)
    assert seen == {True, False}
    tally.note("hostile records", "-", tried)


def test_what_is_read_can_be_shown(tally, not_yet, results):
    """Whatever a record holds, the report is written, and only below its folder."""
    not_yet("hostile reports", "-")
    plain = simulated.make_record("L2TL", seed=1)
    path = simulated.save(results, plain)
    outside = files_below(results.parent)

    def check(content: dict[str, Any]) -> None:
        path.write_text(json.dumps(content))
        page = write_report(results, results / "report").read_text()
        assert "<script>alert" not in page
        assert ('id="unread"' in page) == (not readable(path))
        assert files_below(results.parent) - files_below(results / "report") - outside <= {results / "report"}

    tried = fuzz(check, wrong(plain), tally.times(3, 60), tally.is_long)
    tally.note("hostile reports", "-", tried)


def test_one_bad_record_does_not_take_the_report_down(results, capsys):
    bad = {
        "broken": "{",
        "newer": json.dumps(simulated.make_record(seed=7) | {"format": 99}),
        "empty": "",
        "deep": "[" * 100_000,
        "lacking": json.dumps({k: v for k, v in simulated.make_record(seed=8).items() if k != "seconds"}),
    }
    for name, text in bad.items():
        (results / "a" / "b" / name).mkdir(parents=True)
        (results / "a" / "b" / name / "record.json").write_text(text)
    (results / "a" / "skipped-1.json").write_text('{"source": 1}')
    (results / "suites").mkdir()
    (results / "suites" / "mine.json").write_text('{"format": 99}')
    page = write_report(results, results / "report").read_text()
    assert capsys.readouterr().err.count("transferbench: left out: ") == len(bad) + 1
    for name in bad:
        assert f"a/b/{name}/record.json" in page
    newer = f"format 99 is of a newer version; this one reads 1 to {migrations.FORMAT}"
    assert f"{newer}: update transferbench" in page
    assert "no field &#39;seconds&#39;" in page
    assert "suites/mine.json" in page
    assert "a/skipped-1.json" in page
    assert len(load.load(results)) == 4
    assert not capsys.readouterr().err  # said once in a process


@pytest.mark.parametrize("text", ["{torn", "[1]", '{"benchmarks": [{"extra_info": 1}]}', "[" * 100_000])
def test_torn_figures_of_speed_do_not_take_the_report_down(results, text):
    (results / "speed.json").write_text(text)
    page = write_report(results, results / "report").read_text()
    assert 'id="unread"' in page
    assert "speed.json" in page
    assert (
        "expected the figures that `make speed` writes" in page or "holds no figures of `make speed`" in page
    )


def test_only_bad_records(tmp_path):
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(InputError, match=r"no results in '.*': .*record\.json: broken JSON"):
        write_report(tmp_path, tmp_path / "report")


@pytest.mark.parametrize("version", [5, 99, 2**70, "2", None, 0, -1, True, 1.5])
def test_a_record_of_another_version(tmp_path, version):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(simulated.make_record() | {"format": version}))
    newer = type(version) is int and version > migrations.FORMAT
    reads = f"1 to {migrations.FORMAT}"
    words = f"is of a newer version; this one reads {reads}" if newer else f"is unknown; expected {reads}"
    for read in (lambda: read_record(folder / "record.json"), lambda: records.read(folder)):
        with pytest.raises(InputError, match=f"format {re.escape(repr(version))} {words}"):
            read()


def as_format_2(record):
    """Return a record of today as format 2 had it."""
    old = record | {"format": 2, "bench": record["comparison_id"]}
    del old["comparison_id"]
    return old


def test_a_record_of_format_2_has_the_settings_of_today(tmp_path):
    old = as_format_2(simulated.make_record("L2TL")) | {
        "label": "L2TL (num_actions=3, normaliser=softmax)",
        "config": {
            "recipe": {
                "mirror": True,
                "central_share": 0.9,
                "normalise": "half",
                "warmup_share": 0.1,
                "lr": 0.1,
            },
            "settings": {"preset": "paper", "normaliser": "softmax", "num_actions": 3},
            "source_recipe": {"mirror": 1},
            "seed": 0,
        },
        "overrides": ["recipe.mirror=false", "recipe.lr=0.1", "method.normaliser=softmax", "shots=5"],
    }
    path = tmp_path / "record.json"
    path.write_text(json.dumps(old))
    read = read_record(path)
    assert (read["format"], read["comparison_id"], "bench" in read) == (
        migrations.FORMAT,
        old["bench"],
        False,
    )
    assert read["label"] == "L2TL (num_actions=3, normalizer=softmax)"
    assert read["config"] == {
        "recipe": {"hflip": True, "crop_pct": 0.9, "mean_std": "half", "warmup_fraction": 0.1, "lr": 0.1},
        "settings": {"preset": "paper", "normalizer": "softmax", "num_actions": 3},
        "source_recipe": {"mirror": 1},
        "seed": 0,
    }
    assert read["overrides"] == [
        "recipe.hflip=false",
        "recipe.lr=0.1",
        "method.normalizer=softmax",
        "shots=5",
        "labels=train",
    ]


GRADIENTS = {"preset": "first_order", "credit": "first_order", "weights": "learned"}


@pytest.mark.parametrize(
    ("label", "settings", "method", "shown"),
    [
        ("L2TL, first_order", GRADIENTS, "l2tl_gradients", "L2TL by gradients"),
        ("L2TL, first_order (judge_lr=0.1)", GRADIENTS | {"judge_lr": 0.1}, "l2tl_gradients",
         "L2TL by gradients (judge_lr=0.1)"),
        ("Uniform weights, first_order", GRADIENTS | {"weights": "uniform"}, "l2tl",
         "Uniform weights, first_order"),
        ("L2TL, first_order (credit=reward)", {"preset": "first_order", "weights": "learned"}, "l2tl",
         "L2TL, first_order (credit=reward)"),
        ("L2TL", {"preset": "paper", "weights": "learned"}, "l2tl", "L2TL"),
    ],
)  # fmt: skip
def test_credit_by_gradients_of_format_2_is_the_row_of_its_own_method(
    tmp_path, label, settings, method, shown
):
    old = as_format_2(simulated.make_record("L2TL")) | {
        "label": label,
        "config": {"method": "l2tl", "settings": settings},
        "overrides": [
            "method.preset=first_order",
            "method.credit=first_order",
            "method.num_actions=2",
            "shots=5",
        ],
    }
    path = tmp_path / "record.json"
    path.write_text(json.dumps(old))
    read = read_record(path)
    assert (read["method"], read["label"], read["config"]["method"]) == (method, shown, method)
    if method == "l2tl_gradients":
        assert not {"preset", "weights", "credit"} & set(read["config"]["settings"])
        assert read["config"]["settings"]["credit_bar"] == 0.1
        assert read["overrides"] == ["shots=5", "labels=train"]


def test_a_record_of_format_1_is_read(tmp_path):
    """As the first release wrote it: without what came later."""
    later = ("peak_memory_bytes", "notes", "started", "overrides", "numbers")
    old = {k: v for k, v in as_format_2(simulated.make_record("L2TL")).items() if k not in later}
    old["format"] = 1
    del old["environment"]["threads"]
    path = tmp_path / "record.json"
    path.write_text(json.dumps(old))
    read = read_record(path)
    assert read["format"] == migrations.FORMAT
    assert read["numbers"] == {"on_nan": "stop", "skipped_steps": [], "num_spikes": 0}
    assert (read["notes"], read["started"], read["peak_memory_bytes"]) == ([], old["ended"], None)
    assert read["overrides"] == [*old["setting"].split(", "), "labels=train"]
    assert read["environment"]["threads"] == 0
    assert read["comparison_id"] == old["bench"]
    unchanged = set(old) - {"format", "environment", "bench"}
    assert {k: read[k] for k in unchanged} == {k: old[k] for k in unchanged}
    assert len(migrations.MIGRATIONS) == migrations.FORMAT - 1


def test_a_record_of_format_3_keeps_the_labels_of_its_test_images(tmp_path):
    """They had the name that counts of labels have today; its shots were of training images alone."""
    old = simulated.make_record("L2TL") | {"format": 3, "labels": "AA=="}
    path = tmp_path / "record.json"
    for overrides, read in (
        (["shots=5"], ["shots=5", "labels=train"]),
        (["shots=null", "protocol=trainval"], ["shots=null", "protocol=trainval"]),
    ):
        path.write_text(json.dumps(old | {"overrides": overrides}))
        record = read_record(path)
        assert record["overrides"] == read
        assert record["test_labels"] == "AA=="
        assert "labels" not in record


def test_counts_of_labels_may_be_missing_but_not_wrong(tmp_path):
    path = tmp_path / "record.json"
    labels = {"training": 50, "rewards": 0, "choosing": 0, "all": 50}
    for changed in ({}, {"labels": None}, {"labels": labels, "num_classes": 10, "majority": 0.1}):
        path.write_text(json.dumps(simulated.make_record() | changed))
        assert read_record(path).items() >= changed.items()
    for name, value in (("labels", labels | {"all": -1}), ("num_classes", 1.5), ("majority", 2)):
        path.write_text(json.dumps(simulated.make_record() | {name: value}))
        with pytest.raises(InputError, match=f"no whole record .field '{name}' holds"):
            read_record(path)


def test_old_and_new_records_stand_in_one_table(results):
    path = next(results.rglob("record.json"))
    old = json.loads(path.read_text())
    old = as_format_2(old) | {"format": 1}
    path.write_text(json.dumps({k: v for k, v in old.items() if k not in ("numbers", "overrides")}))
    assert len(read_all(results).runs) == 4
    assert not read_all(results).unread


def test_a_run_writes_the_present_format(config_of, results):
    from transferbench.benchmarks.training.run import run_one

    tiny = ("recipe.steps=2", "recipe.batch_size=4", "recipe.image_size=16", "recipe.evaluations=1")
    config = config_of("scratch", *tiny)
    run_one(config, results / "new")
    (path,) = (results / "new").rglob("record.json")
    assert json.loads(path.read_text())["format"] == migrations.FORMAT
    assert read_record(path) == json.loads(path.read_text())


def test_a_record_with_a_million_points(results, tally):
    num_points = tally.times(100_000, 1_000_000)
    plain = simulated.make_record("L2TL", seed=1)
    (point,) = plain["curve"][:1]
    curve = [{"holdout": point["holdout"]} | {"step": i, "seconds": i / 8} for i in range(num_points)]
    simulated.save(results, plain | {"curve": curve})
    with in_time(120):
        page = write_report(results, results / "report")
    assert page.stat().st_size < 2_000_000
    (run,) = [run for run in load.load(results) if run.label == "L2TL" and run.seed == 1]
    points = load.curve_frame([run])
    assert len(points) == 1000
    assert points["step"].iloc[-1] == num_points - 1


def test_a_wrong_plan_is_named(tally, not_yet, tmp_path):
    not_yet("hostile plans", "-")
    results = simulated.write_results(tmp_path / "results", METHODS, {"digits": 85.0}, seeds=2, trouble=False)
    simulated.write_plans(results, {"digits": 85.0})
    runs = load.load(results)
    plans = [json.loads(path.read_text()) for path in suites.plans(results)]
    path, seen = tmp_path / "plan.json", set()

    def check(content: Any) -> None:
        path.write_text(json.dumps(content))
        try:
            suite_section(suites.load_suite(path, results, runs))
        except InputError as error:
            assert str(path) in str(error) or ": unknown view" in str(error)  # noqa: PT017
            seen.add(False)
            return
        seen.add(True)

    inputs = st.sampled_from(plans).flatmap(wrong)
    tried = fuzz(check, inputs, tally.times(60, 3000), tally.is_long)
    assert seen == {True, False}
    tally.note("hostile plans", "-", tried)


def test_a_plan_writes_only_below_the_report(results):
    simulated.write_plans(results, {"digits": 85.0})
    before = files_below(results.parent)
    for path in suites.plans(results):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "../../../../up/x" + "y" * 500}))
    write_report(results, results / "report")
    assert files_below(results.parent) - files_below(results / "report") - before == {results / "report"}
