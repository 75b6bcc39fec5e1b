"""The documentation: complete, built without a warning, and its example method works."""

import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transferbench.benchmarks.parser import COMMANDS, DATA
from transferbench.methods import catalog

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(DOCS / "_ext"))
    return importlib.import_module("generated")


@pytest.fixture(scope="module")
def pages(generated: ModuleType) -> dict[str, str]:
    return {str(p.relative_to(DOCS)): generated.filled(p.read_text()) for p in PAGES}


def test_every_setting_is_in_the_reference_with_its_meaning(generated, pages):
    groups = [generated.request_settings(), *generated.grouped_settings().values()]
    shown = [(s, "reference/settings.md") for group in groups for s in group]
    shown += [
        (s, "reference/methods.md") for name in catalog.names() for s in generated.method_settings(name)
    ]
    assert not [s.name for s, _ in shown if not s.meaning]
    assert not [s.name for s, page in shown if f"[`{s.name}`]" not in pages[page]]


def test_settings_that_no_schema_lists_by_name_are_there(pages):
    for name in ("backbone_options", "method_defaults", "checkpoint_minutes", "recipe.hflip", "data.mirror"):
        assert f"[`{name}`]" in pages["reference/settings.md"]


def test_every_method_has_its_paper_use_and_cost(generated):
    for name in catalog.names():
        text = generated.method_text(name)
        for part in ("**Paper:**", "**Use when:**", "**Source:**", "**Cost per step:**"):
            assert part in text, (name, part)


def test_every_command_is_in_the_reference_with_an_example(pages):
    for command in (*COMMANDS, DATA):
        part = pages["reference/commands.md"].partition(f"## `transferbench {command.name}`")[2]
        assert f"\ntransferbench {command.name}" in part.partition("\n## ")[0]


def test_every_field_of_a_record_is_described(generated, pages):
    described = set(re.findall(r"`(\w+)`", pages["reference/records.md"]))
    assert generated.record_fields().keys() <= described


def test_every_cluster_setting_has_a_meaning(generated):
    assert not [s.name for s in generated.cluster_settings() if not s.meaning]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    options = ["-b", "html", "-W", "-n", "-E", "-q", "--keep-going", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "html")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "html" / "searchindex.js").exists()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_relative_links_resolve(name):
    missing = [link for link in LINK.findall((ROOT / name).read_text()) if not (ROOT / link).exists()]
    assert not missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_no_number_rests_on_a_script_outside_the_project():
    assert not [p.name for p in PAGES if "not in the project" in p.read_text()]


@pytest.fixture
def example(tmp_path, monkeypatch) -> str:
    """Copy the example of `Add a method` to a method of the catalog, for one test."""
    name = "example_of_the_docs"
    path = tmp_path / f"{name}.py"
    path.write_text((DOCS / "how-to" / "example_method.py").read_text())
    spec = importlib.util.spec_from_file_location(f"{catalog.__package__}.{name}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    known = catalog.names()
    monkeypatch.setattr(catalog, "names", lambda: (*known, name))
    return name


def run(method, first: int, last: int) -> list[dict[str, float]]:
    if first == 0:
        method.prepare()
    return [{k: v.item() for k, v in method.step(t).items()} for t in range(first, last)]


def test_the_example_method_trains_and_resumes_exactly(example, build):
    whole = build(example)
    assert len(run(whole, 0, 3)) == 3
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = build(example)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert run(whole, 3, 6) == run(resumed, 3, 6)
    assert run(build(example), 0, 3) != run(build(example, "method.weight=1"), 0, 3)
