"""Imports inside `analysis` run downwards only."""

import ast
from pathlib import Path

import pytest
import transferbench.analysis

ROOT = Path(transferbench.analysis.__file__).parent
LAYERS = (  # from the top
    ("report", "recommend", "compare"),
    ("views",),
    ("speed",),
    ("page",),
    ("figures",),
    ("tables",),
    ("wording",),
    ("statistics",),
    ("records",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py"]


def layer_of(dotted: str) -> str:
    return dotted.split(".")[0]


def imported(path: Path) -> set[str]:
    """Return the modules of `analysis` that a module imports, relative to `analysis`."""
    package = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(package) + 1:
            start = package[: len(package) + 1 - node.level]
            names = [*start, *((node.module or "").split("."))]
            base = ".".join(filter(None, names))
            found |= {base} if base else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    upward = {name for name in imported(path) if RANK[layer_of(name)] < RANK[own]}
    assert not upward


def test_no_two_modules_import_each_other():
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): imported(path) for path in MODULES}
    circles, done = [], set()

    def visit(name, above):
        if name in above:
            circles.append([*above, name])
        elif name not in done and name in names:
            for other in names[name]:
                visit(other, [*above, name])
            done.add(name)

    for name in names:
        visit(name, [])
    assert not circles
