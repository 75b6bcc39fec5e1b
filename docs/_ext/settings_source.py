"""Read the meaning of settings from the source: docstrings and comments beside dataclass fields."""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
import types
import typing
from dataclasses import MISSING, dataclass
from enum import Enum
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One setting as the reference shows it."""

    name: str
    type: str
    default: str
    meaning: str


def settings(cls: type, prefix: str = "", presets: str = "the preset") -> list[Setting]:
    """Return the settings of a dataclass in the order of the source.

    Args:
        cls: a dataclass.
        prefix: put before each name, such as `recipe.`.
        presets: where the value comes from if the default is None and the type is optional.
    """
    hints = typing.get_type_hints(cls)
    meanings = field_meanings(cls)
    return [
        Setting(
            prefix + f.name,
            type_text(hints[f.name]),
            default_text(f),
            meaning_text(meanings.get(f.name, ""), hints[f.name]),
        )
        for f in dataclasses.fields(cls)
    ]


@cache
def field_meanings(cls: type) -> dict[str, str]:
    """Return the comment or docstring of each annotated field and of each enum member of a class."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if dataclasses.is_dataclass(base) or issubclass(base, Enum):
            found |= _own_meanings(base)
    return found


def _own_meanings(cls: type) -> dict[str, str]:
    try:
        text = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # an enum of the standard library
        return {}
    (tree,) = ast.parse(text).body
    assert isinstance(tree, ast.ClassDef)
    comments, alone = _comments(text)
    found = {}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign | ast.Assign):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if not isinstance(target, ast.Name):
            continue
        meaning = _docstring(following)
        if not meaning:
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            meaning = next((comments[n] for n in lines if n in comments and n not in alone), "")
        if not meaning:
            meaning = _above(node.lineno, comments, alone)
        found[target.id] = " ".join(meaning.split())
    return found


def _comments(text: str) -> tuple[dict[int, str], set[int]]:
    """Return comments by line, and the lines that hold nothing else."""
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            words = re.sub(r"^#\s?|\s*(#\s*)?(type: ignore|noqa).*$", "", token.string).strip()
            if token.string.lstrip("# ").startswith(("type: ignore", "noqa")):
                continue
            comments[token.start[0]] = words
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    return comments, alone


def _above(line: int, comments: dict[int, str], alone: set[int]) -> str:
    """Return the comment lines directly above a line."""
    words: list[str] = []
    while line - 1 in alone:
        line -= 1
        words.insert(0, comments[line])
    return " ".join(words)


def _docstring(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value) if isinstance(node.value.value, str) else ""
    return ""


def type_text(hint: Any) -> str:
    """Return a type in words."""
    if is_optional(hint):
        return f"{type_text(enum_or_type(hint))} or null"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "choice"
    names = {int: "int", float: "float", bool: "bool", str: "text", Any: "any"}
    if hint in (int, float, bool, str, Any):
        return names[hint]
    if typing.get_origin(hint) is list:
        return f"list of {type_text(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) is dict:
        return "names and values"
    return getattr(hint, "__name__", str(hint))


def is_optional(hint: Any) -> bool:
    """Return whether a type is `X | None`."""
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def enum_or_type(hint: Any) -> Any:
    """Return X of `X | None`, else the type itself."""
    if not is_optional(hint):
        return hint
    return next(arg for arg in typing.get_args(hint) if arg is not type(None))


def default_text(field: "dataclasses.Field[Any]") -> str:
    """Return a default as an override has it."""
    if field.default is not MISSING:
        return value_text(field.default)
    if field.default_factory is not MISSING:
        return value_text(field.default_factory())
    return ""


def value_text(value: Any) -> str:
    """Return a value as an override has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list):
        return f"[{','.join(map(value_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {value_text(v)}" for k, v in value.items()) + "}"
    return str(value)


def meaning_text(meaning: str, hint: Any) -> str:
    """Return the meaning of a setting, with the meaning of each choice."""
    kind = enum_or_type(hint)
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return sentence(meaning)
    meaning = meaning or (inspect.getdoc(kind) or "").split("\n\n")[0]
    choices = field_meanings(kind)
    listed = [
        f"`{member.value}`" + (f" ({choices[member.name]})" if choices.get(member.name) else "")
        for member in kind
    ]
    return f"{sentence(meaning)} Choices: {', '.join(listed)}."


def sentence(text: str) -> str:
    """Return a comment as a sentence."""
    text = " ".join(text.split()).rstrip(".")
    # A lone letter is a symbol, such as n; name=value is a setting.
    begins_with_word = text[:2].isalpha() and "=" not in text.split(" ", 1)[0]
    return f"{text[:1].upper() if begins_with_word else text[:1]}{text[1:]}." if text else ""
