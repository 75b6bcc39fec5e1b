"""Compares two folders of results run by run, for example before and after an upgrade."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import InputError
from . import wording
from .page.headline import places
from .records.comparison import Comparison, comparisons
from .records.data_sets import ROLES
from .records.load import Run, load
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import mean_interval, paired_difference, same_tests
from .tables.formats import to_markdown
from .tables.table import Cell, Table

Key = tuple[str, str, str]  # source, target, and comparison_id or setting
Folder = Mapping[Key, Comparison]
COLUMNS = [
    "target",
    "method",
    "seeds",
    "A, %",
    "B, %",
    "B from A, points",
    "same answers",
    "step, B / A",
]


class Compared(NamedTuple):
    """The comparison in Markdown, and whether any score differs significantly: then the exit code is 1."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Change:
    """One method of one comparison in both folders, seed by seed."""

    place: str
    label: str
    a: list[Run]
    b: list[Run]
    difference: Difference  # of b from a, Holm-corrected over all changes

    @property
    def name(self) -> str:
        """Return the conclusion about what changed."""
        return f"{self.label} on {self.place}"

    @property
    def differs(self) -> bool:
        """Return whether the scores differ significantly, over seeds or, for one seed, over test images."""
        return self.difference.is_significant

    @property
    def num_alike(self) -> int:
        """How many pairs were right on the same test images."""
        return sum(_alike(a, b) for a, b in zip(self.a, self.b, strict=True))

    @property
    def step_ratio(self) -> tuple[float, float, float]:
        """How many times a's step a step of b takes: geometric mean and 95 % interval over seeds."""
        steps = [(_step(a), _step(b)) for a, b in zip(self.a, self.b, strict=True)]
        mean, low, high = mean_interval([math.log(b / a) for a, b in steps if a and b])
        return math.exp(mean), math.exp(low), math.exp(high)


def compare_results(a: Path, b: Path) -> Compared:
    """Return the changes from results `a` to results `b` as Markdown, and whether scores differ.

    Runs are paired by source, target, comparison_id, label and seed. If a folder lacks a comparison_id, which
    depends on every setting and so on the version, runs are paired by the text of the setting.

    Raises:
        InputError: if a folder holds no run or a record that cannot be read, or no run has a partner.
    """
    of_a, of_b = _folder(a), _folder(b)
    pairs, by_words = _partners(of_a, of_b)
    names = places([of_a[key] for key, _ in pairs])
    changes = corrected(
        [change for i, j in pairs for change in _changes(names[of_a[i].slug], of_a[i], of_b[j])]
    )
    if not changes:
        raise InputError(f"no run of '{a}' has a partner in '{b}': {_holds(of_a)}; {_holds(of_b)}")
    in_a = [run for change in changes for run in change.a]
    in_b = [run for change in changes for run in change.b]
    head = (
        f"A: {a}, {_num_runs(of_a)}. B: {b}, {_num_runs(of_b)}. {wording.counted(len(in_a), 'pair')} of the"
        " same source, target, setting, method and seed."
    )
    notes = [*_versions(in_a, in_b), *by_words, *_only("A", of_a, in_a), *_only("B", of_b, in_b)]
    parts = [head, to_markdown(_table(changes)).rstrip(), _list(_found(changes)), _list(notes)]
    return Compared("\n\n".join(filter(None, parts)) + "\n", any(change.differs for change in changes))


def _folder(results: Path) -> dict[Key, Comparison]:
    """Return the comparisons of a folder by source, target and bench."""
    return {item.recorded: item for item in comparisons(load(results))}


def _partners(of_a: Folder, of_b: Folder) -> tuple[list[tuple[Key, Key]], list[str]]:
    """Return which comparisons belong together: by bench, else by the words of the setting; and notes."""
    pairs = [(key, key) for key in of_a if key in of_b]
    notes: list[str] = []
    for with_images in (True, False):  # the images decide first: two data sets may share a name
        paired = {key for pair in pairs for key in pair}
        left_a, left_b = (
            {key: item for key, item in folder.items() if key not in paired} for folder in (of_a, of_b)
        )
        _pair_by_words(left_a, left_b, with_images, pairs, notes)
    return pairs, notes


def _pair_by_words(
    of_a: Folder, of_b: Folder, with_images: bool, pairs: list[tuple[Key, Key]], notes: list[str]
) -> None:
    """Add the pairs of comparisons with the same words, and notes on them."""
    left_a, left_b = _by_words(of_a, with_images), _by_words(of_b, with_images)
    for words_of in sorted(left_a.keys() & left_b.keys()):
        place = f"{words_of[0]} → {words_of[1]}, {words_of[2] or 'defaults'}"
        if len(left_a[words_of]) > 1 or len(left_b[words_of]) > 1:
            notes.append(f"{place}: several comparisons have these settings, so none of them are paired.")
            continue
        (key_a,), (key_b,) = left_a[words_of], left_b[words_of]
        pairs.append((key_a, key_b))
        notes.append(
            f"{place}: paired by these words, for the benches differ ({key_a[2]}, {key_b[2]}); what the words"
            " do not name may have changed too."
        )


def _by_words(folder: Folder, with_images: bool) -> dict[tuple[str, ...], list[Key]]:
    """Return comparisons by source, target and the words of their setting, and perhaps by the images."""
    found: dict[tuple[str, ...], list[Key]] = defaultdict(list)
    for key, item in folder.items():
        prints = item.runs[0].record["fingerprints"]
        images = [str(prints.get(role, "")) for role in ROLES] if with_images else []
        found[key[0], key[1], item.setting, *images].append(key)
    return found


