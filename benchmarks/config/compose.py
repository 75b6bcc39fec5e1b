"""Compose requests from overrides with Hydra, once per row. No other module imports Hydra."""

import os
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from types import NoneType
from typing import Any, get_args, get_type_hints

import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ... import InputError, nearest, suggest
from ...analysis.records.migrations import RENAMED
from ...datasets import catalog as datasets
from ...datasets.about import About
from ...methods import catalog as methods
from ...methods.recipe import Recipe
from ...plain_yaml import read_yaml
from ...user_text import checked_path, one_form
from .schema import SMALL_SIDE, DataPlaces, Request, SourceRecipe, check_numbers, load_target

HERE = Path(__file__).parents[1]
ONE_AT_A_TIME = Lock()  # Hydra has one global state for all threads
OWN_BACKBONE, CPU_SIDE = "tf_efficientnet_lite0", 128  # for images of the user, if nothing else is given
OPEN = ("backbone_options", "method_defaults")  # hold names that are not in the schema
PATHS = ("target", "source", "results", "checkpoint", "data.root", "cluster")
# May hold any character, so Hydra's grammar does not read them. The first are paths.
TEXTS = (*PATHS, "methods", "data.mirror", "draw", "groups")
MOST_KNOWN = 30  # names in an error; the page of settings has all
MOVED = dict.fromkeys((("method.preset", "first_order"), ("method.credit", "first_order")), "l2tl_gradients")
NUMBER = r"[+-]?\d+"
SUITE: dict[str, Callable[[Any], bool]] = {  # valid values of a suite file
    **dict.fromkeys(("element", "title", "view", "source", "stands_for"), lambda v: isinstance(v, str)),
    "targets": lambda v: isinstance(v, list) and all(isinstance(target, str) for target in v),
    "settings": lambda v: isinstance(v, list) and all(isinstance(s, str) and "=" in s for s in v),
    "seeds": lambda v: isinstance(v, int) and v > 0,
    "vary": lambda v: isinstance(v, dict) and all(isinstance(values, list) for values in v.values()),
    "parts": lambda v: isinstance(v, dict) and all(isinstance(part, dict) for part in v.values()),
    "rows": lambda v: v == "every method" or _are_rows(v),
    "more": lambda v: _are_rows(v),
}


def _are_rows(v: Any) -> bool:
    return isinstance(v, dict) and all(
        isinstance(row, dict) and isinstance(row.get("method"), str) for row in v.values()
    )


@cache
def _store(method: str | None) -> None:
    """Register the schema and a method's settings with Hydra."""
    store = ConfigStore.instance()
    store.store(name="request", node=Request)
    if method:
        store.store(group="method", name=method, node=methods.load(method).Config)


def presets() -> list[str]:
    """Return the names of the presets."""
    return sorted(p.stem for p in (HERE / "presets").glob("*.yaml"))


def compose_request(overrides: Iterable[str], method: str | None = None) -> Request:
    """Compose a request; the target determines the preset unless one is given.

    Args:
        overrides: the settings, as `name=value`.
        method: name of the method whose settings belong to the request, or None.

    Raises:
        InputError: a name, type or value is wrong.
    """
    given = dict(map(split_override, overrides))
    if "methods" in given and "" in given["methods"].split(","):
        raise InputError(f"methods={given['methods']}: an empty name; expected names of rows between commas")
    texts = {key: given[key] for key in TEXTS if given.get(key) not in (None, "", "null")}
    words = [_checked(o, method) for o in overrides if split_override(o)[0] not in texts]
    preset = given.get("preset") or _preset_of(given.get("target", Request.target))
    if preset not in presets():
        raise InputError(
            f"preset={preset}: not known{suggest(preset, presets())} Known: {', '.join(presets())}"
        )
    read_yaml(HERE / "presets" / f"{preset}.yaml")  # names the error, which Hydra would not
    words = [w for w in words if not w.startswith(("preset=", "method="))]
    _store(method)
    try:
        with ONE_AT_A_TIME, initialize_config_dir(str(HERE), version_base="1.3", job_name="transferbench"):
            chosen = [f"+method={method}"] if method else []
            config = compose("request", [f"+presets={preset}", f"preset={preset}", *chosen, *words])
        request = OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_one_line(error, words, method)) from error
    except ValueError as error:  # Hydra, on a line that begins with # @
        raise InputError(f"{HERE / 'presets' / preset}.yaml: not readable ({error!s:.100})") from error
    assert isinstance(request, Request)
    for key, value in texts.items():
        group, _, name = key.rpartition(".")
        setattr(getattr(request, group) if group else request, name, value)
    check_numbers(request)
    _check_defaults(request.method_defaults)
    return with_weights(request, given)


