"""Find out which folders are classes, of which part: `split/class/image` or `class/image`.

The rule sees only the folders that have images in them, so that documents beside the images change nothing.
It is the same for folders, tars and shards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import InputError
from ..files.folder_names import part_of


@dataclass(frozen=True)
class Layout:
    """The meaning of the folders that have images in them.

    Attributes:
        wrapper: path of a folder around everything, as archives have it, with a slash at the end; or empty.
        is_split: whether the layout is split/class/image, not class/image.
        parts: part of each folder; empty if it is not a class folder but above one.
        classes: class of each folder; empty if it is not a class folder.
    """

    wrapper: str
    is_split: bool
    parts: list[str]
    classes: list[str]

    @property
    def depth(self) -> int:
        """Return the number of folders from the wrapper to a class folder."""
        return 1 + self.is_split

    def class_folder(self, folder: str) -> str:
        """Return the class folder, below the wrapper, that a folder is or is in; empty if there is none."""
        names = names_below(folder, self.wrapper)
        inside = f"{folder}/".startswith(self.wrapper) and len(names) >= self.depth
        return "/".join(names[: self.depth]) if inside and (not self.is_split or part_of(names[0])) else ""


def find_layout(path: Path, folders: Sequence[str]) -> Layout | None:
    """Find the layout of a data set; None if it is not known.

    Args:
        path: the data set, for messages.
        folders: all folders that have images in them.

    Raises:
        InputError: if there are no training images, or a part has several names.
    """
    found = _wrapper_of(folders)
    if found is None:
        return None
    wrapper, is_split = found
    inner = [names_below(folder, wrapper) for folder in folders]
    inner = [names if len(names) == 1 + is_split else () for names in inner]
    if is_split:
        _check_part_names(path, {names[0] for names in inner if names})
    parts = [(part_of(names[0]) if is_split else "train") if names else "" for names in inner]
    if "train" not in parts:
        raise InputError(f"{path}: no 'train' images; put class folders into {path}/train/")
    return Layout(wrapper, is_split, parts, [names[-1] if names else "" for names in inner])


def _wrapper_of(folders: Sequence[str]) -> tuple[str, bool] | None:
    """Return the wrapper, and whether the layout is split/class/image; None if it is not known.

    Images that are not deep enough to be in a class folder are allowed, and folders beside the parts without
    a class of theirs: they are left out. A folder with such a class is probably a part with another name.
    """
    wrapper = ""
    while True:
        inner = [names for folder in folders if (names := names_below(folder, wrapper))]
        deepest = max(map(len, inner), default=0)
        all_parts = all(part_of(names[0]) for names in inner)
        if (deepest == 2 and all_parts) or _has_classes_in_parts(inner):
            return wrapper, True
        if deepest == 1 and not all_parts:
            return wrapper, False
        tops = {names[0] for names in inner}
        if len(tops) > 1:  # of several folders, one may have the parts, as images/train beside masks
            tops = {top for top in tops if _has_classes_in_parts(n[1:] for n in inner if n[0] == top)}
        if len(tops) != 1 or (all_parts and not all(part_of(names[1]) for names in inner if names[1:])):
            return None
        wrapper += f"{tops.pop()}/"


def _has_classes_in_parts(inner: Iterable[Sequence[str]]) -> bool:
    """Return whether there is a part `train` with class folders, and no class of it is anywhere else."""
    inner = [names for names in inner if names]
    deepest = max((len(names) for names in inner if part_of(names[0])), default=0)
    classes = {names[1] for names in inner if len(names) == 2 and part_of(names[0]) == "train"}
    elsewhere = {name for names in inner if not part_of(names[0]) for name in names}
    return deepest == 2 and bool(classes) and not classes & elsewhere


def names_below(folder: str, wrapper: str) -> tuple[str, ...]:
    """Return the names in the path of a folder, below the wrapper."""
    return tuple(filter(None, f"{folder}/".removeprefix(wrapper).split("/")))


def strange_folders(folders: Sequence[str]) -> list[int]:
    """Return the numbers of the folders that do not fit a layout that is not known."""
    inner = [names_below(folder, "") for folder in folders]
    if any(len(names) == 2 and part_of(names[0]) for names in inner):
        return [n for n, names in enumerate(inner) if names and (len(names) > 2 or not part_of(names[0]))]
    return [n for n, names in enumerate(inner) if len(names) > 1] or list(range(len(inner)))


def _check_part_names(path: Path, names: Iterable[str]) -> None:
    """Check that each part has one name. Raises InputError if there are several, as val and valid."""
    known: dict[str, str] = {}
    for name in sorted(names):
        part = part_of(name)
        if (other := known.setdefault(part, name)) != name:
            raise InputError(
                f"{path}: '{other}' and '{name}' both mean the part '{part}'; expected one of them"
            )
