"""Plan suites: the cells of a table or figure, the runs of each cell, and the plan file for the analysis."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ... import InputError, suggest
from ...analysis.records.schema import record_path
from ...datasets import catalog as datasets
from ...datasets import planted
from ...datasets.download import locate
from ...methods import catalog as methods
from ...user_text import split_paths
from ..config.compose import read_suite, request_for, split_override
from ..config.labels import holdout_shots
from ..config.resolve import run_config
from ..config.schema import TUNING_SEED, Request, RunConfig, load_target
from ..training.record import write_json
from .plan import row_of

FORMAT = 1
SEEDS = 3  # "averaged using three runs" (Zhu et al., section 5)
SUITE_SETTINGS = ("source", "targets", "seeds")  # of the suite as a whole, not of a run


@dataclass(frozen=True)
class Suite:
    """One table or figure: its rows, its images, and how it is shown."""

    name: str
    element: str  # element of the paper, as "Table 2"
    title: str
    view: str  # kind of table or figure
    source: str
    stands_for: str  # source of the paper that is not public; `source` replaces it
    targets: list[str]
    num_seeds: int
    rows: dict[str, dict[str, Any]]  # title -> method and overrides
    vary: dict[str, list[Any]]  # setting -> its values
    settings: dict[str, str]  # overrides of every row
    command: str  # command line that makes the suite


@dataclass(frozen=True)
class Cell:
    """One cell of a table or point of a figure, and its runs."""

    row: str
    target: str
    at: Any
    method: str
    overrides: list[str]
    configs: list[RunConfig]
    reason: str  # why it stays empty; "" if it does not


def load(name: str, given: Sequence[str]) -> list[Suite]:
    """Read a suite, or all its parts, with the user's overrides.

    Args:
        name: name of the suite.
        given: the overrides.

    Raises:
        InputError: the suite or a part is unknown, or an override is wrong.
    """
    outer = read_suite(name)
    own, asked = _split_overrides(given)
    command = " ".join(["transferbench suite", name, *(shlex.quote(o) for o in given)])
    suites = []
    for part, pinned in outer.get("parts", {name: {}}).items():
        if "source" in pinned and "source" in own:  # this part has a fixed source
            continue
        inner = read_suite(part) | {k: outer[k] for k in ("source", "targets") if k in outer} | own | pinned
        settings = _settings(read_suite(part), outer if "parts" in outer else {}) | asked
        targets = inner["targets"]
        alone = inner["view"] == "labels"  # its columns are labels, hence one target per table
        for chosen in [[t] for t in targets] if alone else [targets]:
            suites.append(
                Suite(
                    name=_name(name, part, own, chosen if alone and len(targets) > 1 else []),
                    element=inner.get("element", ""),
                    title=inner["title"],
                    view=inner["view"],
                    source=inner["source"],
                    stands_for="" if "source" in own else inner.get("stands_for", ""),
                    targets=chosen,
                    num_seeds=int(inner.get("seeds", SEEDS)),
                    rows=_rows(inner["rows"]),
                    vary=inner.get("vary", {}),
                    settings=settings,
                    command=command,
                )
            )
    return suites


def _split_overrides(given: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Split the user's overrides into settings of the suite and settings of its runs."""
    own: dict[str, Any] = {}
    asked = {}
    for override in given:
        key, value = split_override(override)
        if not value:
            raise InputError(f"'{override}': expected name=value, as targets=dtd,food")
        if key in ("target", "method", "methods", "seed"):
            right = {"target": "targets=NAME,NAME"}.get(key, "seeds=NUMBER; the suite file names the methods")
            raise InputError(f"{key}={value}: not a setting of a suite; expected {right}")
        if key in SUITE_SETTINGS:
            own[key] = split_paths(value) if key == "targets" else value
        else:
            asked[key] = value
    seeds = str(own.get("seeds", 1))
    if not seeds.isdecimal() or not 1 <= int(seeds) <= TUNING_SEED:
        raise InputError(f"seeds={seeds}: expected a whole number of 1 or more, up to {TUNING_SEED:,}")
    if own.get("source") == "none":
        raise InputError("source=none: a suite compares rows that train on a source; expected a data set")
    return own, asked


