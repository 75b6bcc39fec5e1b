"""Class names for WordNet synsets (ImageNet's classes), from the list that timm ships."""

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

LEMMAS = "data/_info/imagenet_synset_to_lemma.txt"  # a line is an id, a tab and the lemmas


def class_names(wnids: Sequence[str]) -> tuple[str, ...]:
    """Return unique class names: each the first unique choice of one lemma, two lemmas, or lemma and id.

    An id that is not in the list keeps its id as name. The list has all ids of ImageNet-21k.
    """
    known = _lemmas()
    lemmas = [known.get(wnid, wnid).split(", ") for wnid in wnids]
    one, two = ([", ".join(own[:count]) for own in lemmas] for count in (1, 2))
    have_one, have_two = Counter(one), Counter(two)
    return tuple(
        a if have_one[a] == 1 else b if have_two[b] == 1 else f"{a} ({wnid})"
        for a, b, wnid in zip(one, two, wnids, strict=True)
    )


def _lemmas() -> dict[str, str]:
    """Read timm's file without importing timm, which is slow; return nothing if timm is not installed."""
    spec = find_spec("timm")
    for folder in spec.submodule_search_locations or () if spec else ():
        if (file := Path(folder) / LEMMAS).exists():
            return dict(line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
    return {}
