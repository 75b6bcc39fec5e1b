"""A batch trained in parts: the same loss and weights without batch norms, and smaller passes."""

import pytest
import torch
from lives import COSTLY
from quadrants import NAME, quadrants_known
from suited import TRANSFORMER
from transferbench import InputError
from transferbench.benchmarks.launch.plan import why_incompatible
from transferbench.benchmarks.launch.probe import check_networks
from transferbench.benchmarks.launch.start import without_effect
from transferbench.methods import catalog
from transferbench.methods.networks.network import Network
from transferbench.methods.recipe import num_parts

IN_PARTS = [name for name in catalog.names() if catalog.load(name).trains_in_parts]
WITH_NORMS = ("norm_tuning", "stochnorm")  # which tune batch norms, and need some
OWN = {"adaptformer": ("method.dropout=0",)}  # else a part draws other masks
SEVERAL = (f"target={NAME}", "source=glyphs", "preset=embedded", "shots=null", "score=auroc")


def trained(method, steps: int = 3) -> tuple[list[float], dict[str, torch.Tensor], int]:
    """Return the losses and weights after some steps, and the most images of a pass in training."""
    most, features = [0], Network.features

    def noted(self: Network, x: torch.Tensor) -> torch.Tensor:
        most.append(len(x))
        return features(self, x)

    method.prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "features", noted)
        losses = [method.step(t)["loss"].item() for t in range(steps)]
    return losses, method.net.state_dict(), max(most)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *((name, ()) for name in IN_PARTS if name not in WITH_NORMS),
        ("finetune", ("recipe.class_weights=balanced", "recipe.clip_grad=0.1")),
        ("finetune", ("recipe.mixup=1", "recipe.label_smoothing=0.1")),
        ("finetune", SEVERAL),
    ],
)
def test_parts_train_as_the_whole_batch_does(build, monkeypatch, name, given):
    quadrants_known(monkeypatch)
    given = [*TRANSFORMER, "recipe.steps=6", *COSTLY.get(name, ()), *OWN.get(name, ()), *given]
    whole = trained(build(name, *given))
    parts = trained(build(name, *given, "recipe.micro_batch=5"))
    assert (whole[2], parts[2]) in ((16, 4), (0, 0))  # four parts of 4; no pass by `features`
    assert parts[0] == pytest.approx(whole[0], rel=1e-4)
    torch.testing.assert_close(parts[1], whole[1], atol=2e-5, rtol=1e-4)
    assert whole[0][0] != whole[0][-1]


def test_batch_norms_see_a_part(build):
    whole, parts = (trained(build("finetune", f"recipe.micro_batch={n}", "recipe.lr=0.1")) for n in (0, 4))
    assert parts[0] != pytest.approx(whole[0], rel=1e-3)


@pytest.mark.parametrize(("batch", "micro", "parts"), [(256, 0, 1), (256, 64, 4), (17, 8, 3), (8, 100, 1)])
def test_the_number_of_parts(batch, micro, parts):
    assert num_parts(batch, micro) == parts


def test_a_method_that_needs_whole_batches_says_so(config_of, results):
    rows = [config_of(name, "recipe.micro_batch=8") for name in ("finetune", "l2tl", "knn")]
    ((config, reason),) = why_incompatible(rows, results).values()
    assert config.method == "l2tl"
    assert reason == "it needs whole batches, and recipe.micro_batch=8 splits them; expected 0"


def test_parts_of_one_image_are_refused_where_norms_need_two(config_of):
    config = config_of("finetune", "backbone=resnet10t", "recipe.micro_batch=1", "recipe.image_size=16")
    with pytest.raises(InputError, match=r"recipe.micro_batch=1 of \w+.batch_size=16: .*need two images"):
        check_networks([config])


def test_a_rest_of_one_image_names_a_size_without_one(config_of):
    given = ("backbone=resnet10t", "recipe.batch_size=3", "recipe.micro_batch=2", "recipe.image_size=16")
    with pytest.raises(InputError, match=r"recipe.micro_batch=2 of \w+.batch_size=3: .*; expected 3 or more"):
        check_networks([config_of("finetune", *given)])


def test_it_is_said_where_norms_see_parts(config_of):
    seen = "recipe.micro_batch=4: batch norms of tiny see at most 4 images at a time, and results differ"
    (line,) = without_effect([config_of("finetune", "recipe.micro_batch=4")])
    assert line == f"{seen}; bn=frozen keeps them out of it"
    assert not without_effect([config_of("finetune", "recipe.micro_batch=16")])  # the whole batch
    assert not without_effect([config_of("finetune", "recipe.micro_batch=4", "bn=frozen")])


def test_a_digest_knows_parts_and_not_their_absence(config_of):
    assert "micro_batch" not in config_of("finetune").resolved()["recipe"]
    assert config_of("finetune").digest != config_of("finetune", "recipe.micro_batch=8").digest
