"""Ranks of a screening, and its correlation with what was measured."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import weightedtau
from transferbench.analysis.figures.screening import screening_drawing
from transferbench.analysis.records.screens import FORMAT, read_screen, told_apart
from transferbench.analysis.screening import encoder_table, ranked, source_table
from transferbench.analysis.screening_agreement import BEST, agreement_lines, agreements, measured
from transferbench.analysis.statistics.cross_validation import fold_interval


def encoder(name: str, folds: list[float], **more) -> dict:
    scores = {"logistic": folds, "knn": folds, "ncm": folds, "logme": folds[0]}
    config = {"backbone": name, "backbone_options": {}, "pretrained": True, "shots": 5, "labels": "all"}
    return {
        **{"format": FORMAT, "kind": "encoder", "label": name, "source": "none", "target": "birds"},
        **{"learns_source": False, "metric": "top1", "config": config, "image_size": 64, "num_images": 50},
        **{"num_classes": 5, "scores": scores, "seconds": {"whole": 2.0}, "fingerprints": {"target": "f"}},
        **more,
    }


def test_files_of_weights_with_one_name_are_told_apart():
    config = encoder("vit", [0.5])["config"]
    screens = [
        encoder("vit (checkpoint)", [0.5], config={**config, "backbone": "vit", "checkpoint": path})
        for path in ("moco/checkpoint.pth", "dino/checkpoint.pth")
    ]
    other = encoder("other (checkpoint)", [0.5], config={**config, "checkpoint": "moco/checkpoint.pth"})
    assert [screen["label"] for screen in told_apart([*screens, other])] == [
        "vit (moco/checkpoint.pth)",
        "vit (dino/checkpoint.pth)",
        "other (checkpoint)",
    ]


@dataclass
class Measured:
    record: dict
    label: str
    score: float
    comparison_id: str = "a"


def run(name: str, score: float, label: str = "Fine-tuning", **more) -> Measured:
    config = {**encoder(name, [0.5])["config"], **more}
    record = {"config": config, "fingerprints": {"target": "f", "source": "s"}, "ended": "2026"}
    return Measured(record, label, score)


def test_the_interval_is_that_of_nadeau_and_bengio():
    mean, low, high = fold_interval([0.5, 0.6, 0.7, 0.8, 0.9])
    half = 2.776445 * np.std([5, 6, 7, 8, 9], ddof=1) / 10 * math.sqrt(0.2 + 0.25)
    assert (mean, low, high) == pytest.approx((0.7, 0.7 - half, 0.7 + half), abs=1e-6)
    assert math.isnan(fold_interval([0.5])[1])


def test_the_best_comes_first_and_the_clearly_worse_are_not_worth_it():
    screens = [
        encoder("far", [0.1, 0.12, 0.1, 0.11, 0.1]),
        encoder("best", [0.9, 0.8, 0.9, 0.8, 0.9]),
        encoder("near", [0.8, 0.9, 0.8, 0.9, 0.8]),
    ]
    order = ranked(screens)
    assert [each.screen["label"] for each in order] == ["best", "near", "far"]
    assert [each.is_worth_it for each in order] == [True, True, False]
    rows = encoder_table(screens).rows
    assert [row[1].text for row in rows] == ["best", "yes", "no"]
    assert rows[0][2].text.startswith("86.0 (")
    assert [row[-1].text for row in rows] == ["2 s"] * 3
    drawing = screening_drawing(order, "accuracy")
    assert drawing.data["backbone"].tolist() == ["best", "near", "far"]


def test_the_nearest_source_comes_first():
    scores = {"emd": 0.5, "emd_kept": 0.6, "uot": 0.1, "datl": 0.2, "leep": -1.0, "nearest": ["a", "b"]}
    near = encoder("net", [0.5], kind="source", source="near", scores=scores)
    far = encoder("net", [0.5], kind="source", source="far", scores={**scores, "emd_kept": 0.5})
    assert [row[0].text for row in source_table([far, near]).rows] == ["near", "far"]


def test_runs_of_the_same_images_and_weights_count():
    screen = encoder("a", [0.5] * 5)
    runs = [run("a", 0.6), run("a", 0.8), run("a", 0.9, "L2-SP"), run("b", 0.1), run("a", 0.2, shots=20)]
    assert measured(screen, runs) == {"Fine-tuning": pytest.approx(0.7), "L2-SP": 0.9, BEST: 0.9}
    assert measured({**screen, "fingerprints": {"target": "g"}}, runs) == {}
    assert measured({**screen, "kind": "source", "fingerprints": {"target": "f", "source": "t"}}, runs) == {}


def test_the_correlation_is_scipys_and_says_how_few_points_it_has():
    means = {"a": 0.5, "b": 0.6, "c": 0.8, "d": 0.7}  # of few candidates
    screens = [encoder(name, [mean] * 5) for name, mean in means.items()]
    test = [0.55, 0.52, 0.9, 0.7]
    runs = [run(name, score) for name, score in zip(means, test, strict=True)]
    found = agreements(screens, runs, {"logistic": True, "leep": True})
    count, own = found["Fine-tuning"]
    assert count == 4
    assert [each.name for each in own] == ["logistic"]
    assert own[0].tau == pytest.approx(weightedtau(list(means.values()), test).statistic)
    assert math.isnan(own[0].low)
    lines = agreement_lines(found, {"logistic": "Logistic regression"}, "backbones")
    assert (
        "over 4 backbones, too few for an interval: a perfect order comes by chance once in 24 times"
        in lines[0]
    )
    assert agreements(screens[:2], runs, {"logistic": True}) == {}


def test_many_candidates_have_an_interval():
    random = np.random.default_rng(0)
    means = random.random(20)
    screens = [encoder(f"net{i}", [mean] * 5) for i, mean in enumerate(means)]
    runs = [run(f"net{i}", mean + 0.05 * random.random()) for i, mean in enumerate(means)]
    _, own = agreements(screens, runs, {"logistic": True, "knn": False})["Fine-tuning"]
    assert 0.5 < own[0].low < own[0].tau <= own[0].high <= 1
    assert own[1].tau < 0


def test_a_broken_file_is_made_again(tmp_path):
    path = tmp_path / "a.json"
    assert read_screen(path) is None
    for text in ("{", "[]", '{"format": 99}', '{"format": 1, "kind": "encoder"}'):
        path.write_text(text)
        assert read_screen(path) is None


def test_an_encoder_without_weights_is_no_match_for_runs_that_start_from_a_source():
    plain = {"backbone": "small", "backbone_options": {}, "pretrained": False, "shots": 5, "labels": "all"}
    random = encoder("small", [0.5], config=plain)
    learned = encoder(
        "small", [0.7], config=plain, learns_source=True, fingerprints={"target": "f", "source": "s"}
    )
    runs = [run("small", 0.8, pretrained=False)]
    assert measured(random, runs) == {}
    assert measured(learned, runs) == {"Fine-tuning": 0.8, BEST: 0.8}
    runs[0].record["fingerprints"]["source"] = "t"
    assert measured(learned, runs) == {}
