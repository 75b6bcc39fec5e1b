"""A run as a process: killed and resumed, found again, and waited for."""

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import FORK, LONG, figures
from transferbench import InputError
from transferbench.analysis.records.answers import answers_of
from transferbench.benchmarks.config.schema import RunConfig
from transferbench.benchmarks.training import heartbeat, loop, memory, record
from transferbench.benchmarks.training.evaluate import evaluate
from transferbench.benchmarks.training.memory import PeakMemory
from transferbench.benchmarks.training.pretraining import generalist
from transferbench.benchmarks.training.problem import build_problem
from transferbench.benchmarks.training.run import run_one
from transferbench.methods import catalog
from transferbench.methods.networks.encoders import build_encoder
from transferbench.methods.pretrain import Pretrain

MB = 1 << 20


def child(config: RunConfig, results: Path) -> Any:
    process = FORK.Process(target=run_one, args=(config, results))
    process.start()
    return process


def test_a_resumed_run_does_not_begin_anew(config_of, results, monkeypatch):
    config = config_of("finetune", *LONG)
    steps: list[int] = []
    cls = catalog.load("finetune")
    step = cls.step

    def breaks_at_25(self: Any, t: int) -> Any:
        steps.append(t)
        if t == 25 and steps.count(25) == 1:
            raise RuntimeError("planted")
        return step(self, t)

    monkeypatch.setattr(cls, "step", breaks_at_25)
    with pytest.raises(RuntimeError, match="planted"):
        run_one(config, results)
    error = json.loads((config.folder(results) / "error.json").read_text())
    assert "planted" in error["traceback"]
    assert (config.folder(results) / "checkpoint.pt").exists()
    run_one(config, results)
    assert steps == [*range(26), *range(24, 40)]  # the checkpoint is of step 24
    assert not (config.folder(results) / "error.json").exists()


@pytest.mark.parametrize("name", ["finetune", "datl"])
def test_a_torn_checkpoint_falls_back_to_the_one_before(config_of, results, monkeypatch, name):
    config = config_of(name, *LONG)
    whole = run_one(config, results / "whole")
    cls = catalog.load(name)
    step = cls.step

    def breaks_at_30(self: Any, t: int) -> Any:
        if t == 30:
            raise RuntimeError("planted")
        return step(self, t)

    with monkeypatch.context() as patch:
        patch.setattr(cls, "step", breaks_at_30)
        with pytest.raises(RuntimeError):
            run_one(config, results / "torn")
    newest = config.folder(results / "torn") / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert figures(run_one(config, results / "torn")) == figures(whole)


def test_a_finished_run_is_found(config_of, results, monkeypatch):
    config = config_of("scratch", *LONG)
    run_one(config, results)
    path = config.folder(results) / "record.json"
    before = path.stat().st_mtime_ns
    run_one(config, results)
    assert path.stat().st_mtime_ns == before
    assert not list(config.folder(results).glob("*.pt"))
    read, looks = record.read, []

    def late(folder: Path) -> Any:
        looks.append(folder)
        return None if len(looks) == 1 else read(folder)

    monkeypatch.setattr(record, "read", late)  # it comes between the look and the claim
    for name in ("checkpoint.pt", "heartbeat.0-0-0.0.draft"):  # as a kill may leave them
        (path.parent / name).write_bytes(b"left")
    os.utime(path.parent / "heartbeat.0-0-0.0.draft", (0, 0))
    run_one(config, results)
    assert len(looks) == 2
    assert path.stat().st_mtime_ns == before
    kept = {"config.json", "metrics.jsonl", "model.json", "model.safetensors", "record.json"}
    assert {p.name for p in path.parent.iterdir()} == kept


def test_a_pretraining_that_is_found_gives_the_same_run_as_one_that_is_made(config_of, results):
    for name in ("linear_probe", "l2tl"):
        config = config_of(name, *LONG)
        made = run_one(config, results / "made")
        run_one(generalist(config), results / "found")
        assert figures(run_one(config, results / "found")) == figures(made)


