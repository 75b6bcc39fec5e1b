"""Print the holdout of a local data set, in the format of `splits/<name>.txt`.

`python -m transferbench.datasets.loading.print_holdout pets > datasets/splits/pets.txt`
"""

import sys
from importlib import import_module

from ..download import locate
from ..reading.holdout import SEED, key


def main(name: str) -> None:
    """Print two lines on how the holdout was drawn, then one line per image."""
    module = import_module(f"..{name}", __package__)
    rows = module.read(locate.locate(name, module.ABOUT)).parts["holdout"]
    print(f"# {name}: the {len(rows)} holdout images; the rest of the official training list is train.")
    print(
        f"# Drawn stratified by class, by a hash of seed {SEED} and image name (datasets/reading/holdout.py)."
    )
    print("\n".join(sorted(key(r) for r in rows)))


if __name__ == "__main__":
    main(sys.argv[1])
