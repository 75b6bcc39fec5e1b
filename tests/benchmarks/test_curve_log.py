"""Curves in TensorBoard and other trackers: while a run goes on, and from its record."""

import math
from pathlib import Path

import pytest
from transferbench import InputError
from transferbench.benchmarks.commands.log import log
from transferbench.benchmarks.config import resolve
from transferbench.benchmarks.config.schema import Log
from transferbench.benchmarks.training.curve_log import EventWriter, scalars
from transferbench.benchmarks.training.run import run_one

pytest.importorskip("tensorboard")


def events_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points of every scalar of a folder of events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    names = found.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in names}


def test_a_run_leaves_losses_scores_and_rates_and_keeps_its_digest(config_of, results):
    config = config_of("scratch", "recipe.steps=6", "log=tensorboard")
    assert config.log is Log.tensorboard
    assert config.digest == config_of("scratch", "recipe.steps=6").digest
    record = run_one(config, results)
    events = events_of(config.folder(results) / "events")
    steps = [point["step"] for point in record["curve"]]
    assert [step for step, _ in events["holdout/top1"]] == steps
    for name, of in (("train", "loss"), ("holdout", "top1")):
        values = [value for _, value in events[f"{name}/{of}"]]
        assert values == pytest.approx([point[name][of] for point in record["curve"]])
    rates = [value for _, value in events["learning_rate"]]
    assert rates == pytest.approx([config.recipe.lr_at(step - 1) for step in steps])


def test_a_new_start_replaces_the_events(tmp_path):
    for score in (0.5, 0.75):
        writer = EventWriter(tmp_path)
        writer.write({"step": 2, "seconds": 1.0, "holdout": {"top1": score}, "train": {"loss": 0.25}})
        writer.close()
    assert events_of(tmp_path)["holdout/top1"] == [(2, 0.75)]


def test_runs_share_a_folder_of_events_and_leave_others_alone(config_of, results, tmp_path):
    place = tmp_path / "tb"
    place.mkdir()
    (place / "events.out.tfevents.mine").touch()
    folders = []
    for seed in (0, 1):
        config = config_of("scratch", "recipe.steps=6", f"seed={seed}")
        run_one(config, results)
        folders.append(config.folder(results))
        assert log(folders[-1], "tensorboard", str(place)) == 0
    assert (place / "events.out.tfevents.mine").exists()
    for folder in folders:
        assert events_of(place / folder.relative_to(results))["holdout/top1"]


def test_what_is_no_finite_number_is_left_out():
    point = {
        "step": 1,
        "seconds": 2.0,
        "holdout": {"auroc": math.nan, "num_images": 5},
        "train": {"loss": None},
    }
    assert not list(scalars(point))


def test_mlflow_gets_settings_curve_and_scores(config_of, results, tmp_path):
    """Run where MLflow is installed; it is no dependency."""
    mlflow = pytest.importorskip("mlflow")
    record = run_one(config := config_of("scratch", "recipe.steps=6"), results)
    assert log(config.folder(results), "mlflow", f"sqlite:///{tmp_path}/mlflow.db") == 0
    (sent,) = mlflow.search_runs(experiment_names=["transferbench"], output_format="list")
    assert sent.data.metrics["test/top1"] == record["test"]["top1"]
    assert sent.data.params["recipe.steps"] == "6"
    points = mlflow.MlflowClient().get_metric_history(sent.info.run_id, "holdout/top1")
    assert [point.step for point in points] == [point["step"] for point in record["curve"]]


def test_a_missing_package_is_named(config_of, monkeypatch):
    monkeypatch.setattr(resolve, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^log=tensorboard: needs .*: `pip install -e '\.\[tensorboard\]'` in "
    ):
        config_of("finetune", "log=tensorboard")
