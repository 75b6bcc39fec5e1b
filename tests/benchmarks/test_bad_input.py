"""A wrong request gives one helpful line and exit code 2, and earlier results stay as they are."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.training.problem import device_of
from transferbench.datasets import catalog
from transferbench.datasets.storage import cache
from trees import TINY, picture, tree

Says = Callable[..., str]


def contents(results: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in results.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A target, a source, and a results folder with one finished run."""
    place = tmp_path_factory.mktemp("place")
    tree(place / "pets")
    tree(place / "photos", ("a", "b", "c"), train=4, val=2)
    given = [f"target={place / 'pets'}", f"source={place / 'photos'}", f"results={place / 'results'}"]
    assert main(["run", "method=finetune", *given, *TINY]) == 0
    return place


@pytest.fixture
def says(place, capsys) -> Says:
    """Make a wrong request; return its one line, and check that the earlier run is unchanged."""

    def ask(command: str, *given: str) -> str:
        words = [
            f"target={place / 'pets'}",
            f"source={place / 'photos'}",
            f"results={place / 'results'}",
            *TINY,
        ]
        own = {g.split("=")[0] for g in given}
        words = [w for w in words if w.split("=")[0] not in own] if command in ("run", "bench") else []
        before = contents(place / "results")
        catalog.load.cache_clear()
        capsys.readouterr()
        code = main([command, *(g for g in given if g != "source="), *words])
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("transferbench: ")
        assert error.count("\n") == 1
        assert len(error) < 800
        assert not any(word in error for word in ("Traceback", "hydra", "omegaconf", "multirun", "dataclass"))
        after = contents(place / "results")
        assert {p: after.get(p) for p in before} == before
        return error.removeprefix("transferbench: ").rstrip("\n")

    return ask


# --- images ---------------------------------------------------------------------------------------


def test_a_target_with_one_class(says, tmp_path):
    target = tree(tmp_path / "single", ("cat",))
    for command in ("bench", "run"):
        error = says(command, f"target={target}", "methods=scratch", "method=scratch", "source=none")
        assert error == "target=single: only one class, 'cat'; expected two or more"


@pytest.mark.parametrize("command", ["bench", "run"])
def test_fewer_images_than_shots(says, command):
    given = ("methods=scratch", "method=scratch")
    error = says(command, *given, "shots=9", "labels=train")
    assert error == "shots=9: class 'cat' of pets/train has only 4 images"
    error = says(command, *given, "shots=9")
    words = "shots=9 with labels=all, 8 of train and 1 of holdout"
    assert error == f"{words}: class 'cat' of pets/train has only 4 images"
    error = says(command, *given, "shots=9", "holdout_shots=8")
    assert error.endswith("class 'cat' of pets/holdout has only 4 images")
    error = says(command, *given, "holdout_shots=6")
    assert error == "holdout_shots=6: class 'cat' of pets/holdout has only 4 images"


@pytest.mark.parametrize("command", ["bench", "run"])
def test_shots_without_images_for_training_or_holdout(says, command):
    given = ("methods=scratch", "method=scratch")
    assert says(command, *given, "shots=1") == (
        "shots=1: with labels=all a class needs one image to train on and one for the holdout; "
        "expected shots=2 or more, or labels=train"
    )
    assert says(command, *given, "shots=4", "holdout_shots=4") == (
        "holdout_shots=4: with labels=all they are part of shots=4; expected 1 to 3, or labels=train"
    )


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_corrupt_image(says, tmp_path, part):
    target = tree(tmp_path / "pets")
    wrong = target / part / "dog" / "2.png"
    wrong.write_bytes(b"not an image" if part == "train" else wrong.read_bytes()[:150])
    error = says("bench", f"target={target}", "methods=scratch")
    assert error.startswith(f"{wrong}: not a readable image (")
    assert "replace it or remove it" in error
    picture(wrong, 0)
    given = [f"target={target}", "source=none", "method=scratch", f"results={tmp_path / 'results'}"]
    catalog.load.cache_clear()
    assert main(["run", *given, *TINY]) == 0


