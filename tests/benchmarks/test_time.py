"""The time of a bench: its estimate, the fit to `minutes`, and what is not started."""

from io import StringIO

import pytest
import torch
from rich.console import Console
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.compose import compose_request
from transferbench.benchmarks.launch import estimate as estimates
from transferbench.benchmarks.launch.estimate import Estimator
from transferbench.benchmarks.launch.limit import SPARE, fit, read_plan
from transferbench.benchmarks.launch.plan import plan, row_names
from transferbench.benchmarks.launch.progress import Progress
from transferbench.benchmarks.launch.speed import Speed, measure
from transferbench.benchmarks.training.pretraining import generalist
from transferbench.benchmarks.training.run import run_one
from trees import TINY, tree

TRAINED, JUDGED = 0.01, 0.002  # seconds of an image
FIXED = estimates.START_SECONDS + estimates.END_SECONDS
RUN = estimates.RUN_SECONDS
GIVEN = (
    *("tune=off", "shots=5", "labels=train", "seeds=1"),
    *("recipe.steps=100", "recipe.batch_size=20", "recipe.evaluations=4"),
    *("source_recipe.steps=50", "source_recipe.batch_size=10", "source_recipe.seed=0"),
)
BENCH = ("seeds=5", "recipe.steps=1000", "recipe.batch_size=32", "recipe.evaluations=10")
STEPS = 100 * 20 * TRAINED
JUDGING = (4 * 400 + 797) * JUDGED  # the holdout at each point of the curve, and the test images


@pytest.fixture
def speed(monkeypatch):
    """Give the machine a speed; return a function that makes it faster."""

    def set_to(factor: float) -> None:
        found = Speed(TRAINED / factor, JUDGED / factor)
        monkeypatch.setattr(estimates, "measure", lambda *_: found)

    set_to(1)
    return set_to


def total(results, *overrides: str, workers: int = 1) -> float:
    """Return the estimated seconds of a bench of the embedded pair, without start and end."""
    words = [*GIVEN, *overrides]
    return Estimator(results, workers, 1).of(plan(compose_request(words), words)).total - FIXED


def test_a_run_takes_its_steps_its_evaluations_and_its_test(speed, results):
    one = RUN + STEPS + JUDGING
    assert total(results, "methods=scratch") == pytest.approx(one)
    assert total(results, "methods=scratch", "seeds=3") == pytest.approx(3 * one)
    assert total(results, "methods=scratch", "seeds=3", workers=2) == pytest.approx(2 * one)
    assert total(results, "methods=scratch", "recipe.test_crops=ten") == pytest.approx(one + 9 * 797 * JUDGED)


def test_the_source_pretraining_is_waited_for_and_that_of_a_method_counts(speed, results):
    pretraining = total(results, "methods=finetune", workers=2) - RUN - STEPS - JUDGING
    assert pretraining >= 50 * 10 * TRAINED
    own = total(results, "methods=datl") - total(results, "methods=finetune")
    assert own == pytest.approx(RUN + 0.3 * 50 * 10 * TRAINED)


def test_a_method_in_closed_form_reads_its_images_once_for_all_rows(speed, results):
    probe = total(results, "methods=linear_probe")
    frozen = total(results, "methods=knn") - RUN
    assert frozen < probe
    again = total(results, "methods=knn,ncm") - total(results, "methods=knn")
    assert again == pytest.approx(RUN + (400 + 797) * JUDGED)


def test_all_trials_count_those_of_the_last_round_too(speed, results):
    off = total(results, "methods=scratch")
    for labels in ("labels=train", "labels=all"):
        tuned = total(results, "methods=scratch", "tune=auto", labels)
        assert (
            4.9 * STEPS < tuned - off < 8 * STEPS
        )  # fold 1 of the best candidates is done in the first round


def test_a_record_of_this_machine_tells_the_time_of_a_step(speed, results, config_of):
    words = ("recipe.batch_size=16", "recipe.steps=6", "methods=scratch", "backbone=tiny")
    before = total(results, *words)
    config = plan(compose_request([*GIVEN, *words]), [*GIVEN, *words])[0]
    record = run_one(config, results)
    after = total(results, *words, "seeds=2")
    own = before - 6 * 16 * TRAINED + 6 * record["seconds"]["per_step_median"]
    assert after == pytest.approx(own)


def test_steps_are_timed_together_and_leave_no_trace(config_of):
    config = config_of("finetune")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for each in (config, generalist(config)):
        found = measure(each, 2, 1, 100)
        assert 0 < found.judged < 1
        assert 0 < found.trained < 1
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == 1


def without_method(words: list[str]) -> list[str]:
    """Return the settings of a bench without those of its methods."""
    return [word for word in words if not word.startswith("method.")]


