"""`import transferbench as tb`: quick to import, the errors of the command line, any kind of script."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import transferbench as tb
from PIL import Image
from simulated_results import write_results
from transferbench import api

DOCS = Path(tb.__file__).parent / "docs"
SCRIPT = """
import transferbench as tb

print("the script starts")
settings = {"recipe.steps": 4, "recipe.evaluations": 2, "source_recipe.steps": 4, "backbone": "tiny"}
found = tb.bench("digits", ["finetune", "ncm"], source="glyphs", seeds=1, workers=1, settings=settings)
model = tb.load_model(found)
print(*sorted(found.records.method), len(found.table()), model.predict(["new.png"])[0].label in model.classes)
"""


def python(*words: str, given: str = "", folder: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *words], input=given, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "results"
    write_results(folder, methods=("Fine-tuning", "L2TL"), targets=("digits", "birds"), trouble=False)
    return folder


@pytest.mark.slow
def test_a_script_needs_no_main_guard(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    Image.new("RGB", (40, 30)).save(tmp_path / "new.png")
    said = python("mine.py", folder=tmp_path)
    assert said.count("the script starts") == 1
    assert said.endswith("finetune ncm 2 True\n")
    assert (tmp_path / "results" / "report" / "report.html").exists()


@pytest.mark.parametrize("way", ["file", "argument", "stdin"])
def test_a_worker_does_not_import_the_main_module(tmp_path, way):
    code = """
from multiprocessing.spawn import get_preparation_data
from transferbench.benchmarks.launch.pool import _without_main
with _without_main():
    assert not [name for name in get_preparation_data("worker") if "main" in name]
print(__name__)
"""
    (tmp_path / "mine.py").write_text(code)
    words = {"file": ["mine.py"], "argument": ["-c", code], "stdin": ["-"]}[way]
    assert python(*words, given=code if way == "stdin" else "", folder=tmp_path) == "__main__\n"


def test_an_import_takes_less_time_than_python_itself(tmp_path):
    code = """
import resource, subprocess, sys
def used():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
def seconds(code):
    before = used()
    subprocess.run([sys.executable, "-c", code], check=True)
    return used() - before
pairs = [(seconds("import transferbench"), seconds("pass")) for _ in range(5)]
print(min(ours for ours, _ in pairs) / min(pythons for _, pythons in pairs))
"""
    assert float(python("-c", code)) < 2.0


def test_reading_loads_no_torch(simulated):
    code = f"""
import sys, transferbench as tb
assert "transferbench.api" not in sys.modules
found = tb.load({str(simulated)!r})
found.records, found.report(), found.recommend("digits"), found._repr_html_()
print(*{{"torch", "timm", "hydra"}} & set(sys.modules), "end")
"""
    assert python("-c", code) == "end\n"


def test_records_have_the_columns_that_the_reference_lists(simulated):
    page = (DOCS / "reference" / "python.md").read_text().partition("### Columns of `records`")[2]
    records = tb.load(simulated).records
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(records.columns)
    assert len(records) == 2 * 2 * 5
    assert records.score.between(0, 1).all()
    assert (Path(records.folder[0]) / "record.json").exists()


def test_one_comparison_is_chosen_among_several(simulated):
    found = tb.load(str(simulated))
    assert found.comparison_id is None
    with pytest.raises(tb.InputError, match=r"comparison_id=None: expected one of \w+ \("):
        found.table()
    of_digits = found.records.query("target == 'digits'").comparison_id.iloc[0]
    text, numbers = found.table(of_digits), found.table(of_digits, numbers=True)
    assert list(text["method"]) == list(numbers["label"])
    assert numbers.score.between(0, 100).all()
    assert "digits" in found.recommend("digits")
    assert found._repr_html_().count("<table") == 2
    one = tb.Results(simulated, of_digits)
    assert one._repr_html_().count("<table") == 1
    assert one.recommend() == found.recommend("digits")
    assert one.figure("accuracy")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(tb.InputError, match=r"figure 'pie': .* accuracy, cost, curves"):
        one.figure("pie")


def test_the_model_of_a_comparison_is_of_its_own_runs(simulated, monkeypatch):
    """Whatever `best.json` of that pair names: it is of the latest bench."""
    monkeypatch.setattr("transferbench.benchmarks.model.load.load_model", lambda folder: folder)
    known = tb.load(simulated).records.set_index("folder")
    digits = known[known.target == "digits"].comparison_id.iloc[0]
    found = tb.Results(simulated, digits)
    with pytest.raises(tb.InputError, match="no model of L2TL is here: `transferbench reproduce"):
        tb.load_model(found)
    (found.pair / "best.json").write_text('{"run": "another"}')
    monkeypatch.setattr("transferbench.benchmarks.model.keep.has_model", lambda folder: True)
    run = known.loc[str(tb.load_model(found))]
    assert (run.comparison_id, run.method) == (digits, "l2tl")


def test_errors_are_those_of_the_command_line(tmp_path):
    with pytest.raises(tb.InputError, match="no results in"):
        tb.load(tmp_path)
    with pytest.raises(tb.InputError, match="did you mean 'digits'"):
        tb.bench("digitz", results=tmp_path)
    with pytest.raises(tb.InputError, match="sed"):
        tb.bench(sed=2, results=tmp_path)
    with pytest.raises(tb.InputError, match=r"recipe\.step"):
        tb.bench(settings={"recipe.step": 2}, results=tmp_path)
    with pytest.raises(tb.InputError, match="on=slurm"):
        tb.bench(on="slurm", results=tmp_path)
    with pytest.raises(tb.InputError, match="nowhere: no such folder"):
        tb.load_model("nowhere")
    with pytest.raises(AttributeError, match="bunch"):
        tb.bunch()


def test_a_failed_run_is_an_exception_and_the_others_stay(results, monkeypatch):
    from transferbench.benchmarks.launch import start

    monkeypatch.setattr(start, "run_missing", lambda *_: {"abc": "NaN at step 3"})
    with pytest.raises(tb.RunFailed, match=r"^1 of 1 runs failed: abc: NaN at step 3$"):
        tb.bench("digits", "finetune", seeds=1, results=results, quiet=True, backbone="tiny")


def test_settings_are_written_as_on_the_command_line():
    given = {"methods": ["ncm", "knn"], "results": Path("a b"), "shots": None, "pretrained": True}
    assert api._overrides({**given, "recipe.lr": 1e-3, "source_recipe.milestones": [2, 4]}) == [
        *("methods=ncm,knn", "results=a b", "shots=null", "pretrained=true"),
        *("recipe.lr=0.001", "source_recipe.milestones=[2,4]"),
    ]


@pytest.mark.parametrize("methods", [[], (), ""])
def test_no_methods_are_not_all_methods(tmp_path, methods):
    with pytest.raises(tb.InputError, match="methods=.* names no method"):
        tb.bench("digits", methods=methods, source="glyphs", results=tmp_path)
