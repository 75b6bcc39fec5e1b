"""NLEEP: LEEP with the clusters of a Gaussian mixture of the features in place of source classes.

Source: Li, Jia, Sang, Zhu, Green, Wang, Gong: Ranking Neural Checkpoints (arXiv 2011.11200), section 3.
Departs from: clusters have diagonal covariances, and there are at most as many as a tenth of the images, or
as the classes: few labels give no more of them.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from .leep import leep
from .principal import principal_parts

KEPT, PER_CLASS, IMAGES_EACH = 0.8, 5, 10


def nleep(feature_NF: np.ndarray, label_N: np.ndarray) -> float:
    """Return LEEP by the probabilities of clusters, on the parts that hold 80 % of the variance."""
    num_classes = len(np.unique(label_N))
    most = max(num_classes, len(label_N) // IMAGES_EACH)
    part_NP = principal_parts(feature_NF, share=KEPT)
    mixture = GaussianMixture(min(PER_CLASS * num_classes, most), covariance_type="diag", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(part_NP)
    return leep(mixture.predict_proba(part_NP), label_N)