def not_taken(suites: Sequence[Suite], given: Sequence[str]) -> list[str]:
    """Return a line for each given setting that rows do not take, because the suite sets or varies it.

    Args:
        suites: the parts of a suite.
        given: the overrides.

    Raises:
        InputError: no row has a setting of a method.
    """
    rows = [(row, own, suite) for suite in suites for row, own in suite.rows.items()]
    known = {f"method.{f.name}" for _, own, _ in rows for f in fields(methods.load(own["method"]).Config)}
    lines = []
    for key, value in map(split_override, given):
        if key.startswith("method.") and key not in known:
            raise InputError(f"{key}={value}: no row of the suite has this setting{suggest(key, known)}")
        fixed = list(dict.fromkeys(row for row, own, suite in rows if key in own or key in suite.vary))
        if fixed:
            lines.append(f"{key}={value}: not used by {', '.join(fixed)}: the suite sets it there")
    return lines


def _settings(*suites: Mapping[str, Any]) -> dict[str, str]:
    """Merge the settings of suites; later ones override earlier ones."""
    return dict(setting.split("=", 1) for suite in suites for setting in suite.get("settings", []))


def _name(suite: str, part: str, own: Mapping[str, Any], alone: Sequence[str]) -> str:
    """Return the name of the plan file; suites on other images get other names."""
    outer = [] if part == suite or suite == "paper" else [suite]
    given = [own[key] for key in ("source",) if key in own]
    images = [_file_name(p) for p in [*given, *(alone or own.get("targets", []))]]
    return re.sub(r"[^\w.-]+", "-", "-".join([*outer, part, *images]))


def _file_name(data_set: str) -> str:
    """Return a data set's name for the name of a file; other images of that name get another."""
    name, place = planted.short_name(data_set), datasets.recorded_name(data_set)["place"]
    return f"{name}-{place[:6]}" if place else name


def _columns(targets: Sequence[str]) -> dict[str, str]:
    """Return a heading for each target: its name, with more of the path where two have that name."""
    shown = {}
    for target in targets:
        long_name = datasets.recorded_name(target)["name"]
        others = [other for other in targets if other != target]
        names = (planted.short_name(target), long_name, target)
        known = [(planted.short_name(o), datasets.recorded_name(o)["name"], o) for o in others]
        shown[target] = next(
            name
            for i, name in enumerate(names)
            if all(name != other[i] for other in known) or i == len(names) - 1
        )
    return shown


def _rows(rows: Any) -> dict[str, dict[str, Any]]:
    """Return the rows; `every method` stands for one row per file in methods/."""
    if rows != "every method":
        return rows
    return {methods.load(m).title: {"method": m} for m in methods.names() if m != "pretrain"}


def cells(suite: Suite, fetch: bool = True) -> list[Cell]:
    """Plan every cell; a cell whose images are missing or too few gets a reason and no runs.

    Args:
        suite: the suite.
        fetch: download missing images.

    Raises:
        InputError: a setting is wrong.
    """
    return [_cell(suite, row, target, at, fetch) for row, target, at in _positions(suite)]


