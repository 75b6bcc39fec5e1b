"""Rows on frozen features against independent computations, and the features that runs share."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Fitted
from sklearn.neighbors import KNeighborsClassifier
from transferbench.benchmarks.launch.plan import _num_passes
from transferbench.benchmarks.training.run import num_steps, run_one
from transferbench.benchmarks.training.tuning import trials
from transferbench.methods import catalog
from transferbench.methods.components import frozen_features
from transferbench.methods.components.frozen_features import FrozenFeatures, best_value, folds
from transferbench.methods.knn import nearest

CLOSED = [name for name in catalog.names() if catalog.load(name).closed_form]


def arrays(method) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of the training images, computed image by image."""
    with torch.no_grad():
        features = torch.cat([method.net.features(x) for x, _ in method.target.split.batches(1)])
    return features.numpy().astype(np.float64), method.target.split.labels.numpy()


def images(method, count: int = 60) -> torch.Tensor:
    return next(method.holdout.split.batches(count))[0]


def test_the_rows_are_these():
    assert CLOSED == ["knn", "logistic", "ncm"]


def test_nearest_class_mean_is_the_nearest_of_the_means(build):
    method = build("ncm", "shots=7")
    method.step(0)
    x, y = arrays(method)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([x[y == c].mean(0) for c in range(10)])
    held = next(method.target.split.batches(50))[0]
    with torch.no_grad():
        feature = method.net.features(held).numpy().astype(np.float64)
        logits = method.predict(held).numpy()
    feature /= np.linalg.norm(feature, axis=1, keepdims=True)
    distance = ((feature[:, None] - means) ** 2).sum(-1)
    np.testing.assert_allclose(logits, -distance, atol=2e-5)


def test_one_nearest_neighbor_is_scikit_learns(build):
    method = build("knn", "method.num_neighbors=1", "shots=9")
    method.step(0)
    x, y = arrays(method)
    reference = KNeighborsClassifier(1, metric="cosine").fit(x, y)
    held = images(method)
    with torch.no_grad():
        expected = reference.predict(method.net.features(held).numpy().astype(np.float64))
        assert method.predict(held).argmax(1).tolist() == expected.tolist()


def test_votes_are_weighted_by_similarity(build):
    method = build("knn", "method.num_neighbors=3", "method.temperature=0.5", "shots=4")
    known = torch.eye(4)
    labels = torch.tensor([0, 1, 1, 2])
    feature = torch.tensor([[0.8, 0.5, 0.2, 0.1]])
    weight = np.exp(np.array([0.8, 0.5, 0.2]) / 0.5)
    expected = np.array([weight[0], weight[1] + weight[2], 0]) / weight.sum()
    found = method.head.votes(nearest(feature, known, 4), labels, 3)[0].exp().numpy()
    np.testing.assert_allclose(found[:3], expected, atol=2e-6)
    assert found[3:].max() < 2e-6


@pytest.mark.parametrize("classes", [10, 2])
def test_logistic_regression_is_scikit_learns(build, classes):
    method = build("logistic", "method.inverse_penalty=0.1", "shots=8", "method.max_iterations=2000")
    x, y = arrays(method)
    rows = np.flatnonzero(y < classes)
    method.target.split = method.target.split.subset(torch.from_numpy(rows))
    method.step(0)
    center = x[rows].mean(0)
    scale = np.sqrt(((x[rows] - center) ** 2).mean())
    strength = 0.2 if classes == 2 else 0.1  # scikit-learn has one row of weights for two classes
    reference = Fitted(C=strength, max_iter=5000, tol=1e-8).fit((x[rows] - center) / scale, y[rows])
    held = images(method)
    with torch.no_grad():
        expected = reference.predict_proba((method.net.features(held).numpy() - center) / scale)
        found = method.predict(held).softmax(1).numpy()
    np.testing.assert_allclose(found[:, :classes], expected, atol=3e-3)
    assert found[:, classes:].sum() < 1e-6  # classes without a training image are never predicted


