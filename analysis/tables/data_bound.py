"""Which rows keep a GPU waiting for images."""

from collections.abc import Mapping, Sequence
from statistics import median

from .. import wording
from ..records.load import Run

LEAST = 0.1  # share of the steps that is worth a word


def data_notes(by_label: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return a note that names the rows whose GPU waits for images, or crops them, more than `LEAST`."""
    shares = {label: _share(runs) for label, runs in by_label.items()}
    found = [f"{100 * share:.0f} % of a step of {label}" for label, share in shares.items() if share > LEAST]
    if not found:
        return []
    return [
        f"data-bound: the device waits for images, or crops them, for {wording.listing(found)}. If it waits,"
        " more cores or smaller images on the disk feed it faster."
    ]


def _share(runs: Sequence[Run]) -> float:
    """Return the median share of the part `data` in the steps of the runs on a GPU; 0 without such runs."""
    seconds = [run.record["seconds"] for run in runs if _on_gpu(run)]
    return median(item["parts"].get("data", 0.0) / item["step"] for item in seconds) if seconds else 0.0


def _on_gpu(run: Run) -> bool:
    took = run.record["seconds"]["step"] > 0
    return took and not run.record["environment"]["device"].startswith("cpu")
