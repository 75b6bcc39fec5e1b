"""Find a data set by name or path.

Each file of this folder that defines `ABOUT` is a data set. It also defines `read(root)` if it reads an
official layout, or `images()` if it generates arrays.
"""

import hashlib
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

from .. import InputError, suggest
from ..user_text import is_path, long_path_name
from . import planted
from .about import About
from .base import Dataset
from .download import locate
from .files.folder_names import is_dropping, part_of
from .loading import generated, hub, image_folder, image_list, official, packed
from .loading.draw import FOLDS, check_folds, fold, parts_of
from .loading.draw import draw as draw_parts

HAS_ABOUT = re.compile(r"^ABOUT\b", re.MULTILINE)  # found without an import


@cache
def names() -> tuple[str, ...]:
    """Return the names of the known data sets."""
    files = Path(__file__).parent.glob("*.py")
    return tuple(
        sorted(f.stem.replace("_", "-") for f in files if HAS_ABOUT.search(f.read_text(encoding="utf-8")))
    )


@lru_cache(maxsize=16)
def load(
    name: str,
    as_source: bool = False,
    draw: str | None = None,
    groups: str | None = None,
    seed: int | None = None,
) -> Dataset:
    """Load a data set by name (downloaded if necessary), a folder or tar by path, or a planted source.

    Args:
        name: name or path.
        as_source: a source needs no test images.
        draw: parts that a target lacks and that are drawn from its training images; not used for a source,
            but for the target in a planted source, which has that target's training images. A holdout that
            the user's images lack beside a test part is drawn without being asked for.
        groups: images that a draw keeps together: `folder`, `near` or a column of a list, see
            `loading/groups.py`. All parts that are missing are then drawn. For targets, like `draw`.

        seed: with `draw=folds`, the seed whose test part is wanted; None: the parts that all seeds share.

    Raises:
        InputError: for an unknown name, with the nearest known one, and for images that are missing
            and cannot be downloaded.
    """
    if plan := planted.parse(name):
        if draw == FOLDS:
            raise InputError(f"draw={FOLDS}: a planted source has training images; expected another source")
        target = load(plan.target, draw=draw, groups=groups)
        return planted.plant(plan, load(plan.source, as_source=True), target)
    if as_source:
        return _undrawn(name, as_source)
    found = _undrawn(name, groups=groups)
    missing = [part for part in ("holdout", "test") if part not in found.parts]
    if draw == FOLDS and not groups:
        check_folds(found)
        return found if seed is None else fold(found, seed)
    wanted = parts_of(draw) if draw else missing if groups else ()
    if not draw and is_own(name) and missing == ["holdout"]:
        wanted = ("holdout",)
    if groups and not wanted:
        raise InputError(
            f"groups={groups}: {found.name} has its own holdout and test images, and nothing is drawn; "
            "expected no groups"
        )
    return draw_parts(found, wanted, groups) if wanted else found


def _undrawn(name: str, as_source: bool = False, groups: str | None = None) -> Dataset:
    """Load a data set with the parts that it has; with groups, the user's images are not yet split."""
    if hub.is_hub(name):
        return hub.load(name)
    if about(name) is None:
        return _own(Path(name), as_source, groups)
    module = _module(name)
    return (generated if hasattr(module, "images") else official).load(name, module)


def _own(path: Path, as_source: bool, groups: str | None) -> Dataset:
    """Load the user's images: a list, a folder or archive, or a folder whose metadata file is the list.

    Class folders come first. A metadata file counts where there are none.
    """
    if image_list.is_list(path):
        return image_list.load(path, [path], as_source, bool(groups))
    if packed.is_packed(path):
        return _packed(path, as_source, groups)
    lists = image_list.metadata_of(_inside(path)) if path.is_dir() else []
    try:
        found = image_folder.load(path, as_source, groups)
    except InputError:
        if not lists and not packed.holds_list(path):
            raise
        found = None
    if found is None or len(found.classes) < 2:
        if lists:
            return image_list.load(path, lists, as_source, bool(groups))
        if found is None or packed.holds_list(path):
            return _packed(path, as_source, groups)
    if not lists:
        return found
    line = (
        f"{found.name}: the folders are the classes; for the labels of {lists[0].name} give target={lists[0]}"
    )
    return replace(found, left_out=(*found.left_out, line))


