"""Weights files as people have them: features equal those of timm's own model, whatever the file's form."""

import argparse
import copy
import functools
import json
import os
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transferbench import InputError
from transferbench.methods.networks.encoders import build_encoder
from transferbench.methods.networks.tensor_files import files_of, read_tensors

SHARED = os.environ.get("TRANSFERBENCH_SHARED")  # folder with weights/ and packs/
MODELS: dict[str, tuple[int, dict[str, Any]]] = {  # one of each kind of name of the classifier, and of norms
    "resnet10t": (32, {}),
    "mobilenetv3_small_050": (32, {}),
    "tf_efficientnet_lite0": (32, {}),
    "regnetx_002": (32, {}),
    "convnext_atto": (32, {"depths": (1, 1, 1, 1)}),
    "vit_tiny_patch16_224": (32, {"depth": 2, "img_size": 32}),
    "vit_small_patch14_dinov2": (28, {"depth": 1, "img_size": 28}),
    "deit_tiny_distilled_patch16_224": (32, {"depth": 1, "img_size": 32}),
    "swin_tiny_patch4_window7_224": (
        64,
        {"depths": (1, 1, 1), "num_heads": (1, 2, 4), "embed_dim": 32, "img_size": 64},
    ),
}
VIT = "vit_tiny_patch16_224"
CLASSES = 10
Save = Callable[[dict[str, Tensor], Path], Path]


