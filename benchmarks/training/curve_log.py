"""Write the curve of a run as event files of TensorBoard."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = "events"  # below that of the run


class EventWriter:
    """Writes the points of a curve while a run goes on; earlier events of the folder are replaced.

    Args:
        folder: folder of the event files.
        lr_at: the learning rate of a step, from 0; None: unknown.
    """

    def __init__(self, folder: Path, lr_at: Callable[[int], float] | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # an extra

        self.lr_at = lr_at
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder))

    def write(self, point: Mapping[str, Any]) -> None:
        """Write a point of the curve, so that it can be seen at once."""
        for name, value in scalars(point):
            self._writer.add_scalar(name, value, point["step"])
        self._writer.add_scalar("seconds", point["seconds"], point["step"])
        if self.lr_at:
            self._writer.add_scalar("learning_rate", self.lr_at(point["step"] - 1), point["step"])
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def scalars(
    point: Mapping[str, Any], parts: Sequence[str] = ("train", "holdout")
) -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of parts of a point of a curve by name, as `train/loss` and `holdout/top1`."""
    for part in parts:
        for name, value in (point.get(part) or {}).items():
            if isinstance(value, float) and math.isfinite(value):
                yield f"{part}/{name.replace(':', '/')}", value
