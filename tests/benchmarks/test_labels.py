"""Equal labels: what `shots` counts, and the counts of labeled images in a record."""

from dataclasses import replace

import pytest
from transferbench.benchmarks.config.schema import Labels, Protocol
from transferbench.benchmarks.launch.plan import _num_passes, large_batches, num_labels
from transferbench.benchmarks.launch.suite_plan import cells, load
from transferbench.benchmarks.training.label_count import majority
from transferbench.benchmarks.training.problem import build_problem
from transferbench.benchmarks.training.run import run_one
from transferbench.benchmarks.training.tuning import trials
from transferbench.datasets import catalog
from transferbench.datasets.base import Split

ALL = ("labels=all", "recipe.steps=4", "recipe.batch_size=8", "source_recipe.steps=2")
TUNED = ("tune=paper_grid", "recipe.lr_grid=[0.01,0.02]", "recipe.weight_decay_grid=[0.0]")


def images(*splits: Split | None) -> set[bytes]:
    """Return the pixels of all images: another identity of an image than its row."""
    return {
        image.numpy().tobytes()
        for split in splits
        if split is not None
        for image in split.pixels.take(split.index)()[0]
    }


@pytest.mark.parametrize(
    ("given", "protocol", "drawn", "trained"),
    [
        (("shots=10",), Protocol.trainval, (8, 2), 10),
        (("shots=4",), Protocol.trainval, (3, 1), 4),
        (("shots=10", "holdout_shots=5"), Protocol.trainval, (5, 5), 10),
        (("shots=10", "protocol=holdout"), Protocol.holdout, (8, 2), 8),
        (("shots=10", "labels=train"), Protocol.holdout, (10, 40), 10),
        (("shots=10", "labels=train", "holdout_shots=3"), Protocol.holdout, (10, 3), 10),
        (("shots=null", "holdout_shots=3"), Protocol.holdout, (60, 3), 60),
        (("shots=null",), Protocol.holdout, (60, 40), 60),
    ],
)
def test_shots_count_what_labels_says(config_of, given, protocol, drawn, trained):
    config = config_of("finetune", "labels=all", *given)
    built = build_problem(config)
    assert config.protocol is protocol
    for part, k in zip(("train", "holdout"), drawn, strict=True):
        count = built.splits[part].labels.bincount()
        assert count.min() >= k if k in (40, 60) else count.tolist() == [k] * 10
        assert num_labels(config, part) == len(built.splits[part])
    assert built.problem.target.labels.bincount().min() == trained


def test_fewer_shots_are_some_of_more(config_of):
    few, more = (build_problem(config_of("finetune", "labels=all", f"shots={k}")).splits for k in (5, 10))
    for part in ("train", "holdout"):
        assert images(few[part]) < images(more[part])


def test_values_of_earlier_runs_are_left_out_of_the_digest(config_of):
    """Labels were those of training images, and the holdout was whole."""
    plain = config_of("finetune", "shots=5", "labels=train", "protocol=holdout")
    assert not {"labels", "holdout_shots"} & set(plain.resolved())
    whole = config_of("finetune", "shots=null", "labels=train")
    assert replace(whole, labels=Labels.all).digest == whole.digest
    others = [("labels=all",), ("labels=all", "protocol=holdout"), ("holdout_shots=2",)]
    assert len({config_of("finetune", *given).digest for given in ((), *others)}) == 4
    usual, named = (config_of("finetune", "labels=all", *w) for w in ((), ("holdout_shots=1",)))
    assert usual.digest == named.digest
    assert "shots=5, labels=all, holdout_shots=1, protocol=trainval" in usual.describe()


@pytest.mark.parametrize("method", ["finetune", "l2tl", "co_tuning", "knn"])
@pytest.mark.parametrize("given", [(), ("protocol=holdout",), ("labels=train",)], ids=" ".join)
def test_a_record_counts_each_labeled_image_once(config_of, tmp_path, method, given):
    """The trials draw other images, so all are more than the shots."""
    config = config_of(method, *ALL, *TUNED, "shots=3", *given)
    done = run_one(config, tmp_path)
    built = build_problem(config)
    trained = images(built.problem.target)
    judges = {"finetune": False, "l2tl": True}.get(method, config.protocol is Protocol.holdout)
    rewards = images(built.splits["holdout"]) if judges else set()
    tried = [build_problem(trial) for trial in trials(config)]
    parts = [
        part
        for b in tried
        for part in (b.problem.target, b.curve, None if method == "finetune" else b.problem.holdout)
    ]
    assert done["labels"] == {
        "training": len(trained),
        "rewards": len(rewards),
        "choosing": len(images(*parts)),
        "all": len(trained | rewards | images(*parts)),
    }
    assert len(trained) == (20 if given == ("protocol=holdout",) else 30)
    assert method == "knn" or done["labels"]["all"] > 30


def test_cross_validated_trials_count_the_images_of_all_folds(config_of, tmp_path):
    config = config_of("l2tl", *ALL, "shots=3", "recipe.steps=2", "tune=auto", "tune_budget=4")
    done = run_one(config, tmp_path)
    tried = [build_problem(trial) for trial in trials(config)]
    parts = images(*(p for b in tried for p in (b.problem.target, b.problem.holdout, b.curve)))
    trained = images(build_problem(config).problem.target)
    assert done["choice"]["num_folds"] > 1
    assert done["labels"] == {
        "training": 30, "rewards": 10, "choosing": len(parts), "all": len(trained | parts)
    }  # fmt: skip
    assert len(parts) == 30


def test_a_record_tells_the_classes_of_the_target(config_of, tmp_path):
    done = run_one(config_of("knn", *ALL), tmp_path)
    labels = catalog.load("digits").part("test").labels
    most = max((labels == c).sum() for c in range(10))
    assert (done["num_classes"], done["majority"]) == (10, pytest.approx(most / len(labels)))
    several = build_problem(config_of("knn")).test
    assert majority(replace(several, labels=several.labels[:, None].float())) is None


def test_a_plan_counts_the_images_that_are_trained_on(config_of):
    given = ("labels=all", "shots=5", "recipe.batch_size=60")
    words = "training images of digits 1.2 times"
    assert large_batches([config_of("finetune", *given)])[0].endswith(f"the 50 {words}")
    assert "the 40 training" in large_batches([config_of("finetune", *given, "protocol=holdout")])[0]


def test_a_first_stage_costs_as_much_again(config_of):
    one, two = (_num_passes(config_of("l2tl", f"protocol={p}")) for p in ("holdout", "trainval"))
    assert two == 2 * one
    one, two = (_num_passes(config_of("finetune", f"protocol={p}")) for p in ("holdout", "trainval"))
    assert two == one
    assert _num_passes(config_of("knn", "labels=all", "shots=5")) == 50


def test_a_cell_of_one_shot_says_why_it_is_empty():
    (suite,) = load("figure3", ("source=glyphs", "targets=digits", "labels=all", "seeds=1"))
    one, five = cells(suite)[:2]
    assert one.reason.startswith("shots=1: with labels=all")
    assert (five.reason, five.configs[0].drawn) == ("", {"train": 4, "holdout": 1})


def test_a_comparison_says_what_its_recipe_has_beside_the_usual(config_of):
    config = config_of("finetune", "recipe.mixup=0.2", "recipe.ema=0.99", "recipe.optimizer=adamw")
    for part in ("recipe.mixup=0.2", "recipe.ema=0.99", "recipe.optimizer=adamw"):
        assert part in config.describe()
    assert "mixup" not in config_of("finetune").describe()
    assert "optimizer" not in config_of("finetune").describe()
