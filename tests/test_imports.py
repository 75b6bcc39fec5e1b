"""Imports go one way: between the packages, and downwards inside each; reading results needs no torch."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
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
            "install_command",
            "nearest",
            "printable",
            "suggest",
            "terminal",
            "home",
            "plain_yaml",
            "file_lock",
            "user_text",
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


FLOORS = {  # from the top; folders and files that are not named are not ordered among each other
    "analysis": (
        ("report", "recommend", "compare", "speed"),
        ("page", "candidates"),
        ("views",),
        ("figures",),
        ("tables",),
        ("alarms",),
        ("wording",),
        ("statistics",),
        ("records",),
    ),
    "benchmarks": (("cli",), ("parser", "commands"), ("launch",), ("training",), ("config",)),
    "datasets": (
        ("catalog",),
        ("loading",),
        ("download",),
        ("reading",),
        ("storage",),
        ("decoding", "files"),
    ),
    "methods": (("catalog",), ("components", "l2tl_policy"), ("networks",)),
}


def module_of(name: str) -> Path | None:
    """Return the file of a dotted name, or of the module that it is defined in; None if it is not ours."""
    parts = name.removeprefix("transferbench.").split(".")
    for count in (len(parts), len(parts) - 1):
        path = ROOT.joinpath(*parts[:count]).with_suffix(".py") if count else None
        if path in MODULES:
            return path
    return None


GRAPH = {
    path: {found for name in imported(path) if (found := module_of(name)) and found != path}
    for path in MODULES
}


def test_the_graph_of_imports_is_read():
    assert sum(map(len, GRAPH.values())) > 400


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(str(path.relative_to(ROOT)) for path in error.args[1]))


def floor(package: str, path: Path) -> int | None:
    """Return the floor of a file, counted from the top; None where its folder is not ordered."""
    name = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
    return next((i for i, rooms in enumerate(FLOORS[package]) if name in rooms), None)


@pytest.mark.parametrize("package", FLOORS)
def test_imports_run_downwards(package):
    own = [path for path in MODULES if path.relative_to(ROOT).parts[0] == package]
    placed = {path: at for path in own if (at := floor(package, path)) is not None}
    assert set(placed.values()) == set(range(len(FLOORS[package])))
    upwards = {
        f"{path.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for path, at in placed.items()
        for other in GRAPH[path]
        if placed.get(other, at) < at
    }
    assert not upwards


@pytest.mark.parametrize("package", ["methods", "datasets"])
def test_a_plugin_folder_holds_plugins_and_their_contract(package):
    """Machinery lies in folders: each file at the root is a plugin, or belongs to the contract."""
    contract = {
        "methods": {"base", "catalog", "metrics", "recipe"},
        "datasets": {"about", "augment", "base", "catalog", "device", "distributed", "pixels", "planted"},
    }[package]
    mark = {"methods": "(Method", "datasets": "ABOUT"}[package]
    files = {path for path in (ROOT / package).glob("*.py") if path.stem not in {"__init__", *contract}}
    assert len(files) > 20
    assert {path.name for path in files if mark not in path.read_text()} == set()
