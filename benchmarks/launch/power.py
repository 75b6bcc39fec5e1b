"""Say before a comparison which differences it can show."""

from collections.abc import Sequence
from pathlib import Path

from ...analysis.records.load import Run, read_all
from ...analysis.statistics.power import at_best, earlier
from ...analysis.wording import counted, number
from ..config.schema import RunConfig, Score, load_target


def power_line(config: RunConfig, results: Path, num_seeds: int) -> str:
    """Return the line on a comparison, given one of its runs; empty if nothing is known.

    Earlier runs of the same setting tell it; without them those of any, as few steps may spread otherwise.
    """
    images = config.data["target"]
    runs = [run for run in read_all(results).runs if run.record["fingerprints"]["target"] == images]
    runs = [
        run for run in runs if run.metric == config.score and run.record["config"]["shots"] == config.shots
    ]
    alike = [run for run in runs if run.comparison_id == config.comparison_id]
    num_images = len(load_target(config).parts["test"].labels)
    return power_text(alike or runs, config.target_name, num_images, num_seeds, config.score == Score.top1)


def power_text(runs: Sequence[Run], target: str, num_images: int, num_seeds: int, by_accuracy: bool) -> str:
    """Return a sentence on the differences that a comparison can show; empty if nothing is known.

    Args:
        runs: earlier runs on the same images.
        target: name of the target.
        num_images: number of its test images.
        num_seeds: number of seeds of the comparison.
        by_accuracy: whether its score is the share of test images that are right.
    """
    if num_seeds < 2:
        return "power: one seed tests no difference; give seeds=2 or more"
    how = f"with {num_seeds} seeds (power 80 %, level 5 %)"
    if found := sorted(earlier(runs, num_seeds)):
        low, high = number(found[0]), number(found[-1])
        points = low if low == high else f"{low} to {high}"
        rows = counted(len(found), "earlier row")
        return f"power: by {rows} on {target}, differences below {points} points cannot be seen {how}"
    if not by_accuracy:
        return ""
    return (
        f"power: two rows that disagree on a tenth of the {num_images:,} test images: differences below "
        f"{number(at_best(num_images, num_seeds))} points cannot be seen {how}, at best: seeds add to it"
    )
