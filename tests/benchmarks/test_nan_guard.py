"""NaN and infinity: a run stops where they come, or leaves the step out, and no checkpoint holds them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transferbench import RunFailed
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.training import loop, nan_guard
from transferbench.benchmarks.training.nan_guard import not_finite
from transferbench.benchmarks.training.run import run_one
from transferbench.methods import catalog
from transferbench.methods.base import Method, Metrics

LONG = ("recipe.steps=20", "recipe.evaluations=5", "recipe.batch_size=4", "recipe.image_size=16")
LONG += ("source_recipe.steps=2", "source_recipe.batch_size=4")


def poisoned(monkeypatch, name: str, at: dict[int, str], value: float = math.nan) -> list[int]:
    """Plant a value that is not finite in some steps of a method: in a metric, or in the weights."""
    cls = catalog.load(name)
    step, taken = cls.step, []

    def bad(self: Method, t: int) -> Metrics:
        taken.append(t)
        metrics = step(self, t)
        if at.get(t) == "weights":
            with torch.no_grad():
                self.net.target_head.weight[0, 0] = value
        elif t in at:
            metrics[at[t]] = torch.tensor(value)
        return metrics

    monkeypatch.setattr(cls, "step", bad)
    return taken


def checkpoint(config, results: Path) -> dict[str, Any]:
    return torch.load(config.folder(results) / "checkpoint.pt", weights_only=True)


@pytest.mark.parametrize(
    ("name", "what", "value", "words"),
    [
        ("scratch", "loss", math.nan, "loss is nan at step 15"),
        ("l2tl", "reward", -math.inf, "reward is -inf at step 15"),
        ("scratch", "weights", math.inf, "net.target_head.weight is not finite after step 16"),
    ],
)
def test_it_stops_with_what_where_and_the_last_good_checkpoint(
    config_of, results, monkeypatch, name, what, value, words
):
    config = config_of(name, *LONG)
    poisoned(monkeypatch, name, {15 if what == "weights" else 14: what}, value)
    kept = config.folder(results) / "checkpoint.pt"
    for _ in range(2):  # the same command again goes on from there, and ends there too
        with pytest.raises(RunFailed) as error:
            run_one(config, results)
        assert str(error.value).startswith(f"{words}; {kept}, of step 12, is the last good checkpoint.")
        assert "on_nan=skip" in str(error.value)
        assert checkpoint(config, results)["step"] == 12
        assert not not_finite(checkpoint(config, results))
    left = json.loads((config.folder(results) / "error.json").read_text())
    assert left["error"].startswith(f"RunFailed: {words}")
    assert not (config.folder(results) / "record.json").exists()


def test_a_first_step_that_is_not_finite(config_of, results, monkeypatch):
    config = config_of("scratch", *LONG)
    poisoned(monkeypatch, "scratch", {0: "loss"})
    with pytest.raises(RunFailed, match="loss is nan at step 1; there is no checkpoint before it"):
        run_one(config, results)
    assert not (config.folder(results) / "checkpoint.pt").exists()


def test_the_scores_have_to_be_finite(config_of, results, monkeypatch):
    config = config_of("scratch", *LONG)
    whole = loop.evaluate

    def bad(method: Method, split: Any, *rest: Any) -> Any:
        scores, said = whole(method, split, *rest)
        return scores | {"loss": math.inf}, said

    monkeypatch.setattr(loop, "evaluate", bad)
    with pytest.raises(RunFailed, match="the loss on holdout is inf after step 4"):
        run_one(config, results)
    assert not (config.folder(results) / "metrics.jsonl").exists()


def test_the_command_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    poisoned(monkeypatch, "scratch", {3: "loss"})
    given = ["recipe.steps=6", "recipe.evaluations=6", "recipe.batch_size=8", f"results={tmp_path}"]
    assert main(["run", "target=digits", "source=none", "method=scratch", *given]) == 1
    error = capsys.readouterr().err
    assert error.startswith("transferbench: loss is nan at step 4; ")
    assert error.count("\n") == 1


def test_between_two_looks_steps_go_on_and_the_step_is_still_named(config_of, results, monkeypatch):
    config = config_of("scratch", "recipe.steps=300", "recipe.evaluations=1", "recipe.batch_size=2")
    monkeypatch.setattr(nan_guard, "EVERY", 10)
    taken = poisoned(monkeypatch, "scratch", {12: "loss"})
    with pytest.raises(RunFailed, match="loss is nan at step 13;"):
        run_one(config, results)
    assert taken[-1] == 29  # sent after step 19, read when the next are sent


@pytest.mark.parametrize("name", ["scratch", "l2tl"])
def test_skipping_undoes_the_step_and_the_record_shows_it(config_of, results, monkeypatch, name):
    config = config_of(name, *LONG, "on_nan=skip")
    assert "on_nan=skip" in config.describe()
    assert config.digest != config_of(name, *LONG).digest
    poisoned(monkeypatch, name, {0: "loss", 7: "weights", 19: "loss"})
    done = run_one(config, results)
    assert done["numbers"]["on_nan"] == "skip"
    assert done["numbers"]["skipped_steps"] == [1, 8, 20]
    assert done["curve"][-1]["train"]["loss"] is None
    assert done["images"]["target"] == 20 * 4  # the streams went on


def test_a_step_that_is_undone_changes_nothing(build, monkeypatch, tmp_path):
    method = build("l2tl", *LONG)
    watch = nan_guard.NanGuard(method, tmp_path, nan_guard.OnNan.skip)
    for t in range(3):
        watch.step(t)
    before = {k: v for k, v in method.state_dict().items() if k not in ("source", "target", "holdout")}
    before = torch.load(_saved(before, tmp_path), weights_only=True)
    poisoned(monkeypatch, "l2tl", {3: "weights"})
    watch.step(3)
    after = {k: v for k, v in method.state_dict().items() if k in before}
    assert _equal(before, after)
    watch.step(4)
    assert not _equal(before, {k: v for k, v in method.state_dict().items() if k in before})
    assert watch.skipped == [4]


def _saved(state: dict[str, Any], folder: Path) -> Path:
    torch.save(state, folder / "state.pt")
    return folder / "state.pt"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def test_skipping_without_end_stops(config_of, results, monkeypatch):
    monkeypatch.setattr(nan_guard, "MOST_SKIPPED", 10)
    config = config_of("scratch", *LONG, "on_nan=skip")
    poisoned(monkeypatch, "scratch", dict.fromkeys(range(5, 20), "loss"))
    with pytest.raises(RunFailed, match="10 steps in a row up to step 15 were not finite"):
        run_one(config, results)


def test_a_choice_that_changes_nothing_is_not_another_run(config_of, results):
    config = config_of("scratch", *LONG)
    assert "on_nan" not in config.resolved()
    assert run_one(config, results)["numbers"] == {"on_nan": "stop", "skipped_steps": [], "num_spikes": 0}


def test_a_jump_of_the_loss_is_logged(config_of, results, monkeypatch):
    config = config_of("scratch", *LONG)
    poisoned(monkeypatch, "scratch", {14: "loss"}, value=60.0)
    done = run_one(config, results)
    (point,) = [p for p in done["curve"] if "spikes" in p]
    assert point["step"] == 16
    assert [s["step"] for s in point["spikes"]] == [15]
    assert point["spikes"][0]["loss"] == 60.0
    assert 1 < point["spikes"][0]["usual"] < 3
    assert done["numbers"]["num_spikes"] == 1
    lines = (config.folder(results) / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[3])["spikes"] == point["spikes"]