@functools.cache
def model_of(backbone: str) -> Any:
    """Build timm's own model with random weights, and norm statistics that are not those of the start."""
    torch.manual_seed(0)
    model = timm.create_model(backbone, num_classes=CLASSES, **MODELS[backbone][1]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def encoder_of(backbone: str) -> Any:
    encoder = copy.deepcopy(model_of(backbone))
    encoder.reset_classifier(0)
    return encoder


def state_of(backbone: str, head: bool = True) -> dict[str, Tensor]:
    kept = encoder_of(backbone).state_dict()
    return {k: v for k, v in model_of(backbone).state_dict().items() if head or k in kept}


def ordered(state: dict[str, Tensor], order: str) -> dict[str, Tensor]:
    names = list(state)
    if order == "shuffled":
        random.Random(0).shuffle(names)
    return {name: state[name] for name in (reversed(names) if order == "reversed" else names)}


def pickled(state: Any, path: Path, legacy: bool = False) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def safe(state: dict[str, Tensor], path: Path) -> Path:
    save_file({k: v.contiguous().clone() for k, v in state.items()}, path, {"format": "pt", "x": "y"})
    return path


def in_parts(state: dict[str, Tensor], path: Path) -> Path:
    names = list(state)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for part, own in parts.items():
        safe({name: state[name] for name in own}, path.parent / part)
    index = {"metadata": {}, "weight_map": {name: part for part, own in parts.items() for name in own}}
    path.write_text(json.dumps(index))
    return path


FORMATS: dict[str, Save] = {
    "w.pth": pickled,
    "w.pth.tar": lambda state, path: pickled(state, path, legacy=True),
    "w.bin": safe,  # the content decides, not the name
    "w.safetensors": safe,
    "w.ckpt": lambda state, path: pickled({"state_dict": state}, path),
    "model.safetensors.index.json": in_parts,
}


def loaded(backbone: str, path: Path) -> tuple[Any, nn.Linear | None]:
    return build_encoder(backbone, False, str(path), MODELS[backbone][1])


def features(model: nn.Module, side: int) -> Tensor:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(x)


@pytest.mark.parametrize("backbone", MODELS)
@pytest.mark.parametrize("head", [True, False])
def test_features_equal_those_of_timms_own_model(backbone, head, tmp_path):
    """Compare every format of a file, each with another order of its tensors."""
    side = MODELS[backbone][0]
    expected = features(encoder_of(backbone), side)
    orders = ("own", "shuffled", "reversed")
    for i, (name, save) in enumerate(FORMATS.items()):
        path = save(ordered(state_of(backbone, head), orders[i % 3]), tmp_path / name)
        encoder, classifier = loaded(backbone, path)
        found = features(encoder, side)
        assert torch.equal(found, expected), name
        if backbone.startswith("deit"):
            words = "classifier not used: not one linear layer" if head else "no classifier in it"
            assert (classifier, encoder.notes) == (None, [*_at(name), words])
        elif head:
            assert classifier is not None
            assert encoder.notes == _at(name)
            assert torch.equal(classifier(found), features(model_of(backbone), side))
        else:
            assert (classifier, encoder.notes) == (None, [*_at(name), "no classifier in it"])


def _at(name: str) -> list[str]:
    return ["read from 'state_dict'"] if name.endswith("ckpt") else []


@pytest.mark.parametrize("order", ["own", "shuffled", "reversed"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_every_order_of_a_format(order, name, tmp_path):
    backbone = "mobilenetv3_small_050"
    path = FORMATS[name](ordered(state_of(backbone), order), tmp_path / name)
    encoder, classifier = loaded(backbone, path)
    assert torch.equal(features(encoder, 32), features(encoder_of(backbone), 32))
    assert classifier is not None
    assert classifier.out_features == CLASSES


def shifted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{k}": v for k, v in state.items()}


@pytest.mark.parametrize("backbone", ["resnet10t", "vit_tiny_patch16_224"])
@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda own, other: under("module.", own), "module"),
        (lambda own, other: under("_orig_mod.module.", own), "_orig_mod.module"),
        (lambda own, other: under("timm_model.", own), "timm_model"),
        (lambda own, other: {"state_dict": under("net.model.", own), "epoch": 3}, "state_dict.net.model"),
        (lambda own, other: {"model": under("encoder.", own), "ema": None}, "model.encoder"),
        (lambda own, other: {"model": other, "model_ema": own}, "model_ema"),
        (lambda own, other: {"state_dict_ema": own, "state_dict": other}, "state_dict_ema"),
        (
            lambda own, other: {
                "student": under("module.backbone.", other),
                "teacher": {**under("backbone.", own), "head.mlp.0.weight": torch.ones(2)},
            },
            "teacher.backbone",
        ),
        (lambda own, other: {**under("student.", other), **under("teacher.", own)}, "teacher"),
        (lambda own, other: {"state_dict": {**under("ema.", own), **under("m.", other)}}, "state_dict.ema"),
        (
            lambda own, other: {
                "state_dict": under("model.", own),
                "hyper_parameters": argparse.Namespace(lr=0.1, path=Path("here")),
                "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
            },
            "state_dict.model",
        ),
    ],
)  # fmt: skip
def test_wrapped_weights(backbone, wrap, place, tmp_path):
    """The averaged weights are preferred, and the place in the file is told."""
    own = state_of(backbone)
    encoder, classifier = loaded(backbone, pickled(wrap(own, shifted(own)), tmp_path / "w.pth"))
    kept = encoder.state_dict()
    assert all(torch.equal(kept[name], own[name]) for name in kept)
    assert classifier is not None
    assert encoder.notes[0].startswith(f"read from '{place}'")
    assert (", not '" in encoder.notes[0]) == ("ema" in place or "teacher" in place)


def test_what_is_unused_is_told(tmp_path):
    own = {f"backbone.{k}": v for k, v in state_of("resnet10t", head=False).items()}
    extra = {f"head.mlp.{i}.weight": torch.ones(2) for i in range(3)}
    encoder, head = loaded("resnet10t", pickled({"teacher": own | extra}, tmp_path / "w.pth"))
    assert head is None
    assert encoder.notes == [
        "read from 'teacher.backbone'",
        "no classifier in it",
        "3 tensors unused: teacher.head.mlp.0.weight; teacher.head.mlp.1.weight; and 1 more",
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("save", [pickled, safe])
def test_other_precisions_become_float32(dtype, save, tmp_path):
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state_of("resnet10t").items()}
    encoder, head = loaded("resnet10t", save(half, tmp_path / "w"))
    own = encoder_of("resnet10t")
    own.load_state_dict({k: half[k].float() for k in own.state_dict()})
    assert {v.dtype for v in encoder.parameters()} == {torch.float32}
    assert torch.equal(features(encoder, 32), features(own, 32))


