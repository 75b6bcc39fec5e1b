"""Scores of features against independent computations, and against planted separability."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from transferbench.methods.transferability.gbc import gbc, overlap
from transferbench.methods.transferability.hscore import hscore
from transferbench.methods.transferability.leep import leep
from transferbench.methods.transferability.logme import logme
from transferbench.methods.transferability.nleep import nleep
from transferbench.methods.transferability.principal import principal_parts
from transferbench.methods.transferability.transrate import transrate

SCORES = (logme, nleep, hscore, transrate, gbc)


def planted(apart: float, images: int = 15, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return features of four classes whose means are so far apart, and labels."""
    random = np.random.default_rng(5)
    labels = np.repeat(np.arange(4), images)
    return random.normal(size=(4 * images, width)) + apart * random.normal(size=(4, width))[labels], labels


@pytest.mark.parametrize(("images", "width"), [(15, 8), (5, 40)])
def test_logme_is_the_largest_evidence(images, width):
    features, labels = planted(1.0, images, width)
    found = []
    for c in range(4):
        y = (labels == c).astype(float)

        def evidence(log_ratio, y=y):  # the noise has a best variance for each ratio of the precisions
            shape = np.eye(len(y)) + features @ features.T / np.exp(log_ratio)
            noise = y @ np.linalg.solve(shape, y) / len(y)
            return multivariate_normal(np.zeros(len(y)), noise * shape).logpdf(y) / len(y)

        found.append(max(map(evidence, np.linspace(-12, 12, 2401))))
    assert logme(features, labels) == pytest.approx(np.mean(found), abs=1e-5)


def test_logme_and_transrate_are_those_of_released_code():
    features, labels = planted(1.0)
    assert logme(features, labels) == pytest.approx(-0.4875209, abs=1e-5)  # thuml/LogME, fixed point
    assert transrate(features, labels) == pytest.approx(1.80425057, abs=1e-7)  # tllib.ranking


def test_leep_counts():
    probabilities = np.array([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]])
    labels = [0, 1, 1]
    expected = 0.0
    for p, y in zip(probabilities, labels, strict=True):
        of_label = 0.0
        for z in range(2):
            joint = sum(q[z] for q, own in zip(probabilities, labels, strict=True) if own == y)
            of_label += p[z] * joint / sum(q[z] for q in probabilities)
        expected += np.log(of_label) / 3
    assert leep(probabilities, np.array(labels)) == pytest.approx(expected, abs=1e-12)
    assert leep(np.eye(3), np.array([2, 0, 1])) == pytest.approx(0)


@pytest.mark.parametrize("width", [8, 200])
def test_hscore_has_the_covariance_of_ledoit_and_wolf(width):
    features, labels = planted(1.0, width=width)
    shrunk = LedoitWolf().fit(features)
    means = np.stack([features[labels == c].mean(0) for c in labels])
    expected = (1 - shrunk.shrinkage_) * np.trace(np.linalg.inv(shrunk.covariance_) @ np.cov(means.T))
    assert hscore(features, labels) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("width", [8, 40])
def test_transrate_is_a_difference_of_determinants(width):
    features, labels = planted(1.0, width=width)
    centered = features - features.mean(0)

    def rate(x):
        return np.linalg.slogdet(np.eye(width) + x.T @ x / (len(x) * 1e-4))[1] / 2

    expected = rate(centered) - np.mean([rate(centered[labels == c]) for c in range(4)])
    assert transrate(features, labels) == pytest.approx(expected, rel=1e-9)


def test_gbc_is_the_overlap_of_densities():
    random = np.random.default_rng(1)
    parts, labels = random.normal(size=(40, 1)) * np.repeat([1.0, 2.0], 20)[:, None], np.repeat([0, 1], 20)
    x = np.linspace(-15, 15, 20_001)
    of_class = [parts[labels == c, 0] for c in (0, 1)]
    density = [multivariate_normal(own.mean(), own.var()).pdf(x) for own in of_class]
    area = np.sqrt(density[0] * density[1]).sum() * (x[1] - x[0])
    assert overlap(parts, labels) == pytest.approx(-2 * area, abs=1e-6)


def test_principal_parts_hold_the_variance():
    features, _ = planted(1.0)
    values = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    parts = principal_parts(features, share=0.8)
    np.testing.assert_allclose(parts.var(0, ddof=1), values[: parts.shape[1]])
    assert values[: parts.shape[1]].sum() >= 0.8 * values.sum() > values[: parts.shape[1] - 1].sum()
    assert principal_parts(features, most=3).shape == (60, 3)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("width", [8, 100])
def test_features_that_are_apart_score_higher(score, width):
    found = [score(*planted(apart, width=width)) for apart in (0.0, 0.5, 1.0, 2.0)]
    assert all(b > a - 1e-9 for a, b in pairwise(found))
    assert found[-1] > found[0]
    assert np.isfinite(found).all()


@pytest.mark.parametrize("score", SCORES)
def test_constant_and_repeated_features_have_a_score(score):
    features, labels = planted(1.0)
    features = np.concatenate((features, features[:, :2], np.zeros((60, 3))), axis=1)
    assert np.isfinite(score(features, labels))
