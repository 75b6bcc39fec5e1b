"""H-score with shrinkage: how much of the features' variance lies between classes.

Source: Bao, Li, Huang, Zhang, Zheng, Zamir, Guibas: An Information-Theoretic Approach to Transferability
(ICIP 2019); Ledoit and Wolf's covariance, as in Ibrahim, Ponomareva, Mazumder: Newer is not always better
(arXiv 2110.06893).
"""

import numpy as np
from sklearn.covariance import ledoit_wolf

LEAST, TINY = 1e-14, 1e-300  # added variance, as a share of all of it: the covariance has an inverse


def hscore(feature_NF: np.ndarray, label_N: np.ndarray) -> float:
    """Return the trace of the inverse of the shrunk covariance times the one of the class means."""
    centered = feature_NF.astype(np.float64)
    centered = centered - centered.mean(0)
    covariance_FF, shrinkage = ledoit_wolf(centered, assume_centered=True)
    classes, place_N, count_C = np.unique(label_N, return_inverse=True, return_counts=True)
    total_CF = np.zeros((len(classes), centered.shape[1]))
    np.add.at(total_CF, place_N, centered)
    weighted_CF = total_CF / np.sqrt(count_C * (len(label_N) - 1))[:, None]  # squares sum to their covariance
    covariance_FF.flat[:: len(covariance_FF) + 1] += LEAST * np.trace(covariance_FF) + TINY
    return float((1 - shrinkage) * (weighted_CF * np.linalg.solve(covariance_FF, weighted_CF.T).T).sum())