def test_position_embeddings_are_resampled_as_by_timm(tmp_path):
    """The reference is timm's own loading, with its own function for published files."""
    backbone, options = "vit_tiny_patch16_224", {"depth": 2, "img_size": 64}
    path = pickled({"model": state_of(backbone)}, tmp_path / "w.pth")
    encoder, _ = build_encoder(backbone, False, str(path), options)
    overlay = {"state_dict": state_of(backbone), "num_classes": CLASSES}
    own = timm.create_model(
        backbone, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **options
    )
    assert torch.equal(features(encoder, 64), features(own, 64))
    assert encoder.pos_embed.shape[1] == 17


def test_names_of_the_authors_become_timms(tmp_path):
    """ConvNeXt as its authors wrote it."""
    renamed = {}
    for name, tensor in state_of("convnext_atto").items():
        for new, old in (("head.norm", "norm"), ("head.fc", "head"), ("stem.", "downsample_layers.0."),
                         (".blocks.", "."), ("conv_dw", "dwconv"), ("mlp.fc", "pwconv")):  # fmt: skip
            name = name.replace(new, old)
        parts = name.split(".")
        if parts[2:3] == ["downsample"]:
            name = ".".join(["downsample_layers", parts[1], *parts[3:]])
        renamed[name] = tensor
    encoder, head = loaded("convnext_atto", pickled({"model": renamed}, tmp_path / "w.pth"))
    assert torch.equal(features(encoder, 32), features(encoder_of("convnext_atto"), 32))
    assert head is not None
    assert head.out_features == CLASSES


def test_missing_counts_of_batches_are_no_fault(tmp_path):
    own = {k: v for k, v in state_of("resnet10t").items() if "num_batches" not in k}
    encoder, _ = loaded("resnet10t", pickled(OrderedDict(own), tmp_path / "w.pth"))
    assert torch.equal(features(encoder, 32), features(encoder_of("resnet10t"), 32))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.0.weight"}, "conv1.0.weight is missing"),
        (lambda s: {k: v for k, v in s.items() if "layer4" not in k}, "layer4.0.conv1.weight is missing; "),
        (lambda s: s | {"conv1.0.weight": s["conv1.0.weight"][:8]}, r"has shape \[8, 3, 3, 3\]"),
        (lambda s: s | {"conv1.0.weight": s["conv1.0.weight"].to(torch.int8)}, "values of type int8"),
        (lambda s: s | {"bn1.bias": s["bn1.bias"] / 0}, "bn1.bias has values that are NaN or infinite"),
        (lambda s: {f"features.{k}x": v for k, v in s.items()}, "the file has features.bn1.biasx; "),
        (lambda s: {"epoch": 3}, "holds no tensors with names"),
        (lambda s: list(s.values()), "holds no tensors with names"),
    ],
)  # fmt: skip
def test_more_than_the_classifier_missing_is_an_error(change, reason, tmp_path):
    path = pickled(change(state_of("resnet10t")), tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"checkpoint=.*w.pth: does not fit resnet10t: .*{reason}"):
        loaded("resnet10t", path)


