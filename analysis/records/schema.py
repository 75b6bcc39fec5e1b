"""One record: read, brought up to the present format, and seen to hold what tables and figures read."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import InputError
from .answers import NAMES as ANSWERS
from .migrations import FORMAT, upgraded

ROLES = ("run", "pretraining", "trial", "first_stage")
METRICS = {"top1": "accuracy", "mean_per_class": "mean per-class accuracy", "auroc": "AUROC"}
AGAIN = "delete the file and run the same command again"
MOST_BYTES = 1 << 29  # of a record
MOST_CHARS = 10_000  # of a text
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

Kind = Callable[[Any], bool]


def record_path(folder: Path) -> Path:
    """Return where the record of a run lies in its folder."""
    return folder / "record.json"


def is_done(folder: Path) -> bool:
    """Return whether a run is done: its record, written last and by one rename, is there."""
    return record_path(folder).exists()


def read_record(path: Path) -> dict[str, Any]:
    """Return one record as plain JSON, as the present format has it.

    Raises:
        InputError: if the file is no record, of a newer version, or lacks what is read of it.
    """
    return checked(path, _json(path))


def checked(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a record as the present format has it; raises as `read_record`."""
    version = record.get("format")
    if not (type(version) is int and version >= 1):
        raise InputError(f"{path}: format {version!r:.60} is unknown; expected 1 to {FORMAT}; {AGAIN}")
    if version > FORMAT:
        raise InputError(
            f"{path}: format {version} is of a newer version; this one reads 1 to {FORMAT}: "
            "update transferbench"
        )
    for key, known in (("role", ROLES), ("status", ("done",)), ("metric", tuple(METRICS))):
        if record.get(key) not in known:
            right = " or ".join(repr(value) for value in known)
            raise InputError(f"{path}: {key} {record.get(key)!r:.60} is unknown; this version reads {right}")
    try:
        record = upgraded(record)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no whole record of format {version} ({error!r:.200})") from error
    if wrong := _wrong(record):
        raise InputError(f"{path}: no whole record ({wrong})")
    return record


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES:,} bytes, the most that a record takes")
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: broken JSON ({error}); {AGAIN}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: a {type(record).__name__}, where a record is a JSON object; {AGAIN}")
    return record


