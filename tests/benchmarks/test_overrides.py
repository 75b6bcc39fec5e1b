"""The overrides in a record ask for the very run again."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from transferbench.benchmarks.config.compose import OWN_BACKBONE, compose_request, request_for
from transferbench.benchmarks.config.overrides import overrides
from transferbench.benchmarks.config.resolve import run_config
from trees import tree

ASKED = [
    ("finetune",),
    ("l2tl", "method.num_actions=21", "recipe.steps=70", "shots=null", "source_recipe.seed=3"),
    ("leap", "method.metric=energy", "recipe.milestones=[3,5]", "recipe.image_size=0", "recipe.hflip=false"),
    ("datl", "protocol=trainval", "tune=paper_grid", "recipe.lr_grid=[0.1,0.2]", "score=mean_per_class"),
    ("uot", "labels=all", "shots=10", "holdout_shots=3"),
    ("linear_probe", "labels=all", "protocol=holdout"),
    ("knn", "holdout_shots=4"),
    ("scratch", "backbone=resnet18", "backbone_options.drop_rate=0.1", "bn=shared", "recipe.mean_std=none"),
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked[0])
def test_they_are_what_was_asked_for_and_give_the_same_digest(asked):
    method, *given = asked
    places = ("target=digits", "source=glyphs")

    def config_of(*words):
        request, settings = request_for(method, (*places, *words))
        return run_config(request, method, settings, seed=2)

    config = config_of(*given)
    found = overrides(config)
    assert config_of(*found).digest == config.digest
    assert set(found) >= set(given) - {"recipe.image_size=0"}
    assert len(found) <= len(given) + 1


@pytest.mark.parametrize("given", [(), ("recipe.steps=9",)], ids=["usual", "shorter"])
def test_photos_alone_are_asked_for_with_their_network(tmp_path, given):
    """A record names its source, and who names one gets no other network than is named."""
    photos = f"target={tree(tmp_path / 'photos')}"

    def config_of(*words):
        request, settings = request_for("finetune", (photos, "device=cpu", *words))
        return run_config(request, "finetune", settings, seed=2)

    config = config_of(*given)
    assert config.source == "none"
    found = overrides(config)
    assert f"backbone={OWN_BACKBONE}" in found
    assert config_of("source=none", *found).digest == config.digest


def test_requests_of_several_threads_are_composed_one_after_another():
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda seed: compose_request([f"seed={seed}"]).seed, range(8)))
    assert found == list(range(8))