@pytest.fixture
def fitted(speed, results):
    """Fit a bench to minutes; return the settings."""

    def to(minutes: float, *overrides: str) -> list[str]:
        words = [*BENCH, "source_recipe.steps=500", "source_recipe.batch_size=10", *overrides]
        request = compose_request(without_method(words))
        estimator = Estimator(results, 1, 1)
        runs = plan(request, words)
        found = fit(minutes, words, row_names(request), runs, lambda some: estimator.of(some).total)
        changed = [*words, *found]
        after = estimator.of(plan(compose_request(without_method(changed)), changed)).total
        assert after <= 60 * minutes / SPARE
        return found

    return to


def test_steps_are_cut_first_then_seeds_then_rows(fitted):
    assert fitted(1000) == []
    (steps, source) = fitted(200)
    assert 50 < int(steps.removeprefix("recipe.steps=")) < 1000
    assert source.startswith("source_recipe.steps=")
    assert "seeds=4" in fitted(30)
    few = fitted(10)
    assert "seeds=3" in few
    assert few[-1].startswith("methods=")
    assert "finetune" in few[-1]
    assert not [o for o in few if o.startswith("tune_budget")]  # nothing is tuned on digits
    named = fitted(30, "methods=l2tl,finetune", "seeds=2")
    assert not [o for o in named if o.startswith(("methods=", "seeds="))]


def test_rows_with_a_setting_that_is_given_stay(fitted):
    rows = {o.partition("=")[2] for o in fitted(10) if o.startswith("methods=")}
    assert not any("l2tl" in each for each in rows)
    (kept,) = (o for o in fitted(17, "method.num_actions=21") if o.startswith("methods="))
    assert "l2tl" in kept.partition("=")[2].split(",")


def test_trials_are_cut_before_rows(fitted):
    """Two rows of three seeds with the usual trials, or with fewer ones, or fewer rows."""
    words = ("tune=auto", "seeds=3", "pretrained=false")
    by_minutes = [fitted(minutes, *words) for minutes in (120, 60, 40, 30)]
    cut = [[o.partition("=")[0] for o in found] for found in by_minutes]
    tuned_less = [names for names in cut if "tune_budget" in names]
    assert tuned_less
    assert all("tune_budget" in names for names in cut if "methods" in names)
    assert all("tune_budget=3" in found for found in by_minutes if any("tune_b" in o for o in found))
    given = fitted(60, *words, "tune_budget=4")
    assert not [o for o in given if o.startswith("tune_budget")]


def test_too_few_minutes_are_refused_with_those_that_work(fitted):
    with pytest.raises(InputError, match=r"^minutes=0.1: .*; expected minutes=(\d+) or more") as error:
        fitted(0.1, "methods=finetune,l2tl")
    least = str(error.value).partition("expected minutes=")[2].split()[0]
    assert fitted(float(least), "methods=finetune,l2tl")


@pytest.fixture
def own(tmp_path):
    """Settings of a bench of own images."""
    place = tree(tmp_path / "pets")
    return [f"target={place}", "source=none", "methods=scratch", f"results={tmp_path / 'results'}", *TINY]


def test_own_images_stop_at_an_hour_and_the_two_commands_work(speed, own, capsys):
    assert main(["bench", "--dry-run", *own]) == 0
    speed(1e-5)
    for options in ([], ["--dry-run"]):
        assert main(["bench", *options, *own]) == 2
        error = capsys.readouterr().err
        assert "longer than 60 minutes, so nothing is started" in error
        assert f"{own[-1]} minutes=60`" in error
        assert f"{own[-1]} yes=true`" in error
    assert main(["bench", "--dry-run", "yes=true", *own]) == 0
    assert main(["bench", "--dry-run", "minutes=60", *own]) == 2  # two steps cannot be cut
    assert "expected minutes=" in capsys.readouterr().err


