"""Models that people choose today: their image size, weights, options, features and statistics of pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf
from transferbench import InputError
from transferbench.benchmarks.config.compose import compose_request
from transferbench.benchmarks.model.load import load_model
from transferbench.benchmarks.training.run import run_one
from transferbench.benchmarks.training.tuning import trials
from transferbench.methods import catalog
from transferbench.methods.networks import timm_models
from transferbench.methods.networks.encoders import (
    architecture,
    build_encoder,
    fitting_size,
    other_sizes,
    sized_options,
    with_drop_path,
)
from transferbench.methods.networks.network import Network
from transferbench.methods.recipe import OptimizerName

VIT, CLIP, DINO = "vit_tiny_patch16_224", "vit_base_patch16_clip_224", "vit_small_patch14_dinov2"
SWIN = "swin_tiny_patch4_window7_224"
SIZES: list[tuple[str, dict[str, Any], int]] = [
    (VIT, {"depth": 1}, 32),
    (CLIP, {"depth": 1}, 32),
    (DINO, {"depth": 1}, 28),
    (SWIN, {"depths": [1, 1]}, 36),
    ("convnext_atto", {"depths": [1, 1, 1, 1]}, 32),
    ("efficientnet_b0", {}, 32),
    ("vit_small_patch16_dinov3", {"depth": 1}, 32),
    ("vit_base_patch16_siglip_224", {"depth": 1}, 32),
    ("eva02_tiny_patch14_224", {"depth": 1}, 28),
    ("beit_base_patch16_224", {"depth": 1}, 32),
    ("deit3_small_patch16_224", {"depth": 1}, 32),
    ("swinv2_tiny_window8_256", {"depths": [1, 1]}, 64),
    ("convnextv2_atto", {"depths": [1, 1, 1, 1]}, 32),
    ("mixer_s32_224", {}, 64),
    ("regnety_002", {}, 32),
    ("mobilenetv4_conv_small", {}, 32),
]


@pytest.mark.parametrize(("backbone", "options", "side"), SIZES)
def test_features_and_maps_at_a_size_of_ones_own(backbone, options, side):
    encoder, _ = build_encoder(backbone, False, None, sized_options(backbone, options, side))
    net = Network(encoder, 3, 2).eval()
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    feature_BF, maps = net.tapped(x)
    torch.testing.assert_close(feature_BF, net.features(x), atol=1e-4, rtol=1e-4)
    assert all(made.ndim == 4 for made in maps)


def test_a_size_is_given_only_where_it_is_needed():
    assert sized_options(VIT, {"depth": 1}, 224) == {"depth": 1}
    assert sized_options(VIT, {"depth": 1}, 64) == {"depth": 1, "img_size": 64}
    assert sized_options(VIT, {"depth": 1, "img_size": 32}, 64) == {"depth": 1, "img_size": 32}
    dynamic = {"depth": 1, "dynamic_img_size": True}
    assert sized_options(VIT, dynamic, 64) == dynamic
    assert sized_options(VIT, {"depth": 1}, 30) == {"depth": 1}  # its patches leave a rest
    assert sized_options("resnet10t", {}, 64) == sized_options("small", {}, 64) == {}
    assert fitting_size(DINO, {"depth": 1}, 64) == 518
    assert other_sizes(DINO, {"depth": 1}, 65) == [70, 518]
    assert other_sizes("digits_cnn", {}, 65) == [32]


def test_weights_of_another_size_are_fitted(tmp_path):
    """Position embeddings by timm's resampling, windows of Swin by its tables."""
    whole = timm.create_model(DINO, num_classes=0, depth=1, img_size=56)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    encoder, _ = build_encoder(DINO, False, str(tmp_path / "w.pth"), {"depth": 1, "img_size": 28})
    resampled = timm.layers.resample_abs_pos_embed(whole.pos_embed, [2, 2])
    torch.testing.assert_close(encoder.pos_embed, resampled)
    windows: Any = timm.create_model(SWIN, num_classes=0, depths=[1, 1], img_size=56)
    table = windows.layers[1].blocks[0].attn.relative_position_bias_table  # of 7 x 7: offsets from -6 to 6
    table.data = torch.arange(-6, 7).float().repeat(13)[:, None].expand(-1, 6).contiguous()
    torch.save(windows.state_dict(), tmp_path / "s.pth")
    encoder, _ = build_encoder(SWIN, False, str(tmp_path / "s.pth"), {"depths": [1, 1], "img_size": 28})
    attention = encoder.layers[1].blocks[0].attn
    assert attention.window_size == (4, 4)
    row = attention.relative_position_bias_table[:7, 0]  # offsets from -3 to 3
    assert (row.diff() > 0).all()
    torch.testing.assert_close(row.abs(), row.abs().flip(0), atol=1e-3, rtol=1e-3)


def test_stochastic_depth_reaches_the_blocks():
    options = with_drop_path(VIT, {"depth": 2}, 0.2)
    encoder, _ = build_encoder(VIT, False, None, options)
    assert [block.drop_path1.drop_prob for block in encoder.blocks[1:]] == pytest.approx([0.2])
    assert with_drop_path("small", {}, 0.0) == {}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    model = timm.create_model(VIT, num_classes=5, depth=1, img_size=64)
    save_for_hf(model, str(tmp_path / "own"), model_args={"depth": 1, "img_size": 64})
    return f"local-dir:{tmp_path / 'own'}"


