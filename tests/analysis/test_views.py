"""The list of tables and figures of suites and comparisons."""

from importlib import import_module

import pytest
from paper_records import cell, read, write_plan, write_run
from transferbench import InputError
from transferbench.analysis.views import COMPARISON_FIGURES, VIEWS, suite_drawings, suite_section
from transferbench.benchmarks.config.compose import read_suite, suites


def test_every_figure_is_a_module():
    for name in {figure for view in VIEWS.values() for figure in view.figures}:
        assert callable(import_module(f"transferbench.analysis.figures.{name}").suite_drawings)
    for name in COMPARISON_FIGURES:
        assert callable(import_module(f"transferbench.analysis.figures.{name}").comparison_drawing)


def test_every_suite_has_a_view():
    for name in suites():
        assert read_suite(name).get("view", "scores") in VIEWS


@pytest.mark.parametrize("view", VIEWS)
def test_a_suite_without_runs_has_no_figures(results, view):
    write_plan(results, "x", "", "Mine", view, [])
    write_run(results)
    assert list(suite_drawings(read(results)["x"], results)) == []


def test_an_unknown_view_is_named(results):
    runs = [write_run(results)]
    write_plan(results, "x", "", "Mine", "pie", [cell("L2TL", "pets", runs)])
    with pytest.raises(InputError, match="suite x: unknown view 'pie'; this version reads 'scores' or"):
        suite_section(read(results)["x"])
