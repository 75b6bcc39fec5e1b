"""Very small sets: each seed tests on another fifth, so that all images serve, and no seed sees its own."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from packed_trees import PLAIN, SPLIT, written
from transferbench import InputError
from transferbench.analysis.mistakes import rows_of
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.load import read_all
from transferbench.analysis.statistics.paired import _seed_part, folds_part, paired_difference
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.compose import request_for
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.config.schema import RunConfig, load_target
from transferbench.benchmarks.training.tuning import trials
from transferbench.datasets import catalog
from transferbench.datasets.base import Dataset
from trees import TINY

FEW = [f"{c}/{i}.png" for c in ("ant", "bee", "cow") for i in range(5)]


@pytest.fixture(autouse=True)
def fresh():
    catalog.load.cache_clear()


def config_of(place: Path, *more: str, seed: int = 0) -> RunConfig:
    request, settings = request_for("scratch", (f"target={place}", "source=none", *TINY, *more))
    return run_config(request, "scratch", settings, seed)


def paths(found: Dataset, part: str) -> list[str]:
    images = found.parts[part].images
    return [images.path(i) for i in range(len(images))]


@pytest.mark.parametrize("kind", ["tree", "tar"])
def test_five_seeds_test_on_each_image_once(tmp_path, kind):
    place = written(tmp_path, FEW, kind)
    found = [load_target(config_of(place, seed=seed)) for seed in range(5)]
    assert sorted(p for one in found for p in paths(one, "test")) == sorted(FEW)
    assert sorted(p for one in found for p in paths(one, "holdout")) == sorted(FEW)
    for one in found:
        assert sorted(p for part in one.parts for p in paths(one, part)) == sorted(FEW)
        for part, count in (("train", 3), ("holdout", 1), ("test", 1)):
            assert Counter(one.parts[part].labels.tolist()) == dict.fromkeys(range(3), count)
            assert all(
                p.startswith(one.classes[y])
                for p, y in zip(paths(one, part), one.parts[part].labels, strict=True)
            )
    again = load_target(config_of(place, seed=5))
    assert {tuple(paths(again, "test"))}.isdisjoint({tuple(paths(one, "test")) for one in found})
    assert len({one.fingerprint for one in [*found, again]}) == 6  # the pixels of each are cached apart


def test_seeds_are_one_comparison_and_larger_sets_stay_as_they_are(tmp_path):
    place = written(tmp_path / "few", FEW)
    first, second = (config_of(place, seed=seed) for seed in (0, 1))
    assert first.draw == "folds"
    assert first.comparison_id == second.comparison_id
    assert first.data == second.data == {"target": catalog.load(str(place)).fingerprint}
    for files in (PLAIN, SPLIT):
        assert config_of(written(tmp_path / str(len(files)), files)).draw is None
    assert config_of(place, "groups=near").draw is None


def test_trials_do_not_see_the_test_images_of_their_run(tmp_path):
    place = written(tmp_path, FEW)
    for seed in (0, 3):
        config = config_of(place, "tune=auto", seed=seed)
        tested = set(paths(load_target(config), "test"))
        for trial in trials(config):
            assert set(paths(load_target(trial), "test")) == tested
    assert (
        len({trial.digest for seed in (0, 3) for trial in trials(config_of(place, "tune=auto", seed=seed))})
        == 18
    )


@pytest.mark.parametrize(("files", "source"), [(SPLIT, "none"), (FEW, "planted")])
def test_what_cannot_be_folded(tmp_path, files, source):
    place = written(tmp_path, files)
    name = f"planted:conflicting:0.5:glyphs:{place}" if source == "planted" else str(place)
    with pytest.raises(InputError, match="draw=folds: "):
        catalog.load(name, source == "planted", "folds")


def test_a_bench_says_so_and_pairs_by_seed(tmp_path, capsys):
    place, results = written(tmp_path, FEW), tmp_path / "results"
    given = [
        f"target={place}",
        f"results={results}",
        *TINY,
        "seeds=3",
        "source=glyphs",
        "source_recipe.steps=2",
    ]
    assert main(["bench", *given, "methods=finetune,scratch"]) == 0
    said = capsys.readouterr().out
    assert "draw=folds" in said
    assert "pets: each seed tests on another fifth of the images (draw=folds)" in said
    runs = read_all(results).runs
    own, other = ([run for run in runs if run.method == name] for name in ("finetune", "scratch"))
    assert len({run.record["fingerprints"]["splits"]["test"] for run in own}) >= 1
    (comparison,) = comparisons(runs)
    assert [row.seeds for row in rows_of(comparison)] == [[0], [0]]  # others have other test images
    difference = paired_difference(own, other)
    assert difference.num_seeds == 3
    assert "paired by seed only" in difference.note


def test_an_interval_of_folds_is_wider_by_the_images_that_seeds_share():
    deltas = np.array([0.1, 0.3, 0.2, 0.0, 0.2])
    (plain, freedom), (wider, same) = _seed_part(deltas), folds_part(deltas, 0.0)
    assert (freedom, same) == (4, 4)
    assert wider == pytest.approx(deltas.var(ddof=1) * (1 / 5 + 1 / 4))
    assert wider == pytest.approx(plain * 2.25)
