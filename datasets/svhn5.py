"""The digits 1 to 5 of SVHN, 60 training images each: the small target of L2TL's released code of 2020.

Images are gray, and `five` is class 0, as in that code. The draws follow the code step by step (its seed is
0), and give the same images from the official files. Its holdout is ten times the training set, and comes
from SVHN's test set, like the test part.
"""

from dataclasses import replace
from pathlib import Path

from . import svhn
from .about import Listing

ABOUT = replace(
    svhn.ABOUT,
    title="SVHN, digits 1 to 5 as in L2TL's code of 2020 (Netzer et al. 2011, Zhu et al. 2020)",
    num_classes=5,
    sizes={"train": 300, "holdout": 3_000, "test": 6_000},
    folders=("svhn", "svhn10", "SVHN"),
    preset="code_svhn",
    notes=("the holdout is ten times the training set, and comes from SVHN's test set",),
)
CLASSES = ("five", "one", "two", "three", "four")


def read(root: Path) -> Listing:
    """Draw from the two .mat files."""
    return Listing(CLASSES, svhn.draw_small_set(root, (1, 2, 3, 4, 5), ABOUT.sizes))
