"""The project's words: standard English of the field, and docstrings that begin with a plain verb."""

import ast
import re
from pathlib import Path

import pytest
import transferbench

ROOT = Path(transferbench.__file__).parent
TEXTS = sorted(
    path
    for pattern in ("*.py", "*.md", "*.html", "*.yaml", "*.toml", "*.cff", "Makefile")
    for path in ROOT.rglob(pattern)
    if not {".venv", ".git", "_build", "results", "build", ".mypy_cache"} & set(path.relative_to(ROOT).parts)
    and path != Path(__file__)
)
GONE = {  # phrases that a newcomer stumbles over, and what to write instead
    r"\btold apart\b": "significantly different",
    r"\bposed?d?\b problem": "built",
    r"\bPosed\b": "BuiltProblem",
    r"\bledger\b": "run log",
    r"on the clock\b": "timed",
    r"off the clock\b": "not timed",
    r"\bis had\b": "exists, or was found",
    r"\boptimis": "optimiz",
    r"\bno difference found\b": "inconclusive, or not significant after Holm correction",
    r"\bno difference from fine-tuning found\b": "inconclusive, or not significant after Holm correction",
    r"once more\b.*\bSLURM\b": "resubmit",
}
VAGUE = ("Give", "Say", "Tell", "See that", "Gives", "Says", "Tells", "What", "Whether")  # first words


@pytest.mark.parametrize("pattern", GONE)
def test_words_that_left_do_not_come_back(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}: write '{GONE[pattern]}'"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found


def docstrings(path: Path):
    """Yield line and first line of the docstring of every function and method."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node.lineno, text.splitlines()[0]


def test_docstrings_begin_with_a_plain_verb():
    code = [path for path in TEXTS if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests"]
    vague = re.compile(rf"(?:{'|'.join(VAGUE)})\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {text}"
        for path in code
        for number, text in docstrings(path)
        if vague.match(text)
    ]
    assert len(code) > 100
    assert not found