def test_a_fitted_bench_stays_the_same_and_finds_its_runs(speed, own, capsys):
    words = [
        "bench",
        *(o for o in own if not o.startswith("recipe.steps")),
        "recipe.steps=300",
        "minutes=0.4",
    ]
    assert main(words) == 0
    first = capsys.readouterr().out
    line = next(
        line for line in first.splitlines() if line.startswith("minutes=0.4: to fit in: recipe.steps=")
    )
    speed(100)
    assert main(words) == 0
    again = capsys.readouterr().out
    assert line.replace("to fit in", "as before") in again
    assert "the run is done" in again


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"settings": ["results=/elsewhere"]}', "'results=/elsewhere' is none of recipe.steps"),
        ('{"settings": ["recipe.lr=1"]}', "'recipe.lr=1' is none of"),
        ('{"settings": [1]}', "no settings in it"),
        ("{}", "not readable"),
        ("[", "not readable"),
    ],
)
def test_a_plan_sets_nothing_else(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_plan(tmp_path / "a.json")


def test_time_is_no_part_of_a_run(config_of):
    digests = {config_of("finetune", *given).digest for given in ((), ("minutes=3",), ("yes=true",))}
    assert len(digests) == 1


def test_progress_counts_the_last_round_and_its_time(speed, results, monkeypatch):
    words = [*GIVEN, "methods=scratch", "tune=auto", "labels=all"]
    estimate = Estimator(results, 1, 1).of(plan(compose_request(words), words))
    console = Console(file=StringIO(), width=200)
    shown = Progress(estimate.todo, results, console, estimate)
    shown.begin -= 10 * estimate.total
    assert shown._left() == pytest.approx(estimate.total)  # a pace is known when a run has ended
    for trial in estimate.todo[:9]:
        shown.report(trial, None)
    line = console.file.getvalue().splitlines()[-1]
    assert line.startswith("[9/16] ")
    assert line.endswith(" left for 7 runs")
    folders = {trial.folder(results) for trial in estimate.later}
    monkeypatch.setattr("transferbench.benchmarks.launch.progress.is_done", lambda folder: folder in folders)
    shown.report(estimate.todo[9], None)
    line = console.file.getvalue().splitlines()[-1]
    assert line.startswith("[16/16] ")
    assert "left" not in line


@pytest.mark.parametrize("command", ["run", "suite seeds"])
def test_minutes_are_for_a_bench(command, capsys, results):
    own = ["method=finetune"] if command == "run" else []
    assert main([*command.split(), *own, "minutes=5", f"results={results}"]) == 2
    assert capsys.readouterr().err.startswith("transferbench: minutes=5: fits a bench, not a ")


def test_a_dry_run_counts_the_workers_that_are_asked_for(speed, capsys, results):
    words = ["bench", "--dry-run", "methods=scratch", f"results={results}", *GIVEN[:-2], "seeds=4"]
    for number in (1, 4):
        assert main([*words, f"workers={number}"]) == 0
        assert f"with {number} worker{'s' if number > 1 else ''}: until " in capsys.readouterr().out
    assert not results.exists()


BAD = {
    "a missing checkpoint": ["checkpoint=/no/such/file.pth", "backbone=resnet10t"],
    "too many shots": ["shots=50", "labels=train"],
    "too many shots with a holdout": ["shots=50"],
    "rows that do not fit": ["methods=knn", "backbone=digits_cnn", "recipe.image_size=20"],
    "no such backbone": ["backbone=resnet999"],
    "no such row": ["methods=finetun"],
    "a setting that no row has": ["method.num_actions=3"],
    "a batch of one image": ["recipe.batch_size=1", "backbone=resnet10t"],
    "too little time": ["minutes=0.001"],
    "a place without a name": ["cluster=nowhere"],
}


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("command", ["bench", "run"])
def test_a_dry_run_refuses_what_the_command_refuses(speed, command, wrong, own, capsys, results):
    replaced = {o.partition("=")[0] for o in wrong}
    words = [o for o in own if o.partition("=")[0] not in replaced]
    given = [w.replace("methods=", "method=") if command == "run" else w for w in [*wrong, *words]]
    said = []
    for options in (["--dry-run"], []):
        assert main([command, *options, *given]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert said[0].count("\n") == 1


@pytest.mark.parametrize("command", ["bench", "run"])
def test_a_dry_run_refuses_images_that_cannot_be_read(command, own, capsys, tmp_path):
    (tmp_path / "pets" / "train" / "cat" / "0.png").write_bytes(b"no image")
    given = [w.replace("methods=", "method=") if command == "run" else w for w in own]
    said = []
    for options in (["--dry-run"], []):
        assert main([command, *options, *given]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]


def test_a_dry_run_of_a_run_writes_nothing(speed, capsys, results):
    words = ["method=finetune", f"results={results}", *GIVEN]
    assert main(["run", "--dry-run", *words]) == 0
    out = capsys.readouterr().out
    assert "Fine-tuning, seed 0" in out
    assert "2 runs to do, about " in out
    assert not results.exists()


def test_a_suite_is_planned_without_its_images(capsys, results):
    assert main(["suite", "table2", "--dry-run", f"results={results}"]) == 0
    out = capsys.readouterr().out
    assert "table2, without its images: 45 runs of 3 rows" in out
    assert "left out: imagenet: its images are missing" in out
    assert not results.exists()
    assert main(["suite", "table2", f"results={results}"]) == 2
