"""Groups of images that a draw keeps together, such as all photos of one patient: `groups=`."""

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from ... import InputError
from ..base import Dataset
from ..reading import near_duplicates
from ..storage.index import Numbering
from ..storage.table import IndexedImages

FOLDER, NEAR = "folder", "near"


def groups_of(dataset: Dataset, groups: str) -> np.ndarray:
    """Return the number of each training image's group [N].

    Args:
        dataset: the data set.
        groups: `folder`: the folder that an image is in; `near`: images that are near-identical to each
            other, also by way of others; or the name of a column of its list.

    Raises:
        InputError: there is no such column, or the images have no folders.
    """
    train = dataset.part("train")
    if groups == NEAR:
        return _joined(len(train.labels), near_duplicates.overlap(dataset, "train", dataset, "train"))
    if groups == FOLDER:
        if not isinstance(train.images, IndexedImages):
            raise InputError(f"groups={groups}: the images of {dataset.name} are not files; expected near")
        return _numbers(str(PurePosixPath(train.images.path(i)).parent) for i in range(len(train.labels)))
    if groups not in train.columns:
        known = ", ".join((FOLDER, NEAR, *train.columns))
        raise InputError(f"groups={groups}: {dataset.name} has no such column; expected one of {known}")
    names = train.columns[groups].tolist()
    if missing := names.count(""):
        raise InputError(
            f"groups={groups}: {missing:,} of {len(names):,} images of {dataset.name} have nothing in that"
            " column; expected a group for each"
        )
    return _numbers(names)


def _numbers(names: Iterable[str]) -> np.ndarray:
    number = Numbering()
    return np.array([number[name] for name in names], np.int64)


def _joined(size: int, pairs: np.ndarray) -> np.ndarray:
    """Return the number of each row's connected component [size], given pairs of rows [P,2]."""
    from scipy.sparse import coo_array  # slow imports
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return connected_components(edges, directed=False)[1].astype(np.int64)