@pytest.mark.parametrize(("part", "name"), [("train", "train"), ("test", "test")])
@pytest.mark.parametrize("command", ["bench", "run"])
def test_a_missing_split(says, tmp_path, command, part, name):
    target = tree(tmp_path / "pets")
    shutil.rmtree(target / part)
    error = says(command, f"target={target}", "source=none", "methods=scratch", "method=scratch")
    assert f"no '{name}' images" in error
    assert f"ut class folders into {target if name == 'train' else 'pets'}/{name}/" in error


def test_no_target_there(says, tmp_path):
    assert says("bench", f"target={tmp_path}/none") == f"{tmp_path}/none: no such file or folder"
    assert "no images; expected split/class/image" in says("bench", f"target={tmp_path}")
    assert "no data set 'digit'; did you mean 'digits'?" in says("bench", "target=digit")
    assert "no data set 'glyph'; did you mean 'glyphs'?" in says("run", "method=finetune", "source=glyph")
    assert says("bench", "target=").startswith("target=: no data set ''. Known: ")
    assert says("bench", "source=None").startswith("source=None: no data set 'None'. Known: ")
    assert says("bench", "target=/etc/hostname") == (
        "/etc/hostname: expected a folder, a .tar, a .zip or a list (.csv, .tsv, .jsonl)"
    )


def test_a_source_that_is_the_target(says, tmp_path):
    for place in ("digits", str(tree(tmp_path / "pets"))):
        assert says("bench", f"target={place}", f"source={place}") == (
            f"source={place}: these are the target's images; expected others, or source=none"
        )


# --- source and weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["datl", "l2tl"])
@pytest.mark.parametrize("command", ["bench", "run"])
@pytest.mark.parametrize("source", ["source=none", "source="])
def test_a_method_that_needs_source_images(says, method, command, source):
    error = says(command, f"methods={method}", f"method={method}", source)
    assert f"method={method} needs source images" in error
    assert "source=PATH, a folder with train/<class>/<image> or a known data set" in error


def test_fine_tuning_needs_weights(says):
    error = says("bench", "methods=finetune", "source=none")
    assert "method=finetune starts from pre-trained weights and source=none" in error
    assert "source=PATH, or weights by pretrained=true or checkpoint=PATH" in error


def test_a_checkpoint_that_is_not_there(says, tmp_path):
    given = ("method=finetune", "backbone=resnet18", f"checkpoint={tmp_path / 'weights.pt'}")
    assert says("run", *given).startswith(f"checkpoint={tmp_path / 'weights.pt'}: no such file")


def test_a_checkpoint_that_does_not_fit(says, tmp_path):
    torch.save({"fc.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}, tmp_path / "weights.pt")
    error = says("run", "method=finetune", "backbone=resnet18", f"checkpoint={tmp_path / 'weights.pt'}")
    assert error.startswith(f"checkpoint={tmp_path / 'weights.pt'}: does not fit resnet18: ")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            "junk",
        ),
        [1, 2],
        {},
        {"epoch": 3, "weights": {"fc.weight": torch.zeros(3, 3)}},
    ],
)
def test_a_checkpoint_that_is_no_state_dict(says, tmp_path, content):
    path = tmp_path / "weights.pt"
    if isinstance(content, str):
        path.write_text(content)
    else:
        torch.save(content, path)
    error = says("run", "method=finetune", "backbone=resnet18", f"checkpoint={path}")
    assert error.startswith(f"checkpoint={path}: ")


def test_a_comparison_with_an_unknown_backbone_starts_nothing(says, monkeypatch):
    monkeypatch.setattr("transferbench.benchmarks.launch.pool.run_all", lambda *args: None)
    error = says("bench", "methods=finetune", "backbone=resnet181")
    assert error.startswith("backbone=resnet181: neither 'small' nor a timm model; near: ")


