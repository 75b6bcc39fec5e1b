"""The records of many runs in one Parquet file, without what no table of differences reads.

`python -m transferbench.analysis.records.packed FROM... FILE.parquet`

Each `FROM` is a results folder or an earlier file. A row is a run. Its record is one column of JSON. `frozen`
is the cross-validated accuracy on frozen features by a screening in the same results folder. The other
columns are for readers of the file.
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

KEY = ["source", "target", "shots", "row", "seed"]
COLUMNS = [*KEY, "score", "frozen", "record"]
LEFT_OUT = ("class_weights", "predictions", "test_labels", "class_names", "overrides", "notes")


def pack(places: Sequence[Path], file: Path) -> int:
    """Write the records of runs to a Parquet file; return their number.

    Args:
        places: results folders or packed files. A run that is in several is taken from the last.
        file: where to write; may be one of the places.

    Raises:
        InputError: a place has no runs, or cannot be read.
    """
    table, *later = [_read(place, COLUMNS) if place.is_file() else _table_of(place) for place in places]
    for newer in later:
        is_replaced = pd.MultiIndex.from_frame(table[KEY]).isin(pd.MultiIndex.from_frame(newer[KEY]))
        table = pd.concat([table[~is_replaced], newer])
    table.sort_values(KEY).to_parquet(file, compression="zstd", compression_level=19, index=False)
    return len(table)


def _table_of(results: Path) -> pd.DataFrame:
    """Return a row for each run of a results folder."""
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
    return pd.DataFrame(rows)


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
        records = [dict(json.loads(text)) for text in _read(file, ["record"])["record"]]
    except (ValueError, TypeError) as error:
        raise _unreadable(file, error) from error
    places = [(file / str(number), record) for number, record in enumerate(records)]
    return named_apart([parse_run(place, checked(place, record)) for place, record in places])


def accuracies(file: Path) -> dict[tuple[str, str, int], float]:
    """Return the accuracy on frozen features by source, target and labels per class, where it is screened.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    table = _read(file, ["source", "target", "shots", "frozen"])
    rows = table.dropna().drop_duplicates().to_dict("records")
    return {(row["source"], row["target"], row["shots"]): row["frozen"] for row in rows}


def _read(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return some columns of a packed file."""
    try:
        return pd.read_parquet(file, columns=list(columns))
    except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's errors are among them
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: cannot be read as packed records ({error!r:.200})")


def _shortened(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without fields that only pages and curves read, and without the name of the machine.

    Of the curve the last point stays, whose training loss alarms read.
    """
    short = {"class_weights": None, "overrides": [], "notes": [], "curve": record["curve"][-1:]}
    kept = {name: value for name, value in record.items() if name not in LEFT_OUT}
    return {**kept, **short, "environment": record["environment"] | {"host": ""}}


def main(argv: Sequence[str]) -> int:
    """Pack the records of results folders and packed files; return the exit code."""
    if len(argv) < 2:
        print("expected FROM... FILE.parquet; FROM is a results folder or a packed file", file=sys.stderr)
        return 2
    *places, file = map(Path, argv)
    try:
        count = pack(places, file)
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{file}: {count} records, {file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
