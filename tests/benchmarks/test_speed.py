"""`make speed` compares equal computations, its table is right, and ratios of cost stay as they are."""

import json
from statistics import median

import pytest
from transferbench import InputError
from transferbench.analysis import speed
from transferbench.benchmarks.speed.build import SameBatch, build, flops, stepper
from transferbench.benchmarks.speed.interleaved import Rounds, Times, cpu_clock
from transferbench.benchmarks.speed.reference_loops import timm_loop, torch_loop

MARGIN = 1.25  # noise of a median of 12 rounds stays below 1.1 on a busy machine
ROUNDS, WARMUP = 12, 2


def _times(rivals):
    rounds = Rounds(rivals, cpu_clock)
    for _ in range(ROUNDS + WARMUP):
        rounds()
    return rounds.times(WARMUP)


def _three_loops(*overrides):
    method, _ = build("finetune", *overrides)
    batch = next(method.target)
    method.target = SameBatch(batch)
    loops = [loop(method.net, method.recipe, SameBatch(batch)) for loop in (torch_loop, timm_loop)]
    return method, loops


def test_the_rivals_do_the_same_training():
    method, loops = _three_loops("recipe.batch_size=16", "recipe.schedule=constant", "recipe.steps=100000")
    ours = [method.step(t)["loss"].item() for t in range(4)]
    assert ours[3] < 0.9 * ours[0]
    for loop in loops:
        assert [loop().item() for _ in range(4)] == pytest.approx(ours, rel=1e-4)


def test_a_fine_tuning_step_costs_what_a_bare_loop_costs():
    method, (torch_step, timm_step) = _three_loops("recipe.batch_size=64")
    times = _times({"ours": stepper(method), "torch": torch_step, "timm": timm_step})
    assert median(times.to_fastest("ours", ["torch", "timm"])) < MARGIN


def test_an_l2tl_step_costs_what_its_operations_cost():
    finetune, _ = build("finetune", "recipe.batch_size=64")
    l2tl, _ = build("l2tl", "recipe.batch_size=64")
    floor = flops(l2tl) / flops(finetune)
    assert floor == pytest.approx(10 / 3, rel=0.02)  # (B + B) x 3 + 4 B against 3 B passes
    times = _times({"l2tl": stepper(l2tl), "finetune": stepper(finetune)})
    assert median(times.ratios("l2tl", "finetune")) < MARGIN * floor


def test_ratios_are_taken_round_by_round():
    times = Times({"a": [2.0, 30.0, 6.0], "b": [1.0, 10.0, 2.0], "c": [4.0, 4.0, 4.0]})
    assert times.ratios("a", "b") == [2, 3, 3]
    assert times.to_fastest("a", ["b", "c"]) == [2, 3, 3]


def test_rounds_turn_their_order_and_count_none_of_the_warm_up():
    ran = []
    ticks = iter(range(100))
    rounds = Rounds({name: lambda name=name: ran.append(name) for name in "abc"}, lambda: next(ticks))
    for _ in range(4):
        rounds()
    assert "".join(ran) == "abcbcacababc"
    assert rounds.times(3).seconds == {"a": [1], "b": [1], "c": [1]}


def _report(**changes):
    figure = {
        "what": "a / b",
        "value": 1.0449,
        "low": 1.0,
        "high": 1.1,
        "unit": "x",
        "most": 1.03,
        "least": None,
    }
    return {
        "machine_info": {
            "cpu": {"brand_raw": "A CPU"},
            "cores": 2,
            "device": "no GPU",
            "versions": {"torch": "2"},
        },
        "commit_info": {"id": "0123456789abcdef"},
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": [{"extra_info": {"figures": [figure | changes]}}, {"extra_info": {}}],
    }


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({}, "| a / b | 1.04 | 1 to 1.1 | at most 1.03 | no |"),
        ({"value": 1.03}, "| a / b | 1.03 | 1 to 1.1 | at most 1.03 | yes |"),
        ({"most": None, "least": 1.05}, "| a / b | 1.04 | 1 to 1.1 | at least 1.05 | no |"),
        ({"most": None, "least": 1.0}, "| a / b | 1.04 | 1 to 1.1 | at least 1 | yes |"),
        ({"most": None, "unit": "ms", "low": 1.0449, "high": 1.0449}, "| a / b | 1.04 ms |  |  |  |"),
        ({"value": 14000000.0, "most": None}, "| a / b | 14,000,000 | 1 to 1.1 |  |  |"),
    ],
)
def test_the_table_says_what_was_measured_and_wanted(tmp_path, capsys, changes, cells):
    (tmp_path / "speed.json").write_text(json.dumps(_report(**changes)))
    speed.main([str(tmp_path / "speed.json")])
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "A CPU, 2 cores, no GPU, torch 2, commit 0123456789, 2026-01-02"
    assert said.splitlines()[-1].split() == cells.split()


def test_the_page_shows_the_figures_where_there_are_some(tmp_path):
    assert speed.part(tmp_path) is None
    (tmp_path / "speed.json").write_text(json.dumps(_report()))
    shown = speed.part(tmp_path)
    assert [cell.text for cell in shown["grid"].rows[0]] == [
        "a / b",
        "1.04",
        "1 to 1.1",
        "at most 1.03",
        "no",
    ]


def test_growth_is_drawn_a_panel_each(tmp_path):
    report = _report()
    for n in (1, 2):
        points = [[10, 1.0 * n], [100, 2.0]]
        report["benchmarks"].append({"extra_info": {"curve": {"what": "a", "axis": "b", "points": points}}})
    panels = speed.growth_figure(report).axes
    assert [panel.lines[0].get_ydata().tolist() for panel in panels] == [[1, 2], [2, 2]]


@pytest.mark.parametrize("text", [None, "{torn"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "speed.json").write_text(text)
    with pytest.raises(InputError, match=r"speed\.json: cannot be read; expected the figures"):
        speed.read(tmp_path / "speed.json")
