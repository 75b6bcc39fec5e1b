"""Names the data sets of a results folder: two that share a name get different ones everywhere."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

ROLES = ("target", "source")
SHOWN = 6  # digits of a fingerprint


class Key(NamedTuple):
    """The images of one data set in one role; drawn parts of a source and a target may differ."""

    role: str
    name: str
    fingerprint: str


class Shown(NamedTuple):
    """How a data set is shown."""

    data_set: str  # without its state: the same after its images were changed
    name: str


@dataclass(frozen=True)
class _Seen:
    key: Key
    place: str  # hash of the folder; empty for a known set, and in records that do not tell it
    long_name: str
    ended: str


def shown_names(records: Iterable[Mapping[str, Any]]) -> dict[Key, Shown]:
    """Return how each data set is shown.

    A name of one data set stays as it is. Two data sets with one name are shown with their parent folder, or
    with a fingerprint if that is not enough. Folders with the same images are one data set that was moved;
    other images in the same folder are another state of one data set.

    Args:
        records: the records, or files of skipped rows, of one results folder.
    """
    by_name: dict[str, list[_Seen]] = defaultdict(list)
    for record in records:
        for role in ROLES:
            seen = _seen(record, role)
            by_name[seen.key.name].append(seen)
    return {key: shown for name, seen in by_name.items() for key, shown in _names_of_one(name, seen).items()}


def key_of(record: Mapping[str, Any], role: str) -> Key:
    """Return the key of a record's target or source."""
    data = record.get("fingerprints") or {}
    return Key(role, record[role], str(data.get(role, "")))


def _seen(record: Mapping[str, Any], role: str) -> _Seen:
    about = (record.get("data_sets") or {}).get(role) or {"name": record[role], "place": ""}
    return _Seen(key_of(record, role), about["place"], about["name"], record.get("ended") or "")


def _names_of_one(name: str, seen: Sequence[_Seen]) -> dict[Key, Shown]:
    """Return how the data sets of one name are shown."""
    groups = _data_sets(seen)
    newest = [max(group, key=lambda one: (one.ended, one.key)) for group in groups]
    names = [name if len(groups) == 1 else one.long_name for one in newest]
    shown = {}
    for group, one, own in zip(groups, newest, names, strict=True):
        shared = names.count(own) > 1
        data_set = _with_images(own, one.key) if shared else own
        keys = {other.key for other in group}
        for key in keys:
            has_states = sum(bool(other.fingerprint) and other.role == key.role for other in keys) > 1
            shown[key] = Shown(data_set, _with_images(own, key) if shared or has_states else own)
    return shown


def _data_sets(seen: Sequence[_Seen]) -> list[list[_Seen]]:
    """Group what is of one data set: in the same place, or with the same images."""
    groups: list[tuple[set[str], list[_Seen]]] = []
    for one in seen:
        tags = {f"place {one.place}", *([f"images {one.key.fingerprint}"] if one.key.fingerprint else [])}
        members = [one]
        for other in [group for group in groups if group[0] & tags]:
            groups.remove(other)
            tags |= other[0]
            members = [*other[1], *members]
        groups.append((tags, members))
    return [members for _, members in groups]


def _with_images(name: str, key: Key) -> str:
    return f"{name} (images {key.fingerprint[:SHOWN]})" if key.fingerprint else name