def _check_defaults(defaults: Mapping[str, Any]) -> None:
    """Check that `method_defaults` names methods and their settings. Raises InputError."""
    for name, settings in defaults.items():
        if name not in methods.names():
            near = suggest(name, methods.names())
            raise InputError(
                f"method_defaults.{name}: no such method{near} Known: {', '.join(methods.names())}"
            )
        if not isinstance(settings, Mapping):
            expected = f"expected a setting of it, as method_defaults.{name}.NAME=VALUE"
            raise InputError(f"method_defaults.{name}={settings}: {expected}")


def with_weights(request: Request, given: Container[str]) -> Request:
    """Return a request for images of the user without a source, which starts from weights.

    If no network is named it is OWN_BACKBONE, with its published weights if no others are given. On a CPU it
    sees photos at CPU_SIDE, which takes a third of the time of its own size. Other requests stay as they are.
    """
    if request.source is not None or "preset" in given or not datasets.is_own(request.target):
        return request
    from_weights = request.pretrained or request.checkpoint
    if not from_weights and ("backbone" in given or "pretrained" in given):
        return request
    request = replace(request, source="none", pretrained=not request.checkpoint)
    if "backbone" in given:
        return request
    request = replace(request, backbone=OWN_BACKBONE)
    on_gpu = request.device.startswith("cuda") or request.device == "auto" and torch.cuda.is_available()
    is_large = load_target(request).side > SMALL_SIDE
    if on_gpu or request.recipe.image_size or not is_large:
        return request
    return replace(request, recipe=replace(request.recipe, image_size=CPU_SIDE))


def split_override(override: str) -> tuple[str, str]:
    """Split `name=value`; a path is what a shell makes of it, without quotes around it."""
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise InputError(f"'{override}': expected name=value, as recipe.steps=500")
    if key not in TEXTS:
        return key, value
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if is_quoted and not os.path.lexists(value):
        value = value[1:-1]
    return key, checked_path(key, value) if key in PATHS else value


def _checked(override: str, method: str | None) -> str:
    """Return an override of a request, with a method's settings or without, for Hydra's grammar."""
    key, value = split_override(override)
    if "${" in value:  # the grammar would interpolate it, even from the environment
        raise InputError(f"{key}={value}: expected a plain value, without ${{")
    is_bool = _kind(key, method) is bool
    if is_bool and re.fullmatch(NUMBER, value) and value not in ("0", "1"):  # OmegaConf takes any
        raise InputError(f"{key}={value}: expected true or false")
    return f"{'++' if key.split('.')[0] in OPEN else ''}{key}={value}"


def _preset_of(target: str) -> str:
    """Return the preset of a known target; for a path `own`."""
    about = about_given("target", target)
    return about.preset if about else "own"


def about_given(role: str, name: str) -> About | None:
    """Return what is known of a data set that a setting names.

    Raises:
        InputError: for an unknown name, with the setting and the nearest known name.
    """
    try:
        return datasets.about(name)
    except InputError as error:
        raise InputError(f"{role}={name}: {error}") from error


