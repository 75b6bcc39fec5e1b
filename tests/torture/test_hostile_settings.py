"""Hostile overrides, YAML and names: one line each, nothing evaluated, nothing beside the chosen folder."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import damaged, fuzz, in_time, wrong
from hypothesis import strategies as st
from transferbench import InputError, plain_yaml
from transferbench.benchmarks.config import compose as config
from transferbench.benchmarks.config.compose import compose_request, read_suite, request_for
from transferbench.methods.networks.encoders import build_encoder
from transferbench.slurm import cluster, submit

SECRET = "what-only-the-environment-knows"
NAMES = sorted({*config._names("l2tl")} - {"target", "source"})
VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "null", "nan", "1e999", "9" * 5000, "-1", "[", "]", "{a:1}", "[[[[1]]]]"]),
    st.sampled_from(["'", '"', "\\", "${oc.env:HOME}", "${seed}", "$(id)", "`id`", "${", "a=b", "x,y"]),
    st.lists(st.integers(), max_size=3).map(str),
    st.integers().map(str),
)
WORDS = st.one_of(
    st.tuples(st.sampled_from(NAMES), VALUES).map("=".join),
    st.tuples(st.text(max_size=8), VALUES).map("=".join),
    st.text(max_size=12),
)


def test_hostile_overrides(tally, not_yet):
    not_yet("hostile overrides", "-")
    seen: set[bool] = set()

    def check(words: list[str]) -> None:
        try:
            compose_request([*words, "target=digits"], "l2tl")
        except InputError as error:
            assert str(error).strip()  # noqa: PT017
            seen.add(False)
            return
        seen.add(True)

    tried = fuzz(check, st.lists(WORDS, min_size=1, max_size=2), tally.times(60, 1000), tally.is_long)
    assert seen == {True, False}
    tally.note("hostile overrides", "-", tried)


@pytest.mark.parametrize("key", ["backbone", "results", "target", "method.num_actions", "data.root"])
@pytest.mark.parametrize("value", ["${oc.env:SECRET}", "a${oc.env:SECRET,1}", "${oc.decode:'1+1'}"])
def test_no_setting_is_looked_up_in_the_environment(monkeypatch, key, value):
    monkeypatch.setenv("SECRET", SECRET)
    given = ("target=digits", f"{key}={value}")
    if key in ("results", "data.root"):  # paths are taken as they are
        request = request_for("l2tl", given)[0]
        assert value in (request.results, request.data.root)
        return
    with pytest.raises(InputError) as error:
        request_for("l2tl", given)
    words = str(error.value)
    assert "expected a plain value, without ${" in words or f"no data set '{value}'" in words
    assert SECRET not in words


def test_a_suite_and_a_preset_look_up_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setattr(config, "HERE", tmp_path)
    (tmp_path / "suites").mkdir()
    path = tmp_path / "suites" / "mine.yaml"
    row = "{method: finetune, seed: '${oc.env:SECRET}'}"
    path.write_text(f"title: ${{oc.env:SECRET}}\nview: scores\nrows: {{A: {row}}}")
    assert SECRET not in str(read_suite("mine"))


@pytest.mark.parametrize("name", ["seeds", "seed", "recipe.steps", "recipe.batch_size", "threads", "workers"])
def test_a_number_that_no_machine_comes_to_the_end_of(name):
    for value in (10**12 * 10**7, 10**400):
        with in_time(), pytest.raises(InputError, match=f"{name}=.*: expected a"):
            compose_request([f"{name}={value}", "target=digits"])


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "num_classes", "nonsense"])
def test_an_option_of_a_backbone_reads_no_file(name):
    with pytest.raises(InputError, match="backbone_options"):
        build_encoder("resnet10t", False, None, {name: "/etc/passwd"})


# --- YAML -----------------------------------------------------------------------------------------

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)
)
HOSTILE = {
    "alias bomb": BOMB,
    "object": "partition: !!python/object/apply:os.system ['touch owned']",
    "depth": "partition: " + "[" * 50_000,
    "number": "minutes: " + "9" * 10_000,
    "date": "account: 2001-99-99",
    "binary": "account: !!binary '*'",
    "keys": "? [a, b]\n: 1",
    "no text": "\x00",
    "script": 'account: "x\\n#SBATCH --wrap=id"',
    "nested": "sbatch: {comment: [1]}",
    "option": "sbatch: {'x y': 1}",
    "line": 'sbatch: {comment: "x\\n#SBATCH --wrap=id"}',
    "scratch": "scratch: $(touch owned)",
    "quote": "scratch: 'x\"; touch owned; \"'",
    "setup": "setup: [[a]]",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with in_time(), pytest.raises(InputError) as error:
        cluster.load(str(path))
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 700
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_yaml(tally, not_yet, tmp_path, monkeypatch):
    """Clusters and suites."""
    not_yet("damaged YAML", "-")
    shipped = [p.read_bytes() for p in (*config.HERE.glob("suites/*.yaml"), *cluster.HERE.glob("*.yaml"))]
    lines = b"partition: gpu\nminutes: 60\nsetup: [module load x]\nsbatch: {comment: a}\nscratch: $TMPDIR/a\n"
    monkeypatch.setattr(config, "HERE", tmp_path)
    (tmp_path / "suites").mkdir()
    path, mine = tmp_path / "c.yaml", tmp_path / "suites" / "mine.yaml"

    def check(data: bytes) -> None:
        for file, read in ((path, lambda: cluster.load(str(path))), (mine, lambda: read_suite("mine"))):
            file.write_bytes(data)
            try:
                read()
            except InputError as error:
                assert str(file) in str(error)  # noqa: PT017

    tried = fuzz(check, damaged([*shipped, lines * 3]), tally.times(60, 3000), tally.is_long)
    tally.note("damaged YAML", "-", tried)


SETTINGS = {
    **dict.fromkeys(("partition", "account", "qos", "gres", "constraint", "python", "scratch"), "gpu"),
    **dict.fromkeys(("nodes", "tasks_per_node", "cpus_per_task", "runs_per_gpu", "restarts", "minutes"), 1),
    **{"memory_gb": 8.0, "setup": ["module load x"], "sbatch": {"comment": "a", "nice": 5}},
}


def test_hostile_clusters(tally, not_yet, tmp_path):
    """Whatever stands in a cluster's file, what goes into a job's script is lines of their own."""
    not_yet("hostile clusters", "-")
    path, seen = tmp_path / "c.yaml", set()
    task = submit.Task("0123456789", "a-b/m/seed0-0123456789", print, 60, 4.0)

    def check(content: dict[str, Any]) -> None:
        path.write_text(json.dumps(content))  # JSON is YAML
        try:
            found = cluster.load(str(path))
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert len(str(error)) < 700  # noqa: PT017
            seen.add(False)
            return
        seen.add(True)
        asked = submit.parameters(task, [], found, tmp_path / "20260102-030405-ab12", None)
        kept = {name: value for name, value in asked.items() if name not in ("setup", "teardown")}
        assert all(str(value).isprintable() for value in kept.values())
        assert asked["setup"][-len(found.setup) or len(asked["setup"]) :] == found.setup

    tried = fuzz(check, wrong(SETTINGS), tally.times(60, 3000), tally.is_long)
    assert seen == {True, False}
    tally.note("hostile clusters", "-", tried)


def test_damaged_presets(tally, not_yet, tmp_path, monkeypatch):
    not_yet("damaged presets", "-")
    shipped = [path.read_bytes() for path in config.HERE.glob("presets/*.yaml")]
    monkeypatch.setattr(config, "HERE", tmp_path)
    path = tmp_path / "presets" / "mine.yaml"
    path.parent.mkdir()

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(InputError):
            compose_request(["preset=mine", "target=digits"])

    tried = fuzz(check, damaged(shipped), tally.times(15, 500), tally.is_long)
    tally.note("damaged presets", "-", tried)


def test_a_preset_that_is_no_yaml(tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "broken.yaml").write_text("a: [")
    monkeypatch.setattr(config, "HERE", tmp_path)
    with pytest.raises(InputError, match="broken.yaml: not YAML"):
        compose_request(["preset=broken", "target=digits"])


def test_shipped_yaml_is_read_as_it_was():
    for path in (Path(plain_yaml.__file__).parent / "benchmarks").rglob("*.yaml"):
        assert plain_yaml.read_yaml(path)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["..", ".", "a/..", "/", ".tar"])
def test_a_run_lies_below_its_results_whatever_its_images_are_called(config_of, tmp_path, monkeypatch, place):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    config = config_of("scratch")
    results = tmp_path / "results"
    for changed in (replace(config, source=place), replace(config, target=place)):
        for role in ("run", "pretraining"):
            folder = replace(changed, role=type(config.role)(role)).folder(results)
            assert ".." not in folder.parts
            assert len(folder.relative_to(results).parts) == 3
