"""Groups runs into comparisons: sets of runs in which only the method and the seed differ."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from .load import Run

REFERENCE = "Fine-tuning"
CLOSED_FORM = ("knn", "ncm", "logistic")  # methods without training
FROZEN = (*CLOSED_FORM, "linear_probe")  # methods that a comparison has as rows on frozen features
HEAD_ALONE = ("linear_probe", "head2toe", "atl")  # methods that train a head alone, by its own rate
NO_RESULT = {
    "seed",
    "device",
    "workers",
    "threads",
    "cluster",
    "on",
    "results",
}  # cannot change a result


@dataclass(frozen=True)
class Comparison:
    """Runs that may be compared, and notes on how comparable they are."""

    source: str  # as it is shown
    target: str  # as it is shown
    data_set: str  # the target, without the state of its images
    comparison_id: str
    setting: str
    metric: str
    by_label: dict[str, list[Run]]  # each list ordered by seed, one run per seed
    notes: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """Every run, by label and seed."""
        return [run for runs in self.by_label.values() for run in runs]

    @property
    def long_name(self) -> str:
        """The target with its parent folder, if its records know that."""
        return self._about_target.get("name", self.recorded[1])

    @property
    def is_known_set(self) -> bool:
        """Return whether the records say that the target is no folder of the user."""
        return self._about_target.get("place") == ""

    @property
    def _about_target(self) -> dict[str, str]:
        return (self.runs[0].record.get("data_sets") or {}).get("target", {})

    @property
    def recorded(self) -> tuple[str, str, str]:
        """Source, target and comparison_id as its records have them."""
        return self.runs[0].recorded

    @property
    def reference(self) -> list[Run]:
        """The fine-tuning runs that the others are compared with; empty if there are none."""
        return [run for run in self.by_label.get(REFERENCE, []) if run.method == "finetune"]

    @property
    def slug(self) -> str:
        """A name for files."""
        names = (self.source[:60], self.target[:60], self.comparison_id[:60])
        return re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(names)).strip("-.")


def comparisons(runs: list[Run], skipped: Sequence[Mapping[str, str]] = ()) -> list[Comparison]:
    """Return the comparisons in `runs`, by target, source and images per class; `skipped` become notes."""
    groups: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.target, run.source, run.comparison_id].append(run)
    notes: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in skipped:
        notes[row["target"], row["source"], row["comparison_id"]].append(
            f"{row['label']} was not run: {row['reason']}."
        )
    ordered = sorted(groups, key=lambda key: _place(groups[key][0]))
    return [compare(groups[key], notes[key]) for key in ordered]


def _place(run: Run) -> tuple[str, str, float, str]:
    """Return the sort key of a comparison; all images come after few."""
    shots = run.record["config"].get("shots")
    return run.target, run.source, inf if shots is None else float(shots), run.comparison_id


def compare(runs: list[Run], skipped: Sequence[str] = ()) -> Comparison:
    """Return the comparison of runs that share source, target and comparison_id.

    `skipped` are notes on rows that could not run.
    """
    first = runs[0]
    by_label, repeated = latest(runs)
    kept = [run for group in by_label.values() for run in group]
    mixed = [note for label, group in by_label.items() for note in _mixed(label, group)]
    of_data = list(dict.fromkeys(_sentence(note) for run in kept for note in run.record["notes"]))
    notes = [*of_data, *skipped, *repeated, *mixed, *_notes(kept)]
    if not any(run.label == REFERENCE and run.method == "finetune" for run in kept):
        notes.append("There is no run of fine-tuning here, so there are no differences from it.")
    return Comparison(
        first.source,
        first.target,
        first.data_set,
        first.comparison_id,
        first.setting,
        first.metric,
        by_label,
        notes,
    )


def _sentence(note: str) -> str:
    """Return a note of the images as a sentence; its first word is a data set's name."""
    return f"Images of {note}."