def _positions(suite: Suite) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield row, target and varied settings of every cell."""
    varied = [dict(zip(suite.vary, values, strict=True)) for values in product(*suite.vary.values())]
    yield from product(suite.rows, suite.targets, varied)


def _cell(suite: Suite, row: str, target: str, at: dict[str, Any], fetch: bool) -> Cell:
    own = dict(suite.rows[row])
    method = own.pop("method")
    has = {f"method.{f.name}" for f in fields(methods.load(method).Config)}
    same = {k: v for k, v in suite.settings.items() if not k.startswith("method.") or k in has}
    merged = same | {k: _written(v) for k, v in (own | at).items()}
    overrides = [f"target={target}", f"source={suite.source}", *(f"{k}={v}" for k, v in merged.items())]
    where = ", ".join("all" if v is None else str(v) for v in at.values()) or None
    reason = _why_missing(suite.source, target, suite.settings, fetch)
    configs: list[RunConfig] = []
    if not reason:
        request, settings = request_for(method, tuple(overrides))
        reason = _why_no_shots(request)
    if not reason:
        configs = [run_config(request, method, settings, seed) for seed in range(suite.num_seeds)]
        reason = _too_few(configs[0])
    return Cell(row, target, where, method, overrides, [] if reason else configs, reason)


def _written(value: Any) -> str:
    """Return a value of a suite file in the syntax of an override."""
    return "null" if value is None else str(value)


def _why_missing(source: str, target: str, settings: Mapping[str, str], fetch: bool) -> str:
    """Return one line on the images that are not here, or an empty string; download them if `fetch`."""
    locate.set_places(settings.get("data.root"), settings.get("data.mirror"))
    try:
        datasets.require([source, target], fetch)
    except locate.MissingData as error:
        return str(error).splitlines()[0]
    return ""


def _why_no_shots(request: Request) -> str:
    """Return one line if the shots do not reach for training and holdout images, else an empty string."""
    try:
        holdout_shots(request)
    except InputError as error:
        return str(error)
    return ""


def _too_few(config: RunConfig) -> str:
    """Return one line if a class has fewer images than are drawn of it, else an empty string."""
    target = load_target(config)
    names = {"train": "training", "holdout": "holdout"}
    for part, shots in config.drawn.items():
        labels = target.part(part).labels
        if shots and labels.ndim == 1 and (least := int(np.bincount(labels).min())) < shots:
            return f"a class of {Path(config.target).name} has only {least} {names[part]} images"
    return ""


def write_plan(suite: Suite, planned: Sequence[Cell], incompatible: Mapping[str, str], results: Path) -> Path:
    """Write the plan of a suite for the analysis: `results/suites/<name>.json`.

    Args:
        suite: the suite.
        planned: its cells.
        incompatible: reason why a row cannot run on a problem, by `row_of`.
        results: the results folder.

    Returns:
        The file.
    """
    path = results / "suites" / f"{suite.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    stand_in = f"{suite.stands_for} is not public: {suite.source} replaces it."
    plan = {
        "format": FORMAT,
        "name": suite.name,
        "element": suite.element,
        "title": suite.title,
        "view": suite.view,
        "command": suite.command,
        "stands_for": suite.stands_for,
        "notes": [stand_in] if suite.stands_for else [],
        "cells": [_cell_json(suite, cell, incompatible, results) for cell in planned],
    }
    write_json(path, plan)
    return path


def _cell_json(suite: Suite, cell: Cell, incompatible: Mapping[str, str], results: Path) -> dict[str, Any]:
    first = cell.configs[0] if cell.configs else None
    words = [*cell.overrides, f"methods={cell.method}", f"seeds={suite.num_seeds}"]
    return {
        "row": cell.row,
        "column": _columns(suite.targets)[cell.target],
        "source": planted.short_name(suite.source),
        "target": planted.short_name(cell.target),
        "at": cell.at,
        "method": cell.method,
        "comparison_id": first.comparison_id if first else "",
        "label": methods.load(cell.method).label(first.settings) if first else "",
        "runs": [
            {
                "seed": c.seed,
                "digest": c.digest,
                "record": str(record_path(c.folder(results)).relative_to(results)),
            }
            for c in cell.configs
        ],
        "command": " ".join(["transferbench bench", *(shlex.quote(w) for w in words)]),
        "reason": cell.reason or (incompatible.get(row_of(first), "") if first else ""),
    }
