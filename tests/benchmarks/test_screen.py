"""`screen`, from the command line to its files: planted truth, a second run, and bad input."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_problem, toy_split
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.screening import candidates, record
from transferbench.benchmarks.screening.candidates import _backbone
from transferbench.benchmarks.screening.features import cross_validated, in_their_span
from transferbench.benchmarks.screening.sources import closeness, drawn
from transferbench.methods import logistic
from transferbench.methods.components.frozen_features import held_images
from trees import picture, tree

QUICK = ("target=digits", "shots=6", "labels=all", "recipe.image_size=16")


@pytest.fixture
def quick(monkeypatch):
    """Try two penalties in place of ten."""
    monkeypatch.setattr(logistic, "STRENGTHS", (0.01, 1.0))


def screened(results: Path, *words: str) -> int:
    return main(["screen", *QUICK, *words, f"results={results}"])


def features(labels: torch.Tensor, means: torch.Tensor, noise: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return means[labels] + noise * torch.randn(len(labels), means.shape[1], generator=generator)


@pytest.mark.parametrize("name", ["knn", "ncm", "logistic"])
@pytest.mark.usefixtures("quick")
def test_planted_features_rank_right(name):
    problem = toy_problem(toy_split([0, 1, 2] * 10, 3))
    means = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    found = [
        np.mean(cross_validated(name, problem, features(problem.target.labels, means, noise), 12))
        for noise in (0.1, 1.5, 40)
    ]
    assert found[0] == 1
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("name", ["knn", "ncm", "logistic"])
@pytest.mark.usefixtures("quick")
def test_turned_features_have_the_scores_of_the_features(name):
    problem = toy_problem(toy_split([0, 1, 2] * 10, 3))
    own = features(problem.target.labels, torch.randn(3, 90, generator=torch.Generator().manual_seed(2)), 2.0)
    turned = in_their_span(own)
    assert turned.shape == (30, 30)
    torch.testing.assert_close(turned @ turned.T, own @ own.T, rtol=1e-4, atol=1e-3)
    assert cross_validated(name, problem, turned, 90) == cross_validated(name, problem, own, 90)


def test_no_fold_is_judged_by_an_image_that_it_has_fitted():
    problem = toy_problem(toy_split([0, 1] * 10, 2))
    held = torch.stack(held_images(problem.target, problem.seed))
    assert held.sum(0).tolist() == [1] * 20
    noise = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    assert np.mean(cross_validated("knn", problem, noise, 30)) < 0.9  # each image is its own nearest neighbor


def test_the_source_with_the_nearest_classes_is_closest():
    means = torch.randn(6, 10, generator=torch.Generator().manual_seed(3)) * 3
    target = toy_split([0, 1, 2] * 8, 3, "target")
    of_target = features(target.labels, means[:3], 0.3)
    source = toy_split([0, 1, 2, 3] * 8, 4, "source")
    shifted = {"near": means[:4], "half": means[2:6], "far": means[:4] + 8}
    problem = toy_problem(target, source)
    found = {
        name: closeness(problem, features(source.labels, own, 0.3, 1), of_target).values
        for name, own in shifted.items()
    }
    assert found["near"]["emd"] > found["half"]["emd"] > found["far"]["emd"]
    assert found["near"]["uot"] < min(found["half"]["uot"], found["far"]["uot"])
    assert found["near"]["leep"] > found["half"]["leep"]
    assert set(found["near"]["nearest"]) == {"c0", "c1", "c2"}


def test_drawn_source_images_are_even_over_classes():
    source = toy_split([0] * 30 + [1] * 3 + [2] * 30, 3)
    assert drawn(source, 13).labels.bincount().tolist() == [5, 3, 5]
    assert drawn(source, 0) is source


@pytest.mark.usefixtures("quick")
def test_a_second_run_reads_what_the_first_has_written(tmp_path, capsys, monkeypatch):
    words = ("backbones=tiny,small", "sources=none")
    assert screened(tmp_path, *words) == 0
    first = capsys.readouterr().out
    files = sorted((tmp_path / "screen").rglob("encoder-*.json"))
    assert [json.loads(f.read_text())["config"]["backbone"] for f in files] == ["small", "tiny"]
    assert "measure the best: transferbench bench target=digits shots=6" in first
    (line,) = [line for line in first.splitlines() if line.startswith("measure the best: ")]
    command = shlex.split(line.removeprefix("measure the best: "))
    assert f"results={tmp_path}" in command
    assert main([*command[1:], "--dry-run"]) == 0
    capsys.readouterr()
    files[1].write_text("{")
    passes = []
    real = record.feature_scores
    monkeypatch.setattr(record, "feature_scores", lambda *given: passes.append(1) or real(*given))
    assert screened(tmp_path, *words) == 0
    assert passes == [1]
    of_small = next(line for line in first.splitlines() if line.startswith(" small (random)"))
    assert of_small in capsys.readouterr().out.splitlines()
    assert screened(tmp_path, *words, "recipe.interpolation=bilinear") == 0
    assert len(list((tmp_path / "screen").rglob("encoder-*.json"))) == 4


@pytest.mark.usefixtures("quick")
def test_test_images_are_not_read(tmp_path, monkeypatch):
    read, real = [], record.build_problem.__globals__["cache"].pixels
    monkeypatch.setattr(
        record.build_problem.__globals__["cache"],
        "pixels",
        lambda dataset, part, *of: read.append(part) or real(dataset, part, *of),
    )
    assert screened(tmp_path, "backbones=tiny") == 0
    assert set(read) == {"train", "holdout"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "backbones: not given"),
        (("backbones=resnet1",), "backbone=resnet1: neither 'small' nor a timm model"),
        (("backbones=resnet18:none.pth",), "no file none.pth; expected resnet18:FILE"),
        (("backbones=:x",), "backbones: ':x' names no network"),
        (
            ("backbones=resnet18:",),
            "backbones=resnet18:: expected resnet18:FILE, resnet18:random or",
        ),
        (("backbones=tiny,small,tiny",), "backbones=tiny,small,tiny: tiny twice; expected each once"),
        (("backbones=tiny", "sources=glyphs,"), "an empty name"),
        (("backbones=tiny", "sources=glyph"), "glyphs"),
        (("backbones=tiny", "source_images=-1"), "source_images=-1: expected a whole number"),
        (("backbones=tiny", "backbone=small"), "backbone=small: expected backbones="),
        (("backbones=tiny", "methods=knn"), "methods=knn: expected none: nothing is trained"),
        (("backbones=tiny", "shots=4"), "at most 4 labeled images in a class; cross-validation in 5 folds"),
        (("backbones=tiny", "shots=4"), "needs 5 or more; expected shots=5 or more, or more labeled images"),
        (("backbones=tiny", "recipe.stepz=4"), "did you mean 'recipe.steps'"),
    ],
)
def test_a_wrong_request_gets_one_line(tmp_path, capsys, words, says):
    assert screened(tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_target_needs_two_classes_and_one_label_each(tmp_path, capsys, monkeypatch):
    tree(tmp_path / "one", ("cat",))
    given = [f"results={tmp_path / 'results'}", "backbones=tiny"]
    assert main(["screen", f"target={tmp_path / 'one'}", *given]) == 2
    assert "only one class, 'cat'" in capsys.readouterr().err
    monkeypatch.setattr(candidates, "is_multi_label", lambda dataset: True)
    assert main(["screen", "target=digits", *given]) == 2
    assert "target=digits: images have several labels" in capsys.readouterr().err


def test_a_source_of_several_labels_is_refused_before_any_pass(tmp_path, capsys):
    lines = [f"{i}.png,{'a|b' if i % 2 else 'b'}" for i in range(12)]
    for i in range(12):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "several.csv").write_text("\n".join(["image,label", *lines]))
    torch.save({}, tmp_path / "weights.pth")
    words = (f"backbones=resnet10t:{tmp_path / 'weights.pth'}", f"sources={tmp_path / 'several.csv'}")
    assert screened(tmp_path / "results", *words) == 2
    assert "several.csv: images have several labels" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:mine"])
def test_names_with_a_colon_are_names(name, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"")
    words = [name, f"{name}:random", f"{name}:{tmp_path / 'w.pth'}"]
    found = [_backbone(word) for word in words]
    assert [(each.name, each.weights) for each in found] == [
        (name, ""),
        (name, "random"),
        (name, str(tmp_path / "w.pth")),
    ]
