"""The command line from end to end, as a person uses it."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console
from transferbench.benchmarks import cli
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.commands.bench import why_preset
from transferbench.benchmarks.config.compose import compose_request, rows, settings_of
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.config.schema import Request
from transferbench.benchmarks.launch.plan import plan, run_order
from transferbench.benchmarks.parser import COMMANDS, DATA
from transferbench.benchmarks.training.pretraining import generalist
from transferbench.methods.catalog import names
from trees import tree

TINY = [
    "tune=off",
    "backbone=tiny",
    "recipe.image_size=16",
    "seeds=2",
    "recipe.steps=4",
    "recipe.evaluations=2",
    "recipe.batch_size=8",
    "source_recipe.steps=4",
    "source_recipe.batch_size=8",
    "threads=1",
    "source_recipe.seed=0",
]
LAUNCH_ONLY = {
    "minutes",
    "yes",
    "keep",
    "methods",
    "seeds",
    "workers",
    "on",
    "cluster",
}  # settings of `bench`, not of `run`


@pytest.fixture(scope="module")
def benched(tmp_path_factory, forked):
    """Run one small comparison, once for all tests here."""
    results = tmp_path_factory.mktemp("bench") / "results"
    command = ["bench", "methods=scratch,finetune,l2tl", f"results={results}", *TINY]
    assert main(command) == 0
    return results, command


def records(results: Path) -> dict[str, int]:
    return {str(p.relative_to(results)): p.stat().st_mtime_ns for p in results.rglob("record.json")}


def test_bench_leaves_records_and_a_report(benched):
    results, _ = benched
    assert len(records(results)) == 7  # three methods, two seeds, one pre-training
    page = (results / "report" / "report.html").read_text()
    assert "L2TL" in page
    assert "Fine-tuning" in page
    assert list((results / "report" / "figures").glob("*-accuracy.png"))
    assert list((results / "report" / "tables").glob("*.csv"))


def test_open_shows_the_page(benched, capsys, monkeypatch):
    results, _ = benched
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["open", f"results={results}"]) == 0
    page = results / "report" / "report.html"
    assert opened == [page.as_uri()]
    assert str(page) in capsys.readouterr().out


def test_log_sends_a_finished_run(benched, capsys, tmp_path):
    results, _ = benched
    run = str(next(results.glob("*/finetune/seed0-*")))
    assert main(["log", run, "to=tensorboard", f"uri={tmp_path / 'events'}"]) == 0
    assert len(list((tmp_path / "events").iterdir())) == 1
    for words, said in {
        (run, "to=excel"): "to=excel: not known; expected tensorboard, mlflow, wandb",
        (str(results), "to=tensorboard"): "no finished run",
        (run,): "expected one run's folder, and to=",
    }.items():
        assert main(["log", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_second_bench_runs_nothing_and_shows_the_table(benched, capsys):
    results, command = benched
    before = records(results)
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "all 6 runs are done" in out
    assert "| Fine-tuning" in out
    assert records(results) == before


def test_one_more_seed_runs_only_what_is_missing(benched, capsys):
    results, command = benched
    before = records(results)
    assert main([*command, "seeds=3", "methods=scratch"]) == 0
    after = records(results)
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


@pytest.mark.parametrize("seeds", [2, 4])
def test_damaged_records_are_named_before_another_run_starts(benched, capsys, tmp_path, seeds):
    results, command = benched
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    damaged = [next(copy.glob(f"*/{row}/*/record.json")) for row in ("finetune", "l2tl")]
    for path, content in zip(damaged, ("{", "[1, 2]"), strict=True):
        path.write_text(content)
    before = records(copy)
    words = [w if not w.startswith("results=") else f"results={copy}" for w in command]
    assert main([*words, f"seeds={seeds}"]) == 2
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if "left out" not in line]
    for path in damaged:
        assert str(path) in line
    assert line.count("; delete the file and run the same command again") == 2
    assert ("| From scratch" in said.out) == (seeds == 2)
    assert records(copy) == before
    assert main(["status", f"results={copy}"]) == 0
    assert "2 damaged" in capsys.readouterr().out


def test_rows_of_earlier_runs_in_the_table_are_named(benched, capsys):
    _, command = benched
    assert main([*command, "methods=finetune"]) == 0
    said = capsys.readouterr().out
    assert "1 method, 2 seeds: " in said
    (line,) = [line for line in said.splitlines() if line.startswith("also in the table")]
    assert line == "also in the table, from earlier runs of the same setting: From scratch, L2TL"


def test_a_run_shows_what_it_rests_on_while_it_is_made(results, capsys, monkeypatch):
    module = "transferbench.benchmarks.launch.progress"
    monkeypatch.setattr(f"{module}.TICK_SECONDS", 0.01)
    monkeypatch.setattr(f"{module}.QUIET_SECONDS", 0.0)
    given = [*TINY, "source_recipe.steps=200", "recipe.steps=100"]
    assert main(["run", "method=finetune", f"results={results}", *given]) == 0
    said = capsys.readouterr().out
    assert re.search(r"running: Source pre-training, seed 0, step \d+/200", said)
    assert re.search(r"running: Fine-tuning, seed 0, step \d+/100", said)
    assert "seeds=2: not used, a run has one, seed=NUMBER\n" in said
    assert main(["run", "method=finetune", f"results={results}", *given]) == 0
    assert "running" not in capsys.readouterr().out


def test_dry_run_prints_runs_with_an_estimate_and_runs_nothing(results, capsys):
    assert main(["bench", "--dry-run", f"results={results}", *TINY]) == 0
    out = capsys.readouterr().out
    assert "L2TL by gradients, seed 1" in out
    assert "21 runs to do, about" in out  # ten rows, two seeds, one pre-training
    assert not results.exists()


@pytest.mark.parametrize("name", sorted(set(names()) - {"pretrain"}))
def test_a_row_has_the_settings_of_a_run_to_the_last_type(name):
    ((method, settings),) = rows(Request(methods=name), ["target=digits"])
    assert repr(settings) == repr(settings_of(method, ["target=digits"]))


@pytest.mark.parametrize(("tune", "said"), [("auto", True), ("paper_grid", True), ("off", False)])
def test_a_rate_that_tuning_replaces_is_said(results, capsys, tune, said):
    given = ["methods=scratch", *TINY, f"tune={tune}", "recipe.lr=0.02", "recipe.clip_grad=1"]
    assert main(["bench", "--dry-run", f"results={results}", *given]) == 0
    line = f"recipe.lr=0.02: not used, because tune={tune} searches it; tune=off uses it\n"
    out = capsys.readouterr().out
    assert (line in out) is said
    assert out.count("not used") == said


def test_what_others_rest_on_comes_first_then_the_dearest_row_of_each_seed(results):
    overrides = ["methods=finetune,scratch,l2tl,datl", *TINY, "source_recipe.steps=40"]
    request = compose_request(overrides)
    todo = run_order(plan(request, overrides), results)
    assert [(c.method, c.seed) for c in todo] == [
        ("pretrain", 0),
        ("scratch", 0),
        ("scratch", 1),
        ("datl", 0),
        ("l2tl", 0),
        ("finetune", 0),
        ("datl", 1),
        ("l2tl", 1),
        ("finetune", 1),
    ]


def test_status_report_methods_and_data(benched, capsys):
    results, _ = benched
    assert main(["status", f"results={results}"]) == 0
    assert "done" in capsys.readouterr().out
    assert main(["report", f"results={results}"]) == 0
    assert main(["methods"]) == 0
    assert "arXiv 1811.07056" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    assert main(["data", "doctor", "digits"]) == 0
    assert "797 test" in capsys.readouterr().out


def test_methods_tells_what_a_step_cost_in_the_records(benched, capsys, tmp_path, monkeypatch):
    results, _ = benched
    assert main(["methods", f"results={results}"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["finetune"].rstrip().endswith(" 1.00 (2 runs)")
    assert re.search(r"\d\.\d\d \(2 runs\)$", lines["l2tl"].rstrip())
    assert lines["bss"].split()[-1] == "weights"
    monkeypatch.chdir(tmp_path)
    assert main(["methods"]) == 0
    assert "runs)" not in capsys.readouterr().out
    assert main(["methods", "results=none"]) == 2
    assert "no results in 'none'" in capsys.readouterr().err


def test_status_tells_failed_and_lost(benched, capsys, tmp_path):
    for name, files in (("failed", {"error.json": {"error": "ValueError: planted"}}), ("lost", {})):
        folder = tmp_path / "a-b" / "finetune" / name
        folder.mkdir(parents=True)
        for file, content in {"config.json": {}, **files}.items():
            (folder / file).write_text(json.dumps(content))
    assert main(["status", f"results={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "1 failed, 1 lost" in out
    assert "planted" in out


def test_a_failed_run_is_exit_one_and_stops_no_other(results, capsys, monkeypatch):
    from transferbench.benchmarks.launch import pool

    def in_process(configs, results, workers, report, tick):
        for config in configs:
            try:
                if config.method == "finetune":
                    raise RuntimeError("planted")
                pool._work(config, results)
                report(config, None)
            except RuntimeError as error:
                report(config, str(error))

    monkeypatch.setattr(pool, "run_all", in_process)
    assert main(["bench", "methods=finetune,scratch", f"results={results}", *TINY]) == 1
    out = capsys.readouterr().out
    assert "planted" in out
    assert "| From scratch" in out


@pytest.mark.parametrize("command", [c.name for c in (*COMMANDS, DATA)])
def test_help_shows_examples_of_the_command_alone(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    examples = [line.split() for line in text.splitlines() if line.startswith("  transferbench ")]
    assert {words[1] for words in examples} == {command}


@pytest.mark.parametrize(("command", "others"), [("bench", {"seed"}), ("run", LAUNCH_ONLY)])
def test_help_names_every_setting(command, others, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert {f.name for f in fields(Request) if not re.search(rf"^  {f.name}[=.]", text, re.M)} == others


def test_the_first_help_lists_commands_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command.summary in " ".join(text.split()) for command in (*COMMANDS, DATA))
    assert re.findall(r"^  (\d+) ", text, re.M) == ["0", "1", "2", "130"]


def test_the_command_line_answers_without_torch(tmp_path):
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'timm'):\n"
        "            raise ModuleNotFoundError(name=name.split('.')[0])\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from transferbench.benchmarks.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for command, word in (
        ("report", "nowhere"),
        ("status", "nowhere"),
        ("bench", "pip install -e '.[train]'"),
    ):
        asked = [sys.executable, "-c", program, command, "results=nowhere"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert word in done.stderr
        assert len(done.stderr.splitlines()) == 1
    asked = [sys.executable, "-c", program, "recommend", "target=digits"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Take:      Fine-tuning" in done.stdout
    assert "labels and classes of the target are not known here" in " ".join(done.stdout.split())


def test_digest_ignores_where_and_on_what_a_run_goes():
    def digest(*overrides):
        request = compose_request(overrides)
        return run_config(request, "finetune", settings_of("finetune", overrides), 0).digest

    assert digest() == digest("device=cpu", "threads=3", "results=elsewhere", "workers=7")
    assert digest() != digest("recipe.lr=0.02")
    assert digest() != digest("shots=6")
    assert digest() == digest("recipe.source_batch_size=0")
    assert digest() != digest("recipe.source_batch_size=24")


def test_runs_with_other_source_batches_share_their_pre_training():
    def pretraining(*overrides):
        request = compose_request(overrides)
        return generalist(run_config(request, "l2tl", settings_of("l2tl", overrides), 0)).digest

    assert pretraining() == pretraining("recipe.source_batch_size=24")


def test_presets_reach_recipe_and_method():
    overrides = ["preset=code_svhn"]
    request = compose_request(overrides)
    assert request.recipe.batch_size == 8
    assert request.recipe.milestones == [800]
    assert settings_of("l2tl", overrides).num_actions == 100
    assert settings_of("l2tl", [*overrides, "method.num_actions=6"]).num_actions == 6
    assert settings_of("l2tl", []).num_actions == 11


def test_a_path_has_the_preset_own_and_a_length_by_its_images(tmp_path):
    target = f"target={tree(tmp_path / 'pets', train=6, val=2, test=2)}"

    def line(*overrides):
        request = compose_request(overrides)
        config = run_config(request, "scratch", settings_of("scratch", overrides), 0)
        return why_preset(request, overrides, config), config.recipe

    said, recipe = line(target, "source=none")
    assert said == (
        "preset=own: the default of a path; recipe.steps=300 and recipe.batch_size=8 by its 12 training "
        "images"
    )
    assert (recipe.steps, recipe.batch_size, recipe.image_size, recipe.clip_grad) == (300, 8, 32, 1.0)
    assert line(target, "source=none", "recipe.steps=5", "shots=2")[0] == (
        "preset=own: the default of a path; recipe.batch_size=4 by its 4 training images"
    )
    said, recipe = line(target, "source=none", "preset=small")
    assert (said, recipe.steps) == ("preset=small: given", 600)
    assert line("target=digits")[0] == "preset=embedded: the default of digits"


def test_a_setting_reaches_every_row_that_has_it():
    overrides = ["method.num_actions=21", "methods=finetune,uniform,l2tl"]
    request = compose_request([overrides[1]])
    chosen = rows(request, overrides)
    assert [method for method, _ in chosen] == ["finetune", "l2tl", "l2tl"]
    assert [settings.num_actions for _, settings in chosen[1:]] == [21, 21]
    assert chosen[1][1].weights == "uniform"


def test_rows_that_are_there_by_name_are_no_default():
    (first, random), (second, code) = rows(compose_request(["methods=random,l2tl_code"]), [])
    assert (first, random) == ("l2tl", settings_of("l2tl", ["method.weights=random"]))
    assert (second, code) == ("l2tl", settings_of("l2tl", ["method.preset=code_svhn"]))
    by_default = [settings for _, settings in rows(compose_request([]), [])]
    assert random not in by_default
    assert code not in by_default


def test_variants_of_a_method_stand_in_one_table_with_it():
    names = ["lora", "lora_attn", "vpt", "vpt_shallow", "soup", "soup_uniform"]
    found = rows(compose_request([f"methods={','.join(names)}"]), [])
    assert [method for method, _ in found] == ["lora", "lora", "vpt", "vpt", "soup", "soup"]
    settings = [own for _, own in found]
    assert (settings[1].layers, settings[3].deep, settings[5].selection) == ("attn", False, "uniform")
    assert [settings[i] for i in (0, 2, 4)] == [settings_of(name, []) for name in ("lora", "vpt", "soup")]


def test_a_method_that_cannot_run_says_why_and_the_table_too(tmp_path, capsys, forked):
    results = tmp_path / "results"
    quick = ["recipe.steps=2", "source_recipe.steps=2", "recipe.evaluations=1", "seeds=1", "device=cpu"]
    unnormed = ["backbone=digits_cnn", "recipe.image_size=32"]  # StochNorm needs batch norms
    overrides = [f"results={results}", "methods=finetune,stochnorm", *quick, *unnormed]
    assert main(["bench", *overrides]) == 0
    shown = capsys.readouterr().out
    reason = next(line for line in shown.splitlines() if line.startswith("not run: StochNorm: "))
    told = reason.removeprefix("not run: StochNorm: ")
    assert f"StochNorm was not run: {told}." in shown
    assert f"StochNorm was not run: {told}." in (results / "report/report.html").read_text()
    assert not list(results.glob("*/stochnorm/*/record.json"))
    assert main(["bench", *overrides]) == 0  # the second time too
    single = ["method=stochnorm", f"results={results}", *quick[:3], *unnormed]
    assert main(["run", *single]) == 2
    assert "method=stochnorm: cannot run here" in capsys.readouterr().err
    assert main(["bench", *overrides, "methods=stochnorm"]) == 2


def test_given_rates_that_tuning_replaces_are_told(tmp_path, capsys):
    given = [*TINY, "target=digits", "methods=scratch", "seeds=1", f"results={tmp_path}", "recipe.lr=0.07"]
    given.remove("tune=off")
    main(["bench", *given, "tune=auto", "--dry-run"])
    out = capsys.readouterr().out
    assert "recipe.lr=0.07: not used, because tune=auto searches it; tune=off uses it" in out
    assert "From scratch, 12 trials of " in out
    assert "10 runs to do and 3 trials of the best candidates" in out
    main(["bench", *given, "tune=off", "--dry-run"])
    assert "not used" not in capsys.readouterr().out


def test_a_reader_that_closes_its_pipe_is_no_failure(monkeypatch):
    def printed(_):
        class Closed:
            def write(self, text):
                raise BrokenPipeError

            def flush(self):
                raise BrokenPipeError

        Console(file=Closed()).print("a")

    monkeypatch.setitem(cli.COMMANDS, "status", printed)
    with pytest.raises(SystemExit) as end:
        main(["status"])
    assert end.value.code == 0


def test_a_results_folder_that_is_read_only_is_named_before_the_first_run(tmp_path, monkeypatch, capsys):
    given = ["target=digits", "methods=finetune", "seeds=1", *TINY[:3], *TINY[4:], f"results={tmp_path}"]
    assert main(["bench", *given]) == 0
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path) and access(path, mode))
    capsys.readouterr()
    assert main(["bench", *given]) == 0
    said = capsys.readouterr().out
    assert "read-only; the page and the kept models stay as they are" in said
    assert "| Fine-tuning" in said
    wanted = f"transferbench: results={tmp_path}: cannot be written (read-only)"
    one = [word for word in given if not word.startswith(("methods=", "seeds="))]
    for words in (["bench", *given], ["run", "method=finetune", *one]):
        assert main([*words, "recipe.lr=0.02"]) == 2
        assert capsys.readouterr().err.startswith(wanted)


def test_a_row_of_bench_is_no_method_of_run(capsys):
    assert main(["run", "method=uniform"]) == 2
    assert "method=uniform: a row of `bench`; expected methods=uniform there" in capsys.readouterr().err
