"""Imports go one way, and reading results needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import transferbench

ROOT = Path(transferbench.__file__).parent
PACKAGES = ("methods", "datasets", "benchmarks", "analysis", "slurm")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
CONFIG = ROOT / "benchmarks" / "config" / "compose.py"


def imported(path: Path, text: str | None = None) -> set[str]:
    """List what a module imports, anywhere in it, as full dotted names."""
    package = ("transferbench", *path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*start, *((node.module,) if node.module else ()))
            found |= {".".join((*module, alias.name)) for alias in node.names}
    return found


def modules_of(*packages: str) -> list[Path]:
    return [path for path in MODULES if path.relative_to(ROOT).parts[0] in packages]


def starts(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def test_the_reader_of_imports_resolves_them():
    text = "import a.b\ndef f():\n from .. import X\n from ..methods.base import Y\n from .load import Z\n"
    assert imported(ROOT / "analysis" / "x.py", text) == {
        "a.b",
        "transferbench.X",
        "transferbench.methods.base.Y",
        "transferbench.analysis.load.Z",
    }
    assert len(MODULES) > 30


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("datasets", ("datasets",)),
        ("methods", ("methods", "datasets")),
        ("analysis", ("analysis",)),
        ("slurm", ("slurm",)),
    ],
)
def test_imports_go_one_way(package, allowed):
    root = tuple(
        f"transferbench.{name}"
        for name in (
            "InputError",
            "RunFailed",
            "__version__",
            "nearest",
            "printable",
            "suggest",
            "plain_yaml",
        )
    )
    of_ours = (*root, *(f"transferbench.{name}" for name in allowed))
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules_of(package)
        for name in imported(path)
        if starts(name, "transferbench") and not starts(name, *of_ours)
    }
    assert not wrong


def test_analysis_and_slurm_do_without_torch():
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules_of("analysis", "slurm")
        for name in imported(path)
        if starts(name, "torch", "torchvision", "timm", "sklearn")
    }
    assert not wrong


def test_only_the_configuration_knows_hydra():
    users = {path for path in MODULES if any(starts(n, "hydra", "omegaconf") for n in imported(path))}
    assert users == {CONFIG}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("analysis.report", {"torch", "torchvision", "timm"}),
        ("benchmarks.cli", {"torch", "torchvision", "timm"}),
        ("benchmarks.commands.bench", {"torchvision", "timm", "pandas", "scipy", "matplotlib"}),
    ],
)
def test_it_loads_no_more_than_it_needs(module, unwanted):
    code = f"import sys, transferbench.{module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "transferbench" in loaded
    assert not loaded & unwanted


def test_no_module_is_called_utils():
    vague = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}
    named = {path.relative_to(ROOT) for path in MODULES if vague & set(path.stem.split("_"))}
    assert not named
