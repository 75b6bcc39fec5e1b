"""Principal parts of features: the directions of the largest variance."""

import numpy as np


def principal_parts(feature_NF: np.ndarray, share: float = 1.0, most: int | None = None) -> np.ndarray:
    """Return centered features along the first directions [N,P].

    Args:
        feature_NF: the features.
        share: share of the variance that the directions have to hold, 0 to 1.
        most: largest number of directions; None: any.
    """
    centered = feature_NF.astype(np.float64)
    centered = centered - centered.mean(0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    held = np.cumsum(singular**2) / max((singular**2).sum(), 1e-300)
    count = min(int(np.searchsorted(held, share) + 1), len(singular))
    return (left * singular)[:, : min(count, most or count)]