def _one_line(error: Exception, overrides: Iterable[str], method: str | None) -> str:
    """Turn an error of Hydra into one line: the setting, its value, and what is expected."""
    text = f"{error.__cause__ or ''}\n{error}".strip()
    given = dict(o.lstrip("+").partition("=")[::2] for o in overrides)
    found = re.search(r"full_key: ([\w.]+)|argument '([\w.]+)|override '?\+*([\w.]+)", text)
    where = next(filter(None, found.groups())) if found else ""
    name = next((n for n in given if n == where or n.startswith(f"{where}.") and where), where)
    if "Could not override" in text:
        return _unknown(name, _names(method))
    if not name or "mbiguous value" in text:  # Hydra's error does not name the override
        wrong = next((f"{n}={v}" for n, v in given.items() if n == name or not _readable(f"{n}={v}")), "")
        return f"{wrong}: not readable; expected one value, in quotes if it holds any of {{}}[],'"
    if right := MOVED.get((name, given.get(name, "").strip("'\""))):
        return (
            f"{name}={given[name]}: this is a method now; expected method={right}, in bench methods={right}"
        )
    kind = _kind(name, method)
    null = ", or null for none" if NoneType in get_args(kind) else ""
    return f"{name}={given.get(name, '')}: expected {_expected(text, kind)}{null}"


def _kind(name: str, method: str | None) -> Any:
    """Return the type of a setting of the schema, or of a method; None for an unknown one."""
    *groups, last = name.split(".")
    owner: Any = Request
    if method and groups == ["method"]:
        owner, groups = methods.load(method).Config, []
    for group in groups:
        owner = get_type_hints(owner).get(group) if is_dataclass(owner) else None
    return get_type_hints(owner).get(last) if is_dataclass(owner) else None


def _readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _expected(text: str, kind: Any) -> str:
    """Return the type or the choices that OmegaConf expected, from its error and the type of the setting."""
    if "is not Optional" in text:
        words: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
        return words.get(kind, "a name" if kind is str else "another value")
    if choices := re.search(r"expected one of \[(.*?)\]", text):
        return f"one of {choices.group(1)}"
    known = {
        "converted to Integer": "a whole number",
        "converted to Float": "a number",
        "not a valid bool": "true or false",
        "not a ListConfig": "a list, as [100,200]",
        "to Dict[": "names and values, as {name: value}",
        "is not a subclass of": "its settings one by one, as recipe.steps=500",
    }
    return next(
        (right for part, right in known.items() if part in text), f"another value ({text.split(chr(10))[0]})"
    )


def _unknown(name: str, names: list[str]) -> str:
    """Return the message for an unknown setting, with the nearest one, or else the first of its group."""
    if name in RENAMED:
        return f"no setting '{name}'; its new name is '{RENAMED[name]}'"
    prefix, _, last = name.rpartition(".")
    family = {n.rpartition(".")[2]: n for n in names if n.rpartition(".")[0] == prefix}
    elsewhere = [n for n in names if n.rpartition(".")[2] == last]
    if likely := elsewhere or [family[near] for near in nearest(last, family)]:
        return f"no setting '{name}'; did you mean '{likely[0]}'?"
    known = list(family.values()) or names
    more = f" and {len(known) - MOST_KNOWN} more" if len(known) > MOST_KNOWN else ""
    return f"no setting '{name}'. Known: {', '.join(known[:MOST_KNOWN])}{more}"


def _names(method: str | None) -> list[str]:
    """Return every name that can be overridden, with the settings of the method."""
    kinds: dict[str, type] = {"recipe": Recipe, "source_recipe": SourceRecipe, "data": DataPlaces}
    if method:
        kinds["method"] = methods.load(method).Config
    names = []
    for f in fields(Request):
        kind = kinds.get(f.name)
        names += [f"{f.name}.{g.name}" for g in fields(kind)] if kind else [f.name]
    return names


