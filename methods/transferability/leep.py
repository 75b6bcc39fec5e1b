"""LEEP: the likelihood of the labels, predicted from a source classifier's probabilities.

Source: Nguyen, Hassner, Seeger, Archambeau: LEEP: A New Measure to Evaluate Transferability of Learned
Representations (arXiv 2002.12462), section 3.
"""

import numpy as np


def leep(probability_NS: np.ndarray, label_N: np.ndarray) -> float:
    """Return the mean log probability of the labels, given each source class's share of them."""
    probability_NS = probability_NS.astype(np.float64)
    label_NC = (label_N[:, None] == np.unique(label_N)).astype(np.float64)
    joint_CS = label_NC.T @ probability_NS
    share_CS = joint_CS / np.maximum(joint_CS.sum(0), 1e-300)
    predicted_N = ((probability_NS @ share_CS.T) * label_NC).sum(1)
    return float(np.log(np.maximum(predicted_N, 1e-300)).mean())