# --- names, types and numbers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("recipe.stepz=5", "no setting 'recipe.stepz'; did you mean 'recipe.steps'?"),
        ("steps=5", "no setting 'steps'; did you mean 'recipe.steps'?"),
        ("shotz=5", "no setting 'shotz'; did you mean 'shots'?"),
        ("recipe.qqq=5", "no setting 'recipe.qqq'. Known: recipe.steps, recipe.batch_size, "),
        ("method.num_action=3", "no setting 'method.num_action'; did you mean 'method.num_actions'?"),
        ("method.nope=3", "no setting 'method.nope'. Known: method."),
        ("method=fintune", "no method 'fintune'; did you mean 'finetune'?"),
        ("preset=smal", "preset=smal: not known; did you mean 'small'? Known: "),
        ("backbone=resnet181", "backbone=resnet181: neither 'small' nor a timm model; near: "),
        ("recipe.steps=many", "recipe.steps=many: expected a whole number"),
        ("recipe.steps=1.5", "recipe.steps=1.5: expected a whole number"),
        ("recipe.steps=", "recipe.steps=: expected a whole number"),
        ("recipe.lr=fast", "recipe.lr=fast: expected a number"),
        ("recipe.head_init_std=none", "recipe.head_init_std=none: expected a number, or null for none"),
        ("shots=none", "shots=none: expected a whole number, or null for none"),
        ("seeds=two", "seeds=two: expected a whole number"),
        ("seeds=1,2", "seeds=1,2: not readable; expected one value"),
        ("recipe.lr={", "recipe.lr={: not readable; expected one value"),
        ("pretrained=maybe", "pretrained=maybe: expected true or false"),
        ("recipe.compile=2", "recipe.compile=2: expected true or false"),
        ("deterministic=-1", "deterministic=-1: expected true or false"),
        ("protocol=cheat", "protocol=cheat: expected one of holdout, trainval"),
        ("tune=grid", "tune=grid: expected one of off, paper_grid"),
        ("recipe.optimizer=adm", "recipe.optimizer=adm: expected one of sgd, adam"),
        ("recipe.milestones=[-5]", "recipe.milestones=-5: expected a whole number of 0 or more"),
        ("recipe.lr_grid=[0,0.1]", "recipe.lr_grid=0: expected a number above 0"),
        ("recipe.lr_grid=[]", "recipe.lr_grid=[]: expected one number or more, as recipe.lr_grid=[0.01,0.1]"),
        ("recipe.weight_decay_grid=[-1]", "recipe.weight_decay_grid=-1: expected a number of 0 or more"),
        ("method_defaults.l2lt.num_actions=3", "method_defaults.l2lt: no such method; did you mean 'l2tl'?"),
        ("method_defaults.l2tl=3", "method_defaults.l2tl=3: expected a setting of it, as"),
        ("recipe.milestones=3", "recipe.milestones=3: expected a list, as [100,200]"),
        ("recipe=5", "recipe=5: expected its settings one by one, as recipe.steps=500"),
        (
            "method.weights=foo",
            "method.weights=foo: expected one of learned, uniform, random, oracle, uniform_code",
        ),
        ("method.num_actions=x", "method.num_actions=x: expected a whole number"),
        ("stepz", "'stepz': expected name=value, as recipe.steps=500"),
        ("+shots=3", "'+shots=3': expected name=value, as recipe.steps=500"),
        ("=3", "'=3': expected name=value, as recipe.steps=500"),
        ("seeds=0", "seeds=0: expected a whole number of 1 or more"),
        ("seed=-1", "seed=-1: expected a whole number of 0 or more"),
        ("shots=0", "shots=0: expected a whole number of 1 or more"),
        ("shots=-2", "shots=-2: expected a whole number of 1 or more"),
        ("threads=-1", "threads=-1: expected a whole number of 0 or more"),
        ("recipe.steps=-1", "recipe.steps=-1: expected a whole number of 0 or more"),
        ("recipe.batch_size=-3", "recipe.batch_size=-3: expected a whole number of 0 or more"),
        ("recipe.clip_grad=-1", "recipe.clip_grad=-1: expected a number of 0 or more"),
        ("recipe.evaluations=0", "recipe.evaluations=0: expected a whole number of 1 or more"),
        ("recipe.lr=0", "recipe.lr=0: expected a number above 0"),
        ("recipe.lr=nan", "recipe.lr=nan: expected a number above 0"),
        ("recipe.lr=inf", "recipe.lr=inf: expected a number above 0"),
        ("recipe.weight_decay=-1", "recipe.weight_decay=-1: expected a number of 0 or more"),
        (
            "recipe.label_smoothing=1",
            "recipe.label_smoothing=1: expected a number of 0 or more, up to 0.99",
        ),
        ("recipe.momentum=2", "recipe.momentum=2: expected a number of 0 or more, up to 1"),
        ("recipe.crop_scale=0", "recipe.crop_scale=0: expected a number above 0, up to 1"),
        ("recipe.image_size=-5", "recipe.image_size=-5: expected a whole number of 0 or more"),
        ("source_recipe.batch_size=0", "source_recipe.batch_size=0: expected a whole number of 1 or more"),
        ("source_recipe.lr=-1", "source_recipe.lr=-1: expected a number above 0"),
        ("on=slrm", "on=slrm: not known; "),
        ("device=gpu", "device=gpu: not known; expected auto, cpu, cuda or cuda:0"),
    ],
)
def test_a_wrong_setting_of_a_run(says, given, expected):
    method = [] if given.startswith("method=") else ["method=l2tl"]
    assert says("run", *method, given).startswith(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "methods=finetune,l2tk",
            "methods: no row 'l2tk'; did you mean 'l2tl'? Known: adaptformer, atl, bi_tuning, ",
        ),
        ("methods=finetune,", "methods=finetune,: an empty name; expected names of rows between commas"),
        ("methods=", "methods=: an empty name; expected names of rows between commas"),
        ("seeds=null", "seeds=null: expected a whole number"),
        ("pretrained=null", "pretrained=null: expected true or false"),
        ("backbone=null", "backbone=null: expected a name"),
        ("methods=pretrain", "methods: no row 'pretrain'. Known: "),
        ("method.num_action=3", "no setting 'method.num_action'; did you mean 'method.num_actions'?"),
        ("method.nope=3", "no setting 'method.nope'. Known: "),
        ("method.weights=foo", "method.weights=foo: expected one of learned, uniform, "),
        ("recipe.stepz=5", "no setting 'recipe.stepz'; did you mean 'recipe.steps'?"),
        ("seeds=two", "seeds=two: expected a whole number"),
        ("seeds=-1", "seeds=-1: expected a whole number of 1 or more"),
    ],
)
def test_a_wrong_setting_of_a_comparison(says, given, expected):
    methods = [] if given.startswith("methods=") else ["methods=finetune,l2tl"]
    assert says("bench", *methods, given).startswith(expected)


