"""TransRate: how many bits of the features' coding the classes save.

Source: Huang, Huang, Rong, Yang, Wei: Frustratingly Easy Transferability Estimation (arXiv 2106.09207), with
a distortion of 1e-4. It depends on the scale of the features: compare networks of one family.
"""

import numpy as np

DISTORTION = 1e-4


def transrate(feature_NF: np.ndarray, label_N: np.ndarray) -> float:
    """Return the coding rate of the features less that of the classes, in nats."""
    centered = feature_NF.astype(np.float64)
    centered = centered - centered.mean(0)
    classes = [centered[label_N == c] for c in np.unique(label_N)]
    return _rate(centered) - sum(len(own) / len(label_N) * _rate(own) for own in classes)


def _rate(feature_NF: np.ndarray) -> float:
    """Return the coding rate of features around zero, by the smaller of the two products."""
    num_images, num_features = feature_NF.shape
    square = feature_NF @ feature_NF.T if num_images < num_features else feature_NF.T @ feature_NF
    _, logarithm = np.linalg.slogdet(np.eye(len(square)) + square / (num_images * DISTORTION))
    return float(logarithm) / 2
