"""A run made again from its record, and the same result whatever it is made by."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.commands.reproduce import differences, reproducible
from transferbench.benchmarks.config.compose import request_for
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.launch import pool
from transferbench.benchmarks.training import record
from transferbench.datasets import catalog
from trees import TINY, tree


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two finished runs beside their images."""
    place = tmp_path_factory.mktemp("made")
    tree(place / "pets")
    tree(place / "photos", ("a", "b", "c"), train=4, val=2)
    pair = [f"target={place / 'pets'}", f"source={place / 'photos'}"]
    for method in ("finetune", "l2tl"):
        assert main(["run", f"method={method}", *pair, f"results={place / 'results'}", *TINY]) == 0
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Path:
    """Copies of them that a test may change."""
    for name in ("pets", "photos", "results"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    catalog.load.cache_clear()
    return tmp_path


def run_of(place: Path, method: str = "finetune") -> Path:
    return next(place.glob(f"results/photos-*-pets-*/{method}/seed0-*"))


def again(place: Path, run: Path, *given: str) -> int:
    return main(["reproduce", str(run), f"target={place / 'pets'}", f"source={place / 'photos'}", *given])


def change(run: Path, **parts: dict[str, object]) -> None:
    content = json.loads((run / "record.json").read_text())
    for name, own in parts.items():
        content[name] |= own
    (run / "record.json").write_text(json.dumps(content))


@pytest.mark.parametrize("method", ["finetune", "l2tl"])
def test_a_run_made_again_is_equal(place, capsys, method):
    run = run_of(place, method)
    before = (run / "record.json").read_bytes()
    assert again(place, run) == 0
    assert capsys.readouterr().out.startswith("equal in all numbers except times and memory: reproduced-")
    assert (run / "record.json").read_bytes() == before
    made = next(place.glob("reproduced-*"))
    old, new = (json.loads(next(r.glob(f"photos-*-pets-*/{method}/*/record.json")).read_text())
                for r in (place / "results", made))  # fmt: skip
    assert old["started"] <= new["started"]
    assert reproducible(old) == reproducible(new)
    assert again(place, run / "record.json") == 2  # the repeated run must not overwrite an earlier one
    assert "this run is there already" in capsys.readouterr().err


def test_it_says_what_differs_and_by_how_much(place, capsys):
    run = run_of(place)
    top1 = json.loads((run / "record.json").read_text())["test"]["top1"]
    change(run, test={"top1": top1 + 0.25}, images={"target": 7})
    code = again(place, run)
    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert f"test.top1: {top1 + 0.25} in the record, {top1} now (-0.25)" in lines
    assert any(line.startswith("images.target: 7 in the record, 8 now") for line in lines)


def test_other_images_are_refused(place, capsys):
    images = sorted((place / "pets" / "train" / "cat").iterdir())
    images[0].write_bytes(images[1].read_bytes())
    assert again(place, run_of(place)) == 2
    error = capsys.readouterr().err
    assert error.startswith("transferbench: data: target: ")
    assert error.endswith("; expected the same images\n")
    assert not list(place.glob("reproduced-*"))


@pytest.mark.parametrize(
    "old", [{"code": "0123456789abcdef", "commit": "feedfeedfeedfeed"}, {"commit": "feedfeedfeedfeed"}]
)
def test_other_code_is_refused(place, capsys, old):
    run = run_of(place)
    content = json.loads((run / "record.json").read_text())
    content["environment"].pop("code")
    content["environment"] |= old
    (run / "record.json").write_text(json.dumps(content))
    assert again(place, run) == 2
    assert capsys.readouterr().err.startswith("transferbench: code: commit feedfeedfeed")
    assert not list(place.glob("reproduced-*"))


def test_other_settings_are_refused(place, capsys):
    run = run_of(place)
    content = json.loads((run / "record.json").read_text())
    content["config"]["recipe"]["lr"] = 0.125
    (run / "record.json").write_text(json.dumps(content))
    assert again(place, run) == 2
    assert "settings: recipe.lr: 0.125 in the record, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), "reproduce: 0 runs; expected one folder"),
        (("nowhere",), "nowhere: no record; expected the folder of a finished run"),
        (("RUN", "recipe.steps=3"), "recipe.steps=3: fixed by the record; expected target, source"),
        (("PRETRAINING",), "record of a pretraining; expected a run that uses it"),
    ],
)
def test_a_wrong_request(place, capsys, given, expected):
    known = {"RUN": run_of(place), "PRETRAINING": next(place.glob("results/photos-*/pretrain/*"))}
    assert main(["reproduce", *(str(known.get(g, g)) for g in given)]) == 2
    assert expected in capsys.readouterr().err


def test_differences_are_told_by_place():
    assert list(differences({"a": [1, {"b": 0.5}], "seconds": 1}, {"a": [1, {"b": 0.75}], "seconds": 2})) == [
        "a[1].b: 0.5 in the record, 0.75 now (+0.25)"
    ]
    old, new = {"correct": "/w=="}, {"correct": "8A=="}
    assert list(differences(old, new)) == ["correct: differs for 4 test images"]
    old, new = ({"predictions": {"classes": text}} for text in ("AAA=", "AQA="))
    assert list(differences(old, new)) == ["predictions.classes: differs"]
    assert list(differences({"a": [1]}, {"a": [1, 2]})) == ["a: [1] in the record, [1, 2] now"]


def test_the_code_is_known_by_its_content(monkeypatch, tmp_path):
    here = record.code_fingerprint()
    for package in ("benchmarks", "datasets", "methods"):
        shutil.copytree(record.ROOT / package, tmp_path / package)
    monkeypatch.setattr(record, "ROOT", tmp_path)
    assert record.code_fingerprint.__wrapped__() == here
    (tmp_path / "README.md").write_text("other words")
    assert record.code_fingerprint.__wrapped__() == here
    with (tmp_path / "methods" / "scratch.py").open("a") as f:
        f.write("\n")
    assert record.code_fingerprint.__wrapped__() != here


def test_a_pool_makes_the_same_as_one_process(made, tmp_path):
    """Two workers at a time, which make the shared pre-training themselves: equal to the last bit."""
    given = (f"target={made / 'pets'}", f"source={made / 'photos'}", *TINY)
    configs = []
    for method in ("finetune", "l2tl"):
        request, settings = request_for(method, given)
        configs.append(run_config(request, method, settings, request.seed))
    failed = []
    pool.run_all(configs, tmp_path, 2, lambda config, error: failed.append(error), lambda: None)
    assert failed == [None, None]
    alone, pooled = (
        {
            path.parent.name: reproducible(json.loads(path.read_text()))
            for path in root.glob("*/*/*/record.json")
        }
        for root in (made / "results", tmp_path)
    )
    assert len(alone) == 3
    assert alone == pooled


def test_a_run_on_a_cpu_has_one_thread_whatever_the_machine(monkeypatch):
    monkeypatch.setattr(pool, "num_cores", lambda: 64)
    assert [pool.num_threads(0, "cpu", workers) for workers in (1, 2, 64)] == [1, 1, 1]
    assert pool.num_threads(3, "cpu", 1) == 3
    monkeypatch.setattr(
        "transferbench.benchmarks.training.problem.device_of", lambda name: torch.device("cuda")
    )
    assert pool.num_threads(0, "cuda", 4) == 16
