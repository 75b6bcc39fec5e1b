"""The model card shows names of any script, and stays valid YAML and Markdown."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from transferbench.benchmarks.model.card import card

SCORE = {"metric": "top1", "test": 0.5, "holdout": 0.5, "mean": 0.5, "interval": [0.4, 0.6], "seeds": 3}
PREPROCESSING = {
    **{"side": 32, "image_size": 28, "crop_pct": 0.875, "interpolation": "bicubic"},
    **{"mean": [0.5], "std": [0.5], "test_crops": "central", "hflip": True},
}


def about(target: str, classes: list[str]) -> dict[str, Any]:
    return {
        **{"score": SCORE, "preprocessing": PREPROCESSING, "target": target, "classes": classes},
        **{"label": "Fine-tuning", "method": "finetune", "backbone": "tiny", "source": "none", "seed": 0},
        **{"digest": "0123456789", "fingerprints": {"target": "0"}, "licenses": {}, "multi_label": False},
    }


@pytest.mark.parametrize("target", ["Vögel", "鳥 🐦", "a: 'b' \"c\" # d", "<b>a</b>", "a\nb\udcff"])
def test_names_of_any_script_are_shown(target):
    classes = ["Blaumeise", "Größe", "シジュウカラ", "🐦", "a`b", "``", "line\nbreak\udcff"]
    text = card(about(target, classes), SimpleNamespace(setting="some steps", record={}))
    text.encode()
    _, front, body = text.split("---\n", 2)
    found = yaml.safe_load(front)["model-index"][0]
    shown = target.replace("\n", " ").replace("\udcff", " ")
    assert found["name"] == f"Fine-tuning on {shown}"
    assert found["results"][0]["dataset"]["name"] == shown
    line = body.rpartition("## Classes")[2].strip()
    assert line == "`Blaumeise`, `Größe`, `シジュウカラ`, `🐦`, `` a`b ``, ``` `` ```, `line break `"
    title = next(line for line in body.splitlines() if line.startswith("# "))
    assert title.replace("\\", "") == f"# Fine-tuning on {shown}"
    assert "<" not in title.replace("\\<", "")


@pytest.mark.parametrize(
    ("crops", "hflip", "said"),
    [("central", True, ""), ("ten", False, "and the center."), ("ten", True, "center, each also mirrored.")],
)
def test_the_crops_that_are_scored_are_said(crops, hflip, said):
    given = about("pets", ["a", "b"])
    given["preprocessing"] = PREPROCESSING | {"test_crops": crops, "hflip": hflip}
    text = card(given, SimpleNamespace(setting="some steps", record={}))
    lines = [line for line in text.splitlines() if "mean logits of the four corners" in line]
    assert len(lines) == bool(said)
    assert all(line.endswith(said) for line in lines)