def _changes(place: str, a: Comparison, b: Comparison) -> list[Change]:
    """Return each method that both have, with the seeds that both have."""
    found = []
    for label, runs in a.by_label.items():
        partners = {run.seed: run for run in b.by_label.get(label, [])}
        own = [run for run in runs if run.seed in partners]
        if own:
            other = [partners[run.seed] for run in own]
            found.append(Change(place, label, own, other, paired_difference(other, own)))
    return found


def corrected(changes: Sequence[Change]) -> list[Change]:
    """Return the changes with Holm correction over all of them."""
    differences = holm_corrected([change.difference for change in changes], min_seeds=1)
    return [replace(change, difference=item) for change, item in zip(changes, differences, strict=True)]


def _table(changes: Sequence[Change]) -> Table:
    """Return one row per method: scores, their difference, and the ratio of the times per step."""
    return Table("Changes", COLUMNS, [[Cell(text) for text in _row(change)] for change in changes])


def _row(change: Change) -> list[str]:
    """Return the cells of one method."""
    found = change.difference
    ratio, low, high = change.step_ratio
    spread = "" if math.isnan(low) else f" ({wording.interval(low, high, 2)})"
    return [
        change.place,
        change.label,
        wording.seeds([run.seed for run in change.a]),
        wording.number(100 * float(np.mean([run.score for run in change.a]))),
        wording.number(100 * float(np.mean([run.score for run in change.b]))),
        wording.estimate(found.points, found.low, found.high, sign=True),
        f"{change.num_alike} of {len(change.a)}",
        f"{wording.number(ratio, 2)}{spread}",
    ]


def _found(changes: Sequence[Change]) -> list[str]:
    """Return which scores differ, which are the same, and the power to detect a difference in the rest."""
    lines = [_differs(change) for change in changes if change.differs]
    alike = [change for change in changes if change.num_alike == len(change.a)]
    if alike:
        lines.append(f"{_share(alike, changes)}: correct on the same test images in every pair.")
    rest = [change for change in changes if not (change.differs or change.num_alike == len(change.a))]
    for change in rest:
        if change.difference.excludes_zero:
            lines.append(f"{change.name}: {wording.not_significant(change.difference)}.")
    inconclusive = [c for c in rest if not (c.difference.excludes_zero or math.isnan(c.difference.points))]
    if inconclusive:
        known = [c.difference.detectable for c in inconclusive if c.difference.has_interval]
        power = f"; {wording.power(max(known))}" if known else ""
        lines.append(f"{_share(inconclusive, changes)}: inconclusive{power}.")
    not_compared = [change for change in changes if math.isnan(change.difference.points)]
    return [*lines, *(f"{c.name}: not compared ({c.difference.note})." for c in not_compared)]


def _differs(change: Change) -> str:
    """Return one significant difference."""
    found = change.difference
    note = f" ({found.note})" if found.note else ""
    side = "above" if found.points > 0 else "below"
    return f"{change.name}: B is {side} A by {wording.points(found)}, {wording.holm(found)}{note}."


def _share(some: Sequence[Change], changes: Sequence[Change]) -> str:
    """Return how many of the rows of the table."""
    if len(some) == len(changes):
        return f"All {len(changes)} rows" if len(changes) > 1 else "The only row"
    return f"{len(some)} of {len(changes)} rows"


def _versions(a: Sequence[Run], b: Sequence[Run]) -> list[str]:
    """Return notes on other differences between the pairs: versions, commits, machines."""
    notes = []
    about_a, about_b = [_about(run) for run in a], [_about(run) for run in b]
    for name in dict.fromkeys(name for about in [*about_a, *about_b] for name in about):
        in_a, in_b = ({about.get(name, "none") for about in side} for side in (about_a, about_b))
        if in_a != in_b:
            care = "; compare the times with care" if name == "machine" else ""
            notes.append(
                f"{name}: {wording.listing(sorted(in_a))} in A, {wording.listing(sorted(in_b))} in B{care}."
            )
    return notes


def _about(run: Run) -> dict[str, str]:
    """Return the machine, commit and versions of a run."""
    environment = run.record["environment"]
    return {
        "machine": f"{environment['device']} on {environment['host']}",
        "commit": environment["commit"][:10] + (" + changes" if environment["dirty"] else ""),
        **environment.get("versions", {}),
    }


def _only(name: str, folder: Folder, paired: Sequence[Run]) -> list[str]:
    """Return the runs that have no partner, one line per method."""
    known = {run.path for run in paired}
    names = places(list(folder.values()))
    lines = []
    for item in folder.values():
        for label, runs in item.by_label.items():
            seeds = [str(run.seed) for run in runs if run.path not in known]
            if seeds:
                which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"
                lines.append(f"Only in {name}: {label} on {names[item.slug]}, {which}.")
    return lines


def _holds(folder: Folder) -> str:
    """Return the comparisons of a folder in short."""
    return wording.listing(
        sorted(
            {f"{item.source} → {item.target}, comparison {item.comparison_id}" for item in folder.values()}
        )
    )


def _alike(a: Run, b: Run) -> bool:
    """Return whether two runs were right on the same test images; without those, whether all scores agree."""
    if not same_tests(a, b):
        return False
    if a.correct is None or b.correct is None:
        return bool(a.record["test"] == b.record["test"])
    return bool(np.array_equal(a.correct, b.correct))


def _step(run: Run) -> float:
    """Return the seconds of a step."""
    return float(run.record["seconds"]["per_step_median"])


def _num_runs(folder: Folder) -> str:
    """Return how many runs a folder holds."""
    return wording.counted(sum(len(item.runs) for item in folder.values()), "run")


def _list(lines: Sequence[str]) -> str:
    """Return a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)