def test_the_penalty_is_the_best_on_the_holdout(build):
    method = build("logistic", "shots=5")
    method.step(0)
    x, y = arrays(method)
    center = x.mean(0)
    scale = np.sqrt(((x - center) ** 2).mean())
    with torch.no_grad():
        held = torch.cat([method.net.features(x) for x, _ in method.holdout.split.batches(64)]).numpy()
    labels = method.holdout.split.labels.numpy()

    def score(value: float) -> float:
        return (
            Fitted(C=value, max_iter=3000).fit((x - center) / scale, y).score((held - center) / scale, labels)
        )

    chosen = score(float(method.inverse_penalty))
    assert chosen >= max(score(value) for value in (1e-4, 1e-2, 1.0, 100.0)) - 2 / len(labels)


def test_folds_are_stratified_and_cover_every_image_once(build):
    method = build("knn", "protocol=trainval", "shots=6")
    assert method.holdout is None
    on = folds(method.problem, method.target.all(), None)
    labels = method.target.split.labels
    assert len(on) == 5
    assert sum(len(fold.held_labels) for fold in on) == len(labels)
    for fold in on:
        assert len(fold.labels) + len(fold.held_labels) == len(labels)
        share = fold.held_labels.bincount(minlength=10) / labels.bincount()
        assert (share - 0.2).abs().max() < 0.1
    method.step(0)
    assert int(method.k) >= 1


def test_a_class_of_one_image_is_only_fitted(build):
    method = build("knn", "protocol=trainval")
    labels = method.target.split.labels
    keep = torch.cat((torch.nonzero(labels == 3)[:1, 0], torch.nonzero(labels != 3)[:, 0]))
    method.target.split = method.target.split.subset(keep)
    problem = method.problem
    object.__setattr__(problem, "target", method.target.split)
    assert all((fold.labels == 3).sum() == 1 for fold in folds(problem, method.target.all(), None))


def test_the_first_of_equal_values_is_taken():
    assert best_value([3, 1, 2], lambda value, fold: torch.tensor(1.0), [None]) == 3
    assert best_value([3, 1, 2], lambda value, fold: torch.tensor(value == 2), [None]) == 2
    assert best_value([3, 1, 2], lambda value, fold: torch.tensor(0.0), []) == 3


def test_rows_share_one_pass_and_each_counts_its_seconds(config_of, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    passes = []
    batches = frozen_features.FrozenFeatures._key
    monkeypatch.setattr(FrozenFeatures, "_key", lambda own: passes.append(own.split.name) or batches(own))
    made = [run_one(config_of(name, "shots=5"), tmp_path / "results") for name in CLOSED]
    stored = list((tmp_path / "cache" / "features").iterdir())
    assert len(stored) == 2  # training images and holdout
    assert len(passes) == 5  # two rows choose on the holdout
    seconds = sum(float(np.load(file)["seconds"]) for file in stored)
    assert made[1]["seconds"]["prepare"] == pytest.approx(seconds, abs=0.05)
    assert [record["num_steps"] for record in made] == [1, 1, 1]


def test_other_weights_images_or_crops_have_other_features(build):
    def key(method) -> str:
        return FrozenFeatures(method.net, method.target.split, 8)._key()

    found = {
        key(build("ncm", *given))
        for given in (
            (),
            ("seed=1",),
            ("shots=3",),
            ("recipe.image_size=20",),
            ("recipe.crop_pct=0.5",),
            ("recipe.interpolation=bilinear",),
        )
    }
    assert len(found) == 6
    assert key(build("ncm")) in found


def test_equal_weights_in_another_architecture_have_other_features(build, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    own = ("backbone=test_resnet", "recipe.image_size=64", "shots=3")
    found = []
    for options in ((), ("backbone_options.global_pool=max",), ()):
        method = build("ncm", *own, *options)
        features = method.target.all()
        with torch.no_grad():
            again = torch.cat([method.net.features(x) for x, _ in method.target.split.batches(16)])
        assert torch.allclose(features, again, atol=1e-5)
        found.append(features)
    assert not torch.allclose(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_method_in_closed_form_has_one_step_and_no_trials(config_of):
    config = config_of("logistic", "tune=paper_grid")
    assert num_steps(config) == 1
    assert trials(config) == []
    assert _num_passes(config) > 100
