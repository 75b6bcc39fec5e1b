"""The digits of SVHN, 60 images each in every part: the small target of L2TL's released code of 2019.

Images are gray, as in that code. Holdout and test part are both from SVHN's test set. That code does not seed
its draws; here they are drawn as in `svhn5`, with seed 0.
"""

from dataclasses import replace
from pathlib import Path

from . import svhn
from .about import Listing
from .mnist import DIGITS

ABOUT = replace(
    svhn.ABOUT,
    title="SVHN, 60 images a digit as in L2TL's code of 2019 (Netzer et al. 2011, Zhu et al. 2019)",
    sizes={"train": 600, "holdout": 600, "test": 600},
    folders=("svhn", "svhn5", "SVHN"),
    preset="code_svhn_2019",
    notes=("the holdout comes from SVHN's test set",),
)


def read(root: Path) -> Listing:
    """Draw from the two .mat files."""
    return Listing(DIGITS, svhn.draw_small_set(root, (1, 2, 3, 4, 5, 6, 7, 8, 9, 0), ABOUT.sizes))