def test_another_network_is_proposed_only_where_names_or_shapes_differ(tmp_path):
    own = state_of("resnet10t")
    bad = own | {"bn1.bias": own["bn1.bias"] / 0}
    with pytest.raises(InputError) as error:
        loaded("resnet10t", pickled(bad, tmp_path / "w.pth"))
    assert str(error.value).endswith("bn1.bias has values that are NaN or infinite")
    with pytest.raises(InputError) as error:
        loaded("resnet10t", pickled({k: v for k, v in own.items() if k != "bn1.bias"}, tmp_path / "w.pth"))
    assert str(error.value).endswith("bn1.bias is missing; backbone=NAME takes another")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b'{"architectures": ["ViT"]}', "JSON without the 'weight_map'"),
        (b'{"weight_map": {"a": "part.safetensors"}}', "its part part.safetensors is missing beside it"),
        (b'{"weight_map": {"a": "../part.safetensors"}}', "its part '../part.safetensors' is not beside it"),
    ],
)
def test_files_of_another_kind_are_named(content, reason, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"checkpoint=.*w.pth: not a state dict.*{reason}") as error:
        loaded("resnet10t", path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.pth.tar"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off(name, share, tmp_path):
    path = FORMATS[name](state_of("mobilenetv3_small_050"), tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=f"checkpoint=.*{name}: not a state dict") as error:
        loaded("mobilenetv3_small_050", path)
    assert "\n" not in str(error.value)


def test_a_folder_names_its_files(tmp_path):
    safe(state_of("resnet10t"), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="is a folder; expected one of its files: model.safetensors"):
        loaded("resnet10t", tmp_path)


def test_objects_of_a_training_program_are_left_out_and_others_refused(tmp_path):
    args = argparse.Namespace(lr=0.1)
    path = pickled({"model": {"w": torch.ones(2)}, "args": args}, tmp_path / "w.pth")
    found = read_tensors(path)
    assert torch.equal(found["model"]["w"], torch.ones(2))
    assert type(found["args"]) is OrderedDict
    pickled({"w": torch.ones(2), "net": nn.Linear(2, 2)}, path)
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        read_tensors(path)


def test_zeros_are_no_file_of_pytorch(tmp_path):
    (tmp_path / "w.pth").write_bytes(bytes(3000))
    with pytest.raises(ValueError, match="it is no file of PyTorch"):
        read_tensors(tmp_path / "w.pth")


def test_the_files_of_weights_in_parts(tmp_path):
    path = in_parts({"a": torch.ones(1), "b": torch.ones(2)}, tmp_path / "w.json")
    assert files_of(path) == [path, tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    alone = safe({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    assert files_of(alone) == [alone]


@pytest.mark.skipif(SHARED is None, reason="TRANSFERBENCH_SHARED names no folder with weights and packs")
@pytest.mark.parametrize(
    ("backbone", "name"),
    [("tf_efficientnet_lite0", "efficientnet_lite0_tf"), ("mobilenetv2_100", "mobilenetv2_100_tf_qat")],
)
def test_published_files(backbone, name, tmp_path):
    state = torch.load(Path(str(SHARED)) / "weights" / f"{name}.timm.pth", weights_only=True)
    model = timm.create_model(backbone)
    model.load_state_dict(state)
    expected = features(model, 64)
    for head in (True, False):
        some = {k: v for k, v in state.items() if head or not k.startswith("classifier")}
        path = safe({f"module.{k}": v for k, v in ordered(some, "shuffled").items()}, tmp_path / "w.pth")
        encoder, classifier = build_encoder(backbone, False, str(path), {})
        found = features(encoder, 64)
        model.reset_classifier(0) if not head else None
        assert torch.equal(
            classifier(found) if classifier else found, expected if head else features(model, 64)
        )


@pytest.mark.parametrize(
    ("backbone", "options", "larger", "extra"),
    [
        ("resnet18", {}, ("resnet34", {}), "layer1.2.bn1.bias"),
        (VIT, {"depth": 1}, (VIT, {"depth": 2}), "blocks.1.attn"),
        (VIT, {"depth": 1}, (VIT, {"depth": 1, "init_values": 0.1}), "blocks.0.ls1"),
    ],
)
def test_a_larger_network_is_another_model(backbone, options, larger, extra, tmp_path):
    name, own = larger
    torch.save(timm.create_model(name, num_classes=3, **own).state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=f"does not fit {backbone}: its blocks have other tensors, too: {extra}"
    ):
        build_encoder(backbone, False, str(tmp_path / "w.pth"), options)


def test_the_queries_encoder_of_moco_is_read(tmp_path):
    own = state_of("resnet10t", head=False)
    keys = {f"module.encoder_k.{name}": tensor + 1 for name, tensor in own.items()}
    queries = {f"module.encoder_q.{name}": tensor for name, tensor in own.items()}
    torch.save({"state_dict": {**keys, **queries}}, tmp_path / "moco.pth")
    encoder, _ = build_encoder("resnet10t", False, str(tmp_path / "moco.pth"), {})
    assert torch.equal(encoder.state_dict()["conv1.0.weight"], own["conv1.0.weight"])
    assert "encoder_q" in encoder.notes[0]