def suites() -> list[str]:
    """Return the names of the suites."""
    return sorted(p.stem for p in (HERE / "suites").glob("*.yaml"))


def read_suite(name: str) -> dict[str, Any]:
    """Read a suite file. Raises InputError for an unknown suite or an invalid file."""
    if name not in suites():
        raise InputError(f"no suite '{name}'{suggest(name, suites())} Known: {', '.join(suites())}")
    path = HERE / "suites" / f"{name}.yaml"
    suite = read_yaml(path)
    if wrong := [key for key, right in SUITE.items() if key in suite and not right(suite[key])]:
        raise InputError(f"{path}: {wrong[0]}={suite[wrong[0]]!r:.60}: invalid value for a suite file")
    if "parts" not in suite and (lacking := [key for key in ("rows", "title", "view") if key not in suite]):
        raise InputError(f"{path}: no {lacking[0]}; expected rows, title, view, source and targets")
    return suite


def suite_rows() -> dict[str, dict[str, Any]]:
    """Return the rows of the default comparison."""
    return read_suite("compare")["rows"]


def named_rows() -> dict[str, dict[str, Any]]:
    """Return the rows that a comparison has only if `methods=` names them."""
    return read_suite("compare")["more"]


def rows(request: Request, overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """Return the rows of a comparison: method names and their settings.

    A `method.<setting>` applies to every row whose method has it.

    Args:
        request: the request.
        overrides: the settings it was composed from.

    Raises:
        InputError: a row is unknown, or no row has a setting.
    """
    wanted = one_form(request.methods).split(",") if request.methods else list(suite_rows())
    known = {**suite_rows(), **named_rows()}
    own = [o for o in overrides if o.startswith("method.")]
    others = [o for o in overrides if not o.startswith("method.")]
    used: set[str] = set()
    result = []
    for name in wanted:
        row = dict(known.get(name) or {"method": name})
        method = row.pop("method")
        choices = sorted({*known, *methods.names()} - {"pretrain"})
        if name not in choices:
            raise InputError(f"methods: no row '{name}'{suggest(name, choices)} Known: {', '.join(choices)}")
        has = {f.name for f in fields(methods.load(method).Config)}
        mine = [o for o in own if o.split("=")[0].removeprefix("method.") in has]
        used.update(mine)
        given = [*(f"{k}={v}" for k, v in row.items()), *mine]
        result.append((method, _settings(request, method, others, given)))
    if lost := [o.split("=")[0] for o in own if o not in used]:
        names = sorted({n for method, _ in result for n in _names(method) if n.startswith("method.")})
        raise InputError(f"{_unknown(lost[0], names)} (methods: {', '.join(wanted)})")
    return result


def _settings(request: Request, method: str, others: Iterable[str], given: Sequence[str]) -> Any:
    """Return a row's settings. Where nothing changes a default, none is composed: that takes 0.1 s a row."""
    if given or request.method_defaults.get(method):
        return settings_of(method, [*others, *given])
    return _resolved(methods.load(method).Config())


def _resolved(settings: Any) -> Any:
    return settings.resolved() if hasattr(settings, "resolved") else settings


def settings_of(method: str, overrides: Iterable[str]) -> Any:
    """Compose a method's settings: its defaults, those of the preset, then the overrides."""
    return request_for(method, tuple(overrides))[1]


@lru_cache(maxsize=256)
def request_for(method: str, given: tuple[str, ...]) -> tuple[Request, Any]:
    """Compose the request of one row and its method's settings: defaults, preset, then overrides."""
    methods.load(method)
    request = compose_request(given, method)
    own = {o.split("=")[0] for o in given}
    defaults = request.method_defaults.get(method, {})
    if extra := [f"method.{k}={v}" for k, v in defaults.items() if f"method.{k}" not in own]:
        request = compose_request([*given, *extra], method)
    settings = request.method
    assert is_dataclass(settings)
    return request, _resolved(settings)