def test_a_model_of_a_folder(config_of, results, folder):
    given = (f"backbone={folder}", "source=none", "recipe.mean_std=backbone", "recipe.image_size=32")
    config = config_of("finetune", *given, "pretrained=true", "tune=off", "keep=all", "recipe.steps=1")
    assert config.resolved()["backbone"] == "local-dir:own"
    assert architecture(folder, {})[0] == VIT
    run_one(config, results)
    place = Path(folder.removeprefix("local-dir:"))
    (place / "README.md").write_text("more")
    assert config_of("finetune", *given, "pretrained=true").data["backbone"] != config.data["backbone"]
    for file in place.iterdir():
        file.unlink()
    timm_models.known.cache_clear()
    model = load_model(config.folder(results))  # without the folder
    assert model.about["backbone"] == VIT
    assert model.about["backbone_options"]["img_size"] == 32


def test_places_without_a_model_are_refused(monkeypatch, tmp_path):
    def offline(_: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm.models._hub, "load_model_config_from_hf", offline)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "foo", "num_classes": 2}))
    for name, message in (
        ("hf-hub:timm/resnet18", r"no config.json of a timm model there \(no network\); fetch it"),
        ("local-dir:/none", "no config.json of a timm model there .*; expected local-dir:FOLDER"),
        (f"local-dir:{tmp_path}", "config.json"),
        ("s3:timm/resnet18", "expected a timm model, hf-hub:OWNER/NAME or local-dir:FOLDER"),
    ):
        with pytest.raises(InputError, match=f"backbone={name}: .*{message}") as error:
            timm_models.known(name)
        assert "\n" not in str(error.value)


def test_a_kept_model_has_the_statistics_of_its_backbone(config_of, results):
    small = (f"backbone={CLIP}", "backbone_options.depth=1", "backbone_options.embed_dim=24")
    given = (*small, "backbone_options.num_heads=2", "recipe.mean_std=backbone", "recipe.image_size=32")
    config = config_of("scratch", *given, "keep=all", "recipe.steps=1")
    run_one(config, results)
    model = load_model(config.folder(results))
    of_timm = timm.data.OPENAI_CLIP_MEAN, timm.data.OPENAI_CLIP_STD
    assert model.augment.statistics == of_timm
    assert model.about["preprocessing"]["mean"] == list(of_timm[0])


@pytest.mark.parametrize(("preset", "decay"), [("vit", 0.75), ("convnext", 0.8)])
def test_presets_of_networks_with_published_weights(config_of, preset, decay):
    request = compose_request([f"preset={preset}"])
    assert (request.pretrained, request.source, request.recipe.image_size) == (True, "none", 224)
    recipe = request.recipe
    assert (recipe.optimizer, recipe.layer_decay, recipe.drop_path) == (OptimizerName.adamw, decay, 0.1)
    config = config_of("finetune", f"preset={preset}", "pretrained=true", "source=none", "tune=auto")
    found = trials(config)
    assert len(found) == 9
    assert all(1e-6 <= trial.recipe.lr <= 3e-3 for trial in found)


@pytest.mark.parametrize("name", ["finetune", "l2sp", "bss", "lp_ft", "head2toe", "spottune", "lwf"])
@pytest.mark.parametrize(("backbone", "options", "side"), [SIZES[0], SIZES[3], SIZES[4]])
def test_methods_step_with_adamw_layer_decay_and_stochastic_depth(build, name, backbone, options, side):
    given = [f"backbone_options.{k}={json.dumps(v)}" for k, v in options.items()]
    adamw = ("recipe.optimizer=adamw", "recipe.layer_decay=0.75", "recipe.drop_path=0.1", "recipe.lr=0.001")
    method = build(name, f"backbone={backbone}", *given, f"recipe.image_size={side}", *adamw)
    method.prepare()
    assert all(torch.isfinite(value) for value in method.step(0).values())
    method.net.eval()
    x, _ = next(method.target.split.batches(2))
    torch.testing.assert_close(method.predict(x), method.predictor()(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [("delta", "maps of convolutions"), ("stochnorm", "batch norms"), ("l2t_ww", "unrolls steps of SGD")],
)
def test_methods_that_a_token_network_cannot_run_say_so(config_of, built_of, name, message):
    config = config_of(name, f"backbone={VIT}", "backbone_options.depth=1", "recipe.image_size=32",
                       "recipe.optimizer=adamw")  # fmt: skip
    assert message in catalog.load(name).why_incompatible(built_of(config).problem)


def test_images_are_resized_as_the_backbone_says(config_of, results, tmp_path):
    """Bicubic unless it is asked for, with the digests of earlier records."""
    plain = config_of("scratch", "recipe.steps=1")
    assert config_of("scratch", "recipe.steps=1", "recipe.interpolation=backbone").digest == plain.digest
    asked = ("backbone=resnet18.tv_in1k", "recipe.interpolation=backbone")
    assert config_of("scratch", *asked).recipe.interpolation == "bilinear"
    assert config_of("scratch", f"backbone={VIT}", asked[1]).recipe.interpolation == "bicubic"
    other = config_of("scratch", "recipe.steps=1", "recipe.interpolation=bilinear", "keep=all")
    run_one(other, results)
    model = load_model(other.folder(results))
    assert model.about["preprocessing"]["interpolation"] == "bilinear"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    side = model.side, model.side
    expected = Image.fromarray(noise).convert("RGB").resize(side, Image.Resampling.BILINEAR)
    assert (model.decoded(noise)[0] == np.asarray(expected)).all()