def _packed(archive: Path, as_source: bool, groups: str | None) -> Dataset:
    """Load the user's images from an archive that has to be unpacked; errors name the archive."""
    folder = packed.unpacked(archive)
    try:
        return _own(folder, as_source, groups)
    except InputError as error:
        raise InputError(str(error).replace(str(folder), str(archive))) from error


def _inside(folder: Path) -> Path:
    """Return the folder in which the images are: archives often have one around everything."""
    inner = [place for place in folder.iterdir() if not is_dropping(place.name)]
    is_around = len(inner) == 1 and inner[0].is_dir() and not part_of(inner[0].name)
    return _inside(inner[0]) if is_around else folder


def require(wanted: Sequence[str], fetch: bool = True) -> None:
    """Check that data sets are present, or download them; those that need manual steps come first.

    Raises:
        MissingData: names every missing data set.
    """
    plans = [(name, planted.parse(name)) for name in wanted]
    names_ = [part for name, plan in plans for part in ((plan.source, plan.target) if plan else (name,))]
    known = {name: found for name in names_ if (found := about(name)) and found.probes}
    missing = [name for name, found in known.items() if locate.find_or_unpack(name, found) is None]
    errors = [
        f"{name}: missing; a bench downloads it" for name in names_ if not fetch and hub.is_missing(name)
    ]
    for name in sorted(missing, key=lambda n: known[n].fetchable):
        if known[name].fetchable and (errors or not fetch):
            errors.append(
                f"{name}: missing; a bench downloads it{' once the others are present' if errors else ''}"
            )
            continue
        try:
            locate.locate(name, known[name])
        except locate.MissingData as error:
            errors.append(str(error))
    if errors:
        raise locate.MissingData("\n".join(errors))


def about(name: str) -> About | None:
    """Return the `ABOUT` of a data set; None for a path or a planted source.

    Raises:
        InputError: for an unknown name, with the nearest known one.
    """
    if name in names():
        return _module(name).ABOUT
    if planted.parse(name) or hub.is_hub(name):
        return None
    if name and Path(name).exists() or is_path(name):
        return None
    raise InputError(
        f"no data set '{name}'{suggest(name, names())} Known: {', '.join(names())}, or a path to images "
        "(`transferbench data list`)"
    )


def namesakes(role: str, name: str) -> Iterator[str]:
    """Yield a line for each known data set in a name that is also a folder or tar here.

    Args:
        role: setting that the name is given for, as `target`; empty for a name by itself.
        name: name of a data set.
    """
    plan = planted.parse(name)
    for known in (plan.source, plan.target) if plan else (name,):
        found = about(known)
        for here in (Path(known), Path(f"{known}.tar")):
            if (
                found is None
                or not here.exists()
                or (found.probes and here.resolve() in _read_from(known, found))
            ):
                continue
            kind = "folder" if here.is_dir() else "file"
            setting = f"{role}=" if role and not plan else ""
            yield (
                f"{setting}{known}: the known data set is used, not the {kind} ./{here}; "
                f"{setting}./{here} takes the {kind}"
            )


def _read_from(name: str, about: About) -> set[Path]:
    """Return the folder that a known data set is read from, and those above it."""
    found = locate.find(name, about)
    return {found.resolve(), *found.resolve().parents} if found else set()


def is_own(name: str) -> bool:
    """Return whether a name of a data set is a path to the user's images, not a known or planted set."""
    return name not in (*names(), "none") and planted.parse(name) is None


def recorded_name(name: str) -> dict[str, str]:
    """Return what a record tells of a data set's place.

    Returns:
        `name`, for a path with its parent folder, and `place`, a hash of the path; empty for a known set.
    """
    if not is_own(name):
        return {"name": planted.short_name(name), "place": ""}
    place = hashlib.sha256(os.fsencode(name if hub.is_hub(name) else Path(name).resolve())).hexdigest()[:8]
    return {"name": long_path_name(name), "place": place}


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{name.replace('-', '_')}", __package__)
