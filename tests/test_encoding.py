"""Text is UTF-8 wherever it is read or written: a machine's own encoding changes no file and no list."""

import ast
from pathlib import Path

import pytest
import transferbench

ROOT = Path(transferbench.__file__).parent
FOLDERS = ("analysis", "benchmarks", "datasets", "methods", "slurm", "docs/_ext")
FILES = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]
OTHERS = (
    "os",
    "tarfile",
    "Image",
    "io",
    "webbrowser",
    "OPENER",
    "entries",
    "progress",
)  # whose open() differs


def without_encoding(text: str) -> list[int]:
    """List the lines of calls that read or write text in the encoding of the machine."""
    found = []
    for call in ast.walk(ast.parse(text)):
        if not isinstance(call, ast.Call):
            continue
        function, named = call.func, {word.arg: word.value for word in call.keywords}
        name = getattr(function, "attr", getattr(function, "id", ""))
        of = getattr(getattr(function, "value", None), "id", "")
        if name in ("run", "Popen", "check_output"):
            is_text = "text" in named
        elif name in ("open", "fdopen") and (of not in OTHERS or name == "fdopen"):
            modes = [*call.args, *named.values()]
            words = [m.value for m in modes if isinstance(m, ast.Constant) and isinstance(m.value, str)]
            is_text = not any("b" in word for word in words if len(word) < 4)
        else:
            is_text = name in ("read_text", "write_text") or (name == "TextIOWrapper" and len(call.args) < 2)
        if is_text and "encoding" not in named:
            found.append(call.lineno)
    return found


@pytest.mark.parametrize(
    ("text", "num"),
    [
        ("path.read_text()\npath.write_text(x)\npath.open()\nopen(path, 'a')\nos.fdopen(n)", 5),
        ("run(words, text=True)", 1),
        ("path.read_text(encoding='utf-8')\npath.open('rb')\nopen(p, 'xb')\nos.open(p, 3)\nrun(words)", 0),
        ("path.read_text(errors='replace')\npath.open(newline='')\ntarfile.open(p)", 2),
    ],
)
def test_the_search_finds_what_depends_on_the_machine(text, num):
    assert len(without_encoding(text)) == num


def test_no_file_depends_on_the_encoding_of_the_machine():
    assert len(FILES) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}: expected encoding='utf-8'"
        for path in FILES
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert not found