@pytest.mark.parametrize(
    "given",
    ["num_actions=0", "multiplier=0", "policy_lr=-1", "temperature=0", "specialist_share=-1"],
)
def test_a_setting_of_a_method_out_of_its_range(says, tmp_path, given):
    method = "datl" if given.startswith(("temperature", "specialist")) else "l2tl"
    error = says("run", f"method={method}", f"method.{given}", f"results={tmp_path / 'results'}")
    assert error.startswith(f"method.{given.split('=')[0]}=")


@pytest.mark.parametrize("command", ["run method=l2tl_gradients", "bench methods=finetune,l2tl_gradients"])
def test_a_number_for_a_true_or_false_of_a_method(says, command):
    assert says(*command.split(), "method.layerwise=2") == "method.layerwise=2: expected true or false"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", ["bench", "run"])
def test_a_device_that_is_not_here(says, command):
    error = says(command, "methods=finetune", "method=finetune", "device=cuda")
    assert error == "device=cuda: no CUDA device here; expected cpu"


def test_a_gpu_of_a_number_that_is_not_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("cuda:1").index == 1
    for name in ("cuda:01", "cuda:99999999999", "cuda:", "cuda:-1"):
        with pytest.raises(
            InputError, match=f"^device={name}: not known; expected auto, cpu, cuda or cuda:0$"
        ):
            device_of(name)
    with pytest.raises(InputError, match=r"^device=cuda:2: no such GPU here; the last one is cuda:1$"):
        device_of("cuda:2")


# --- places ---------------------------------------------------------------------------------------


def test_results_do_not_go_among_images(says, tmp_path):
    tree(tmp_path / "pets", train=8, val=4, test=4)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for command in ("run", "bench", "suite small"):
        given = [*command.split(), f"target={tmp_path / 'pets'}", "source=glyphs", f"results={link}"]
        given += {"run": ["method=scratch"], "bench": ["methods=scratch"]}.get(command, [])
        given = [o.replace("target=", "targets=") if command == "suite small" else o for o in given]
        error = says(*given)
        assert error.startswith(f"results={link}: contains the images of {tmp_path / 'pets'}; "), error
    assert sorted(tmp_path.rglob("*")) == before


