"""What a bench of own images takes if nothing but their path is given."""

import pytest
from transferbench.benchmarks.config.compose import CPU_SIDE, OWN_BACKBONE, compose_request
from transferbench.benchmarks.launch.plan import row_names
from trees import tree


def asked(target, *given: str) -> tuple[str | None, bool, str, int]:
    request = compose_request([f"target={target}", "device=cpu", *given])
    return request.source, request.pretrained, request.backbone, request.recipe.image_size


def test_photos_alone_start_from_published_weights(tmp_path):
    photos = tree(tmp_path / "photos")
    assert asked(photos) == ("none", True, OWN_BACKBONE, 0)  # small images keep their size
    assert asked(photos, "recipe.image_size=64") == ("none", True, OWN_BACKBONE, 64)
    rows = row_names(compose_request([f"target={photos}"]))
    assert {"finetune", "linear_probe", "knn"} <= set(rows)
    assert "l2tl" not in rows


def test_large_photos_are_seen_smaller_on_a_cpu(tmp_path, monkeypatch):
    photos = tree(tmp_path / "photos")
    monkeypatch.setattr("transferbench.benchmarks.config.compose.SMALL_SIDE", 8)
    assert asked(photos)[-1] == CPU_SIDE


@pytest.mark.parametrize("given", ["source=glyphs", "backbone=small", "preset=small", "pretrained=false"])
def test_what_is_given_stays(tmp_path, given):
    source, pretrained, backbone, side = asked(tree(tmp_path / "photos"), given)
    assert not pretrained
    assert backbone == "small"
    assert source == ("glyphs" if given.startswith("source") else None)


def test_weights_need_no_source(tmp_path):
    photos = tree(tmp_path / "photos")
    file = tmp_path / "weights.pth"
    file.write_bytes(b"")
    assert asked(photos, f"checkpoint={file}")[:3] == ("none", False, OWN_BACKBONE)
    assert asked(photos, f"checkpoint={file}", "backbone=resnet18")[:3] == ("none", False, "resnet18")
    assert asked(photos, "pretrained=true", "backbone=resnet18")[:3] == ("none", True, "resnet18")
    assert asked(photos, "pretrained=true", "source=glyphs", "backbone=resnet18")[:2] == ("glyphs", True)
