"""The target of the embedded pair: scikit-learn's 1,797 handwritten digits, 8x8 pixels enlarged to 16x16."""

import numpy as np

from .about import About

CLASSES: tuple[str, ...] = tuple("0123456789")
ABOUT = About(
    title="Handwritten digits of scikit-learn (Alpaydin and Kaynak 1998)",
    homepage="https://archive.ics.uci.edu/dataset/80",
    license="CC BY 4.0",
    num_classes=10,
    sizes={"train": 600, "holdout": 400, "test": 797},
    source="glyphs",
    preset="embedded",
    hflip=False,
)
SPLIT_SEED = 0
PER_CLASS = {"train": 60, "holdout": 40}  # the rest, 797 images, is the test part


def enlarge(small: np.ndarray) -> np.ndarray:
    """Enlarge gray images to twice their side, bilinear; used for both sets of the pair.

    Args:
        small: ink fractions in 0..1 [N, S, S].

    Returns:
        uint8 images, white ink on black [N, 2S, 2S].
    """
    side = small.shape[-1]
    # Pixel centers of the large grid in coordinates of the small one; the border repeats its last pixel.
    center = np.clip((np.arange(2 * side) - 0.5) / 2, 0, side - 1)
    weight = np.maximum(0, 1 - np.abs(center[:, None] - np.arange(side)))  # [2S, S]
    return np.rint(255 * (weight @ small @ weight.T)).astype(np.uint8)


def split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Split stratified by class; every call returns the same.

    Args:
        labels: class numbers [N].

    Returns:
        Part names, mapped to the sorted positions of their images; each position occurs once.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    parts: dict[str, list[np.ndarray]] = {"train": [], "holdout": [], "test": []}
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum(list(PER_CLASS.values()))
        for part, positions in zip(parts.values(), np.split(own, cuts), strict=True):
            part.append(positions)
    return {name: np.sort(np.concatenate(positions)) for name, positions in parts.items()}


def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the digits that scikit-learn ships.

    Returns:
        Part names, mapped to uint8 images [N, 16, 16] and int64 labels [N].
    """
    # Imported late: scikit-learn belongs to the extra `train`, and planning does not need it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = enlarge(bunch.images / 16)
    labels = bunch.target.astype(np.int64)
    return {name: (pixels[own], labels[own]) for name, own in split(labels).items()}
