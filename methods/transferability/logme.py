"""LogME: the largest evidence of a Bayesian linear model of the labels on the features.

Source: You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer Learning (arXiv
2102.11005), and the fixed point of its extension (arXiv 2110.10545); released code `thuml/LogME`.
Departs from: with more features than images the released fixed point counts directions of the prior that the
images do not reach; here they cancel, as in the evidence itself. The iteration runs until it is exact.
"""

import numpy as np

STEPS, TOLERANCE = 500, 1e-8
LEAST = 1e-12  # smallest share of the largest variance that counts as a direction


def logme(feature_NF: np.ndarray, label_N: np.ndarray) -> float:
    """Return the mean over classes of the log evidence per image."""
    left, singular, _ = np.linalg.svd(feature_NF.astype(np.float64), full_matrices=False)
    variance = singular**2
    kept = variance > LEAST * variance.max()
    label_NC = (label_N[:, None] == np.unique(label_N)).astype(np.float64)
    found = [_evidence(left[:, kept].T @ y, variance[kept], float(y @ y), len(y)) for y in label_NC.T]
    return float(np.mean(found))


def _evidence(part: np.ndarray, variance: np.ndarray, square: float, num_images: int) -> float:
    """Return the log evidence per image, maximized over the precisions of weights and noise.

    Args:
        part: the label's parts along the directions of the features.
        variance: the squared singular values of these directions.
        square: the label's squared length.
        num_images: its number of images.
    """
    outside = max(square - float(part @ part), 0.0)
    alpha = beta = 1.0
    for _ in range(STEPS):
        ratio = alpha / beta
        used = float((variance / (variance + ratio)).sum())
        weights = float((variance * part**2 / (variance + ratio) ** 2).sum())
        errors = float((part**2 / (1 + variance / ratio) ** 2).sum()) + outside
        alpha, beta = used / (weights + 1e-12), (num_images - used) / (errors + 1e-12)
        if abs(alpha / beta - ratio) <= TOLERANCE * ratio:
            break
    evidence = len(part) * np.log(alpha) + num_images * np.log(beta / (2 * np.pi))
    evidence -= np.log(alpha + beta * variance).sum() + beta * errors + alpha * weights
    return float(evidence / (2 * num_images))
