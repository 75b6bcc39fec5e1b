"""The records of many runs in one Parquet file, without what no table of differences reads.

`python -m transferbench.analysis.records.packed RESULTS FILE.parquet`

A row is a run. Its record is one column of JSON. `frozen` is the cross-validated accuracy on frozen features
by a screening in the same results folder. The other columns are for readers of the file.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ... import InputError
from .load import Run, load, named_apart, parse_run
from .schema import checked
from .screens import Screen, accuracy_of, encoders_of, is_alike

LEFT_OUT = ("class_weights", "predictions", "test_labels", "class_names", "overrides", "notes")


def pack(results: Path, file: Path) -> int:
    """Write the records of the runs of a results folder to a Parquet file; return their number.

    Raises:
        InputError: there are none.
    """
    screens = sorted(encoders_of(results), key=lambda screen: str(screen.get("ended")), reverse=True)
    rows = [
        {
            "source": run.source,
            "target": run.target,
            "shots": run.record["config"].get("shots"),
            "row": run.label,
            "seed": run.seed,
            "score": run.score,
            "frozen": _frozen(run, screens),
            "record": json.dumps(_shortened(run.record), sort_keys=True),
        }
        for run in load(results)
    ]
    table = pd.DataFrame(rows).sort_values(["source", "target", "shots", "row", "seed"])
    table.to_parquet(file, compression="zstd", compression_level=19, index=False)
    return len(table)


def _frozen(run: Run, screens: Sequence[Screen]) -> float:
    """Return the accuracy of the newest screening of what a run started from; nan without one."""
    side = run.record["config"].get("recipe", {}).get("image_size")
    found = (accuracy_of(s) for s in screens if is_alike(s, run) and s["image_size"] == side)
    return next(found, math.nan)


def unpack(file: Path) -> list[Run]:
    """Return the runs of a packed file.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        texts = pd.read_parquet(file, columns=["record"])["record"]
        records = [dict(json.loads(text)) for text in texts]
    except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's errors are among them
        raise _unreadable(file, error) from error
    places = [(file / str(number), record) for number, record in enumerate(records)]
    return named_apart([parse_run(place, checked(place, record)) for place, record in places])


def accuracies(file: Path) -> dict[tuple[str, str, int], float]:
    """Return the accuracy on frozen features by source, target and labels per class, where it is screened.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    columns = ["source", "target", "shots", "frozen"]
    try:
        rows = pd.read_parquet(file, columns=columns).dropna().drop_duplicates().to_dict("records")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(file, error) from error
    return {(row["source"], row["target"], row["shots"]): row["frozen"] for row in rows}


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: cannot be read as packed records ({error!r:.200})")


def _shortened(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without fields that only pages and curves read, and without the name of the machine."""
    empty: dict[str, Any] = {"class_weights": None, "overrides": [], "notes": [], "curve": []}
    kept = {name: value for name, value in record.items() if name not in LEFT_OUT}
    return {**kept, **empty, "environment": record["environment"] | {"host": ""}}


def main(argv: Sequence[str]) -> int:
    """Pack the records of a results folder; return the exit code."""
    if len(argv) != 2:
        print("expected RESULTS FILE.parquet", file=sys.stderr)
        return 2
    try:
        count = pack(Path(argv[0]), Path(argv[1]))
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{argv[1]}: {count} records, {Path(argv[1]).stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
