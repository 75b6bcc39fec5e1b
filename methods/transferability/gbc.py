"""GBC: how little the classes overlap, each as a Gaussian of the features.

Source: Pándy, Agostinelli, Uijlings, Ferrari, Mensink: Transferability Estimation using Bhattacharyya Class
Separability (arXiv 2111.12780): spherical Gaussians of the first 64 principal parts.
Departs from: the released code (google-research, stable_transfer) counts the variances of spherical Gaussians
once; here they count for each part, as in the distance itself.
"""

import numpy as np

from .principal import principal_parts

PARTS, LEAST_VARIANCE = 64, 1e-4


def gbc(feature_NF: np.ndarray, label_N: np.ndarray) -> float:
    """Return minus the sum of the Bhattacharyya coefficients of all ordered pairs of classes."""
    return overlap(principal_parts(feature_NF, most=PARTS), label_N)


def overlap(part_NP: np.ndarray, label_N: np.ndarray) -> float:
    """Return minus the sum of the coefficients, given the parts that the Gaussians are of."""
    of_class = [part_NP[label_N == c] for c in np.unique(label_N)]
    mean_CP = np.stack([own.mean(0) for own in of_class])
    variance_C = np.array([np.maximum(own.var(0), LEAST_VARIANCE).mean() for own in of_class])
    between_CC = (variance_C[:, None] + variance_C) / 2
    square_CC = ((mean_CP[:, None] - mean_CP) ** 2).sum(-1)
    distance_CC = square_CC / between_CC / 8
    distance_CC += part_NP.shape[1] / 2 * np.log(between_CC / np.sqrt(variance_C[:, None] * variance_C))
    return -float(np.exp(-distance_CC).sum() - len(of_class))