def _text(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > MOST_CHARS:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _real(value: Any) -> bool:
    """Return whether a value is a number that may be unknown (NaN), but is not infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > 1e100


def _amount(value: Any) -> bool:
    return _real(value) and not math.isnan(value) and value >= 0


def _share(value: Any) -> bool:
    return _amount(value) and value <= 1


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _time(value: Any) -> bool:
    return isinstance(value, str) and bool(TIME.fullmatch(value))


def _packed(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _or_none(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def _either(kind: Kind, other: Kind) -> Kind:
    return lambda value: kind(value) or other(value)


def _each(kind: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def _named(kind: Kind) -> Kind:
    return lambda value: isinstance(value, dict) and all(_text(k) and kind(v) for k, v in value.items())


@dataclass(frozen=True)
class _With:
    """An object with some fields, each of its kind."""

    kinds: Mapping[str, Kind]

    def __call__(self, value: Any) -> bool:
        return isinstance(value, dict) and not misfit(value, self.kinds)


def _with(**kinds: Kind) -> _With:
    return _With(kinds)


def _may_have(**kinds: Kind) -> Kind:
    """Return the kind of an object with fields of which any may be missing or null."""
    return lambda value: (
        isinstance(value, dict) and all(_or_none(kind)(value.get(name)) for name, kind in kinds.items())
    )


_SCORES = _named(_real)
FORM: dict[str, Kind] = {
    **dict.fromkeys(("source", "target", "comparison_id", "setting", "label", "method", "digest"), _text),
    "seed": _count,
    "config": _named(lambda value: True),
    "curve": _each(_with(step=_count, seconds=_amount, holdout=_or_none(_SCORES))),
    "class_weights": _or_none(_named(_real)),
    "seconds": _with(prepare=_amount, step=_amount, per_step_median=_amount, parts=_named(_amount)),
    "pretraining": _each(_with(digest=_text, seconds=_amount, shared=_flag)),
    "images": _with(target=_amount, source=_amount, holdout=_amount),
    "num_steps": _count,
    "numbers": _with(on_nan=_text, skipped_steps=_each(_count), num_spikes=_count),
    "peak_memory_bytes": _or_none(_amount),
    "environment": _with(commit=_text, dirty=_flag, device=_text, host=_text, threads=_count),
    "notes": _each(_text),
    "overrides": _each(_text),
    "started": _time,
    "ended": _time,
}
_DATA_SET = _with(name=_text, place=_text)
OF_DATA_SETS: dict[str, Kind] = {  # later additions, which may be missing
    "fingerprints": _or_none(lambda value: isinstance(value, dict)),
    "data_sets": _or_none(_named(_DATA_SET)),
}
OF_LABELS: dict[str, Kind] = {  # later additions, which may be missing
    "labels": _or_none(_with(training=_count, rewards=_count, choosing=_count, all=_count)),
    "num_classes": _or_none(_count),
    "majority": _or_none(_share),
}
OF_A_RUN: dict[str, Kind] = {
    "test": _SCORES,
    "fingerprints": _with(target=_text),
    "correct": _or_none(_packed),
}
_CHOICE = _may_have(
    **dict.fromkeys(("num_trials", "num_steps"), _count),
    **dict.fromkeys(("seconds", "lr", "weight_decay", "head_lr_factor"), _amount),
    bn=_text,
    strengths=_named(_real),
    at_end=_each(_text),
)
LATER_OF_A_RUN: dict[str, Kind] = {  # that may be missing too
    "choice": _or_none(_CHOICE),
    "chosen_values": _or_none(_named(_either(_real, _each(_count)))),
    "predictions": _or_none(_with(classes=_packed, probabilities=_packed)),
    "test_labels": _or_none(_packed),
    "class_names": _or_none(_each(_text)),
    "size": _or_none(_with(trained_parameters=_count, target_bytes=_count, prediction_flops=_count)),
    "curve": _each(_may_have(train=_may_have(loss=_real))),
}


def misfit(record: Mapping[str, Any], form: Mapping[str, Kind], inside: str = "") -> str:
    """Name the first field that is missing or of another kind; empty where all is as it should be."""
    for name, kind in form.items():
        if name not in record:
            return f"no field '{inside}{name}'"
        value = record[name]
        if isinstance(kind, _With) and isinstance(value, dict):
            if wrong := misfit(value, kind.kinds, f"{inside}{name}."):
                return wrong
        elif not kind(value):
            return f"field '{inside}{name}' holds {_short(value)}"
    return ""


def _wrong(record: Mapping[str, Any]) -> str:
    """Return what a record lacks; empty if it is whole."""
    form = FORM | (OF_A_RUN if record["role"] == "run" else {})
    may_miss = OF_DATA_SETS | OF_LABELS
    later = {name: record.get(name) for name in may_miss}
    if wrong := misfit(record, form) or misfit(later, may_miss):
        return wrong
    if record["role"] != "run":
        return ""  # it may be scored otherwise than the runs that start from it
    absent = dict.fromkeys(("choice", "chosen_values", "size", *ANSWERS))
    if wrong := misfit({**absent, **record}, LATER_OF_A_RUN):
        return wrong
    metric = record["metric"]
    if not _share(record["test"].get(metric)):
        return f"field 'test' has no {metric} from 0 to 1"
    points = [point["holdout"] for point in record["curve"] if point["holdout"] is not None]
    known = [scores.get(metric) for scores in points if scores.get(metric) == scores.get(metric)]  # not NaN
    return "" if all(map(_share, known)) else f"field 'curve' has a point without a {metric} from 0 to 1"


def _short(value: Any) -> str:
    shown = (
        ascii(value) if not isinstance(value, dict | list) else f"a {type(value).__name__} of another form"
    )
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