def test_two_processes_share_one_run(config_of, results):
    config = config_of("finetune", *LONG)
    children = [child(config, results) for _ in range(2)]
    for process in children:
        process.join(timeout=120)
        assert process.exitcode == 0
    lines = (config.folder(results) / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 10  # one of them trained, the other waited


def test_a_live_claim_is_respected_and_a_dead_one_taken_over(tmp_path):
    first = heartbeat.Claim(tmp_path, 10)
    assert first.take()
    assert heartbeat.living(tmp_path / "heartbeat")
    assert not heartbeat.Claim(tmp_path, 10).take()
    first.release()
    process = FORK.Process(target=lambda: heartbeat.Claim(tmp_path, 10).take())
    process.start()
    process.join()
    assert (tmp_path / "heartbeat").exists()
    assert not heartbeat.living(tmp_path / "heartbeat")
    second = heartbeat.Claim(tmp_path, 10)
    assert second.take()
    second.release()


def test_record_holds_what_a_reader_needs(config_of, results):
    config = config_of("l2tl", *LONG)
    done = run_one(config, results)
    assert done["config"]["recipe"]["steps"] == 40
    assert done["images"] == {"target": 320, "source": 320, "holdout": 1280}
    correct = np.unpackbits(np.frombuffer(base64.b64decode(done["correct"]), np.uint8))
    assert correct[: done["test"]["num_images"]].mean() == pytest.approx(done["test"]["top1"])
    answers = answers_of(done, correct[: done["test"]["num_images"]].astype(bool))
    assert answers.classes == tuple("0123456789")
    assert answers.correct.mean() == pytest.approx(done["test"]["top1"])
    assert -np.log(answers.probabilities[answers.correct].astype(float)).mean() < done["test"]["loss"]
    assert set(done["seconds"]["parts"]) == {"data", "target", "source", "reward", "policy"}
    assert sum(done["seconds"]["parts"].values()) <= done["seconds"]["step"]
    assert done["flops_per_step"] > 0
    assert done["peak_memory_bytes"] > 50 * MB
    assert done["peak_memory_of"] in ("process", "process since its start")
    assert len(done["class_weights"]) == 94
    assert all(0 <= w <= 1 for w in done["class_weights"].values())
    (base,) = done["pretraining"]
    assert base["shared"]
    assert base["steps"] == 20
    assert [p["step"] for p in done["curve"]] == list(range(4, 41, 4))


@pytest.fixture
def fresh_marks():
    if PeakMemory(torch.device("cpu")).of != "process":
        pytest.skip("this system keeps one mark of the memory for good")


def test_without_git_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = record.environment(torch.device("cpu"))
    assert (found["commit"], found["dirty"]) == ("unknown", False)


def test_a_copy_without_its_own_repository_does_not_ask_the_one_above(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr(record, "ROOT", tmp_path / "inside")
    assert record.environment(torch.device("cpu"))["commit"] == "unknown"


def test_short_memory_on_resuming_is_not_called_a_wrong_checkpoint(config_of, results, monkeypatch):
    config = config_of("scratch", "recipe.steps=6")
    step = catalog.load("scratch").step

    def breaks(self: Any, t: int) -> Any:
        if t == 4:
            raise RuntimeError("planted")
        return step(self, t)

    def short(self: Any, state: Any) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(catalog.load("scratch"), "step", breaks)
    with pytest.raises(RuntimeError, match="planted"):
        run_one(config, results)
    monkeypatch.setattr(loop.Training, "_load", short)
    with pytest.raises(InputError, match=r"^recipe\.batch_size=.*: out of memory"):
        run_one(config, results)


@pytest.mark.usefixtures("fresh_marks")
def test_the_peak_is_of_what_a_run_holds_at_a_time():
    """Memory of earlier objects and of a run inside this one does not count."""
    held = [np.ones(300 * MB, np.uint8)]
    held.clear()
    peak = PeakMemory(torch.device("cpu"))
    begin = peak.bytes
    held.append(np.ones(100 * MB, np.uint8))
    held.clear()
    assert begin + 90 * MB < peak.bytes < begin + 150 * MB
    with peak.paused():
        held.append(np.ones(200 * MB, np.uint8))
        held.clear()
    assert begin + 90 * MB < peak.bytes < begin + 150 * MB
    held.append(np.ones(160 * MB, np.uint8))
    assert begin + 150 * MB < peak.bytes


def test_a_resumed_run_has_the_peak_of_all_its_parts():
    peak = PeakMemory(torch.device("cpu"))
    high = peak.bytes + 100 * MB
    peak.load_state_dict({"bytes": high})
    assert peak.state_dict() == {"bytes": high}


def test_a_mark_that_cannot_be_cleared_is_of_the_process_since_its_start(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none" / "status")
    peak = PeakMemory(torch.device("cpu"))
    assert peak.of == "process since its start"
    assert peak.bytes > 50 * MB


@pytest.mark.usefixtures("fresh_marks")
def test_a_pretraining_that_a_run_makes_has_its_own_memory(config_of, results, monkeypatch):
    step = Pretrain.step
    monkeypatch.setattr(Pretrain, "step", lambda self, t: (np.ones(300 * MB, np.uint8), step(self, t))[1])
    config = config_of("finetune", "recipe.steps=2")
    done, base = run_one(config, results), run_one(generalist(config), results)
    assert done["peak_memory_bytes"] < base["peak_memory_bytes"] - 200 * MB


def test_datl_pays_for_its_specialist(config_of, results):
    done = run_one(config_of("datl", *LONG), results)
    assert [(p["steps"], p["shared"]) for p in done["pretraining"]] == [(20, True), (6, False)]
    assert abs(sum(done["class_weights"].values()) / 94 - 1) < 0.05  # equal classes: weights average one


def test_trainval_replays_what_the_first_stage_learned(config_of, results):
    options = (*LONG, "protocol=trainval", "method.policy_lr=0.1")
    for replay in ("sampled", "expected"):
        config = config_of("l2tl", *options, f"method.replay={replay}")
        done = run_one(config, results)
        assert done["images"]["holdout"] == 0
        assert all(point["holdout"] is None for point in done["curve"])
    (stage,) = [p for p in results.glob("*/l2tl/*/kept.pt") if "whole" not in str(p)][:1]
    learned = torch.load(stage, weights_only=True)
    assert learned["weight_logits"].abs().max() > 0
    records = [json.loads(p.read_text()) for p in results.glob("*/l2tl/*/record.json")]
    first = next(r for r in records if r["role"] == "first_stage")
    second = next(r for r in records if r["role"] == "run")
    assert first["class_weights"] == second["class_weights"]  # the logits are frozen


def test_trainval_trains_on_train_and_holdout(config_of):
    config = config_of("finetune", *LONG, "protocol=trainval")
    built = build_problem(config)
    assert len(built.problem.target) == 50 + 400
    assert built.problem.holdout is None
    assert len(built.test) == 797


def test_tuning_is_equal_and_apart(config_of, results):
    grid = ("recipe.lr_grid=[1e-6,0.05]", "recipe.weight_decay_grid=[0.0]")
    options = (*grid, "recipe.steps=60", "recipe.evaluations=1", "source_recipe.steps=4", "tune=paper_grid")
    done = run_one(config_of("finetune", *options), results)
    assert done["choice"]["lr"] == 0.05
    assert done["choice"]["num_trials"] == 2
    records = [json.loads(p.read_text()) for p in results.glob("*/finetune/*/record.json")]
    trials = [r for r in records if r["role"] == "trial"]
    assert {r["seed"] for r in trials} == {10_000}
    assert all(r["test"] is None for r in trials)
    assert all(r["holdout"]["num_images"] == 200 for r in trials)


def test_evaluation_takes_every_image(config_of, built_of: Callable[..., Any]):
    built = built_of(config_of("finetune"))
    method = catalog.load("finetune")(built.problem, None)
    ragged, some = evaluate(method, built.test, batch_size=100)
    whole, all_at_once = evaluate(method, built.test, batch_size=797)
    assert ragged["num_images"] == 797
    assert ragged["top1"] == pytest.approx(whole["top1"])
    assert (some.argmax(1) == all_at_once.argmax(1)).float().mean() > 0.99


@pytest.mark.parametrize("method", ["datl", "emd"])
@pytest.mark.parametrize("init", ["generalist", "random"])
def test_a_specialist_trains_the_whole_network_whatever_weights_were_published(
    config_of, results, tmp_path, method, init
):
    """Or else it would be fine-tuning under another name: a source head alone serves no target."""
    torch.manual_seed(0)
    whole, _ = build_encoder("mobilenetv1_025", False, None, {})
    whole.reset_classifier(7)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    given = ("backbone=mobilenetv1_025", f"checkpoint={tmp_path / 'w.pth'}", "recipe.lr=0.002")
    config = config_of(method, *given, f"method.init={init}", "method.specialist_share=1")
    shared, own = (item["digest"] for item in run_one(config, results)["pretraining"])
    folders = [next(results.glob(f"*/pretrain/seed0-{digest}")) for digest in (shared, own)]
    before, after = (torch.load(f / "kept.pt", weights_only=True) for f in folders)
    names = [name for name in after if name.startswith("encoder.") and name.endswith("weight")]
    assert names
    assert all(not torch.equal(before[name], after[name]) for name in names)
    assert all(torch.equal(before[name], whole.state_dict()[name.removeprefix("encoder.")]) for name in names)
    recipes = [json.loads((f / "record.json").read_text())["config"]["recipe"] for f in folders]
    assert [recipe["lr"] for recipe in recipes] == [
        config.source_recipe.lr,
        0.002 if init == "generalist" else config.source_recipe.lr,
    ]