def latest(runs: list[Run]) -> tuple[dict[str, list[Run]], list[str]]:
    """Return the runs by label with one run per seed, the latest, and a note for each repeat left out."""
    groups: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.label, run.seed].append(run)
    by_label: dict[str, list[Run]] = defaultdict(list)
    notes = []
    for label, seed in sorted(groups):
        group = sorted(groups[label, seed], key=lambda run: (run.record["ended"], run.digest))
        by_label[label].append(group[-1])
        if len(group) > 1:
            left_out = ", ".join(run.digest for run in group[:-1])
            notes.append(
                f"{label}, seed {seed}: {len(group)} different runs; the latest, {group[-1].digest},"
                f" is used and {left_out} left out."
            )
    return dict(by_label), notes


def _mixed(label: str, runs: list[Run]) -> list[str]:
    """Return a note if the runs of one label differ in a setting."""
    configs = [dict(_settings(run.record["config"])) for run in runs]
    names = sorted({name for config in configs for name in config if name.split(".")[-1] not in NO_RESULT})
    differ = [name for name in names if len({repr(config.get(name)) for config in configs}) > 1]
    return [f"{label}: its runs do not all have the same {', '.join(differ)}."] if differ else []


def _settings(config: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting as (dotted name, value)."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _skipped_steps(runs: list[Run]) -> list[str]:
    """Return a note for each method that skipped steps (on_nan=skip)."""
    num_steps: dict[str, int] = defaultdict(int)
    for run in runs:
        num_steps[run.label] += len(run.record["numbers"]["skipped_steps"])
    return [
        f"{label}: {num} step{'s' if num > 1 else ''} skipped with NaN or Inf (on_nan=skip)."
        for label, num in num_steps.items()
        if num
    ]


def _notes(runs: list[Run]) -> list[str]:
    """Return notes on differences between the runs: machines, commits, images."""
    environments = [run.record["environment"] for run in runs]
    devices = sorted({f"{item['device']} on {item['host']}" for item in environments})
    commits = sorted({item["commit"][:10] for item in environments})
    images = {(run.seed, run.record["fingerprints"]["target"]) for run in runs}
    notes = _skipped_steps(runs)
    if len(devices) > 1:
        notes.append(f"The runs were made on {'; '.join(devices)}: compare seconds with care.")
    if len(commits) > 1:
        notes.append(f"The runs come from {len(commits)} commits: {', '.join(commits)}.")
    if any(item["dirty"] for item in environments):
        notes.append("Some runs were made with changes that are not committed.")
    if len(images) > len({run.seed for run in runs}):
        notes.append("The target's images are not the same in all runs of a seed (see their fingerprints).")
    if _share_a_source_model(runs):
        notes.append(
            "Seeds share a source model (source_recipe.seed): the intervals hold for that model alone."
            " source_recipe.seed=null trains one for each seed."
        )
    return notes


def _share_a_source_model(runs: list[Run]) -> bool:
    """Return whether runs of several seeds rest on one pre-training, and start from no published weights."""
    seeds = defaultdict(set)
    for run in runs:
        config = run.record["config"]
        for pretraining in run.record["pretraining"]:
            if not (config.get("pretrained") or config.get("checkpoint")):
                seeds[pretraining["digest"]].add(run.seed)
    return any(len(own) > 1 for own in seeds.values())


def in_order(labels: Iterable[str]) -> list[str]:
    """Return each label once: fine-tuning, then the others by name, `n = 11` before `n = 101`."""

    def key(label: str) -> tuple[bool, list[tuple[str, int]]]:
        parts = re.findall(r"(\D*)(\d*)", label)
        return label != REFERENCE, [(text, int(number or 0)) for text, number in parts]

    return sorted(set(labels), key=key)


def main_metric(known: Sequence[Comparison]) -> str:
    """Return the score that most comparisons have, the first of equals; empty without any."""
    counted = Counter(item.metric for item in known).most_common(1)
    return counted[0][0] if counted else ""