def test_results_among_the_images_of_a_data_set(says, tmp_path):
    """The pictures of the report would be images of the data set."""
    pets = tree(tmp_path / "pets", train=8, val=4, test=4)
    error = says("bench", f"target={pets}", "methods=scratch", "source=none", f"results={pets / 'results'}")
    assert (
        error == f"results={pets / 'results'}: inside the images of {pets}; expected results=PATH elsewhere"
    )
    assert not (pets / "results").exists()


def test_the_seed_of_a_run_is_not_for_a_bench(says):
    error = says("bench", "seed=7")
    assert error == "seed=7: a bench runs the seeds from 0 on; expected seeds=NUMBER of them"


def test_a_results_folder_of_another_version(says, tmp_path):
    for content, found in (('{"format": 999}', "format 999"), ("junk", "format unreadable")):
        (tmp_path / "transferbench.json").write_text(content)
        for command in ("run", "bench"):
            error = says(command, "method=scratch", "methods=scratch", f"results={tmp_path}")
            assert error.startswith(f"results={tmp_path}: written in {found}, this version writes ")
            assert error.endswith("put new results elsewhere with results=PATH")


def test_results_that_are_a_file(says, tmp_path):
    (tmp_path / "file").write_text("mine")
    for command in ("run", "bench"):
        error = says(command, "method=scratch", "methods=scratch", f"results={tmp_path / 'file'}")
        assert error == f"results={tmp_path / 'file'}: not a folder"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_results_where_nothing_can_be_written(says, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    error = says("run", "method=scratch", f"results={tmp_path / 'closed' / 'results'}")
    assert f"{tmp_path / 'closed'}" in error


def test_results_that_are_refused(says, tmp_path, monkeypatch):
    def refuse(path: Path, *args: object, **named: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    error = says("run", "method=scratch", f"results={tmp_path / 'results'}")
    assert "cannot be written (Permission denied); choose another place with results=PATH" in error
    assert str(tmp_path / "results") in error


@pytest.mark.parametrize("what", ["torch.save", "write_text"])
def test_a_full_disk_in_a_run_and_the_same_command_again(says, place, tmp_path, monkeypatch, what):
    given = ("method=l2tl", "recipe.steps=3", "recipe.evaluations=3", f"results={tmp_path / 'results'}")
    count = [0]
    owner, name = (torch, "save") if what == "torch.save" else (Path, "write_text")
    whole = getattr(owner, name)

    def full(*args: object, **options: object) -> object:
        count[0] += 1
        if count[0] >= 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        assert "no space left; free some, or set results=PATH" in says("run", *given)
    done = contents(tmp_path / "results")
    assert not [p for p in done if p.name == "record.json" and "l2tl" in p.parts]
    again = [w for w in TINY if not w.startswith(("recipe.steps", "recipe.evaluations"))]
    data = [f"target={place / 'pets'}", f"source={place / 'photos'}"]
    assert main(["run", *given, *data, *again]) == 0
    records = [p for p in contents(tmp_path / "results") if p.name == "record.json" and "l2tl" in p.parts]
    assert len(records) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_really_full(says, tmp_path, monkeypatch):
    def write(path: Path, content: bytes) -> None:
        with Path("/dev/full").open("wb", buffering=0) as f:
            f.write(content)

    monkeypatch.setattr(Path, "write_bytes", write)
    error = says("run", "method=scratch", f"results={tmp_path / 'results'}")
    assert "no space left; free some, or set results=PATH" in error


def test_results_below_a_file(says, tmp_path):
    (tmp_path / "file").write_text("mine")
    error = says("run", "method=scratch", f"results={tmp_path / 'file' / 'results'}")
    assert error.startswith(f"results={tmp_path / 'file' / 'results'}: ")


def test_a_full_disk_under_the_cache(says, tmp_path, monkeypatch):
    def full(*args: object) -> object:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_chunks", full)
    error = says("run", "method=scratch")
    assert re.fullmatch(
        rf"{tmp_path}/cache/\S+\.pixels\.npy: no space left for decoded images: free .+", error
    )
    assert not list((tmp_path / "cache").glob("*.draft"))


def test_a_cache_that_cannot_be_used(says, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "file"))
    assert says("run", "method=scratch").startswith(
        f"TRANSFERBENCH_CACHE={tmp_path / 'file'}: cannot be created"
    )
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRANSFERBENCH_CACHE_GB", "lots")
    assert says("run", "method=scratch") == "TRANSFERBENCH_CACHE_GB=lots: expected a number, such as 20"
