"""Find a data set by name or path: each file of this folder that says what it is `ABOUT` is one.

It offers `ABOUT`, and `read(root)` when it reads an official layout, `images()` when it makes arrays.
"""

import difflib
import importlib
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

from .. import InputError
from . import planted
from .about import About
from .base import Dataset
from .download import locate
from .loading import generated, image_folder, official

HAS_ABOUT = re.compile(r"^ABOUT\b", re.MULTILINE)  # told without an import


@cache
def names() -> tuple[str, ...]:
    """List the known data sets."""
    files = Path(__file__).parent.glob("*.py")
    return tuple(sorted(f.stem.replace("_", "-") for f in files if HAS_ABOUT.search(f.read_text())))


@lru_cache(maxsize=8)
def load(name: str, as_source: bool = False) -> Dataset:
    """Load a data set by name, fetched if need be, or a folder or tar by path, or plant one.

    Raises: InputError for an unknown name, with the nearest known ones, and for images that are
        neither here nor can be fetched.
    """
    if plan := planted.parse(name):
        return planted.plant(plan, load(plan.source, as_source=True), load(plan.target))
    if about(name) is None:
        return image_folder.load(Path(name), as_source)
    module = _module(name)
    return (generated if hasattr(module, "images") else official).load(name, module)


def require(wanted: Sequence[str], fetch: bool = True) -> None:
    """See that data sets are here, or fetch them: first those that only a person can get.

    Raises: MissingData that names all that is missing.
    """
    plans = [(name, planted.parse(name)) for name in wanted]
    names_ = [part for name, plan in plans for part in ((plan.source, plan.target) if plan else (name,))]
    known = {name: found for name in names_ if (found := about(name)) and found.probes}
    missing = [name for name, found in known.items() if locate.find_or_unpack(name, found) is None]
    errors: list[str] = []
    for name in sorted(missing, key=lambda n: known[n].fetchable):
        if known[name].fetchable and (errors or not fetch):
            errors.append(
                f"{name}: not here; a bench fetches it{' once the rest is there' if errors else ''}"
            )
            continue
        try:
            locate.locate(name, known[name])
        except locate.MissingData as error:
            errors.append(str(error))
    if errors:
        raise locate.MissingData("\n".join(errors))


def about(name: str) -> About | None:
    """Give what is known of a data set without its images; None for a path.

    Raises: InputError for an unknown name, with the nearest known ones.
    """
    if name in names():
        return _module(name).ABOUT
    if planted.parse(name):
        return None
    if name and Path(name).exists() or "/" in name or name.endswith(".tar"):
        return None
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise InputError(
        f"no data set '{name}'{hint} Known: {', '.join(names())}, or a path to images "
        "(`transferbench data list`)"
    )


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{name.replace('-', '_')}", __package__)
