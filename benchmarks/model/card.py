"""The model card of a kept model, in the form of the Hugging Face hub."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ... import printable
from ...analysis.records.load import METRICS, Run
from ...analysis.tables.chosen import chosen_text
from ...analysis.wording import SAME, interval, number
from .files import many_crops

MOST_CLASSES = 50  # that the card lists
HUB_METRICS = {"top1": "accuracy", "mean_per_class": "mean_per_class_accuracy", "auroc": "roc_auc"}


def card(about: Mapping[str, Any], run: Run) -> str:
    """Return the text of a model's README.md: YAML for the hub, then what a user has to know.

    Args:
        about: the content of `model.json`, with its score.
        run: its run.
    """
    score, target = about["score"], printable(about["target"])
    title = f"{about['label']} on {target}"
    kind = "labels" if about["multi_label"] else "classes"
    front = [
        "---",
        "library_name: transferbench",
        "pipeline_tag: image-classification",
        f"tags: [image-classification, transfer-learning, {_quoted(about['method'])}]",
        "model-index:",
        f"- name: {_quoted(title)}",
        "  results:",
        "  - task: {type: image-classification}",
        f"    dataset: {{name: {_quoted(target)}, type: {_quoted(target)}, split: test}}",
        f"    metrics: [{{type: {HUB_METRICS[score['metric']]}, value: {score['test']:.6f}}}]",
        "---",
    ]
    seeds = f"{score['seeds']} seed{'s' if score['seeds'] > 1 else ''}"
    spread = f", {SAME} of them" if score["seeds"] > 1 else ""
    if score["interval"]:
        spread = f", 95 % CI {interval(*(100 * v for v in score['interval']))}"
    name = METRICS[score["metric"]]
    licenses = about["licenses"].items()
    given = about["preprocessing"]
    crops = many_crops(given)
    body = [
        f"# {_plain(title)}",
        "",
        f"An image classifier with {len(about['classes'])} {kind}: "
        f"{about['backbone']}, trained by {about['label']} (seed {about['seed']}) on {_plain(target)}"
        + (f", from {_plain(about['source'])}" if about["source"] != "none" else "")
        + ".",
        "",
        f"- Test {name} of this model: {number(100 * score['test'])} %. Over {seeds}: "
        f"{number(100 * score['mean'])} %{spread}.",
        "- The seed was chosen by holdout scores, not by test scores."
        if score["holdout"] is not None
        else "- The seed is the lowest one that was kept; no test score chose it.",
        f"- Settings: {run.setting}"
        + (f"; tuned on holdout images to {chosen_text([run])}." if run.record.get("choice") else "."),
        f"- Images: turned upright by EXIF; the whole image resized to {given['side']} x {given['side']} px "
        f"({given['interpolation']}, without its aspect ratio); the central square of {given['crop_pct']:g} "
        f"of the original's shorter side cut from it (bilinear) at {given['image_size']} px; "
        f"mean {given['mean']}, deviation {given['std']}.",
        *([f"- Scores and `predict` are of the mean logits of {crops}."] if crops else []),
        "- License of the images: "
        + (", ".join(f"{text} ({role})" for role, text in licenses) if licenses else "not known")
        + ".",
        f"- Run: {about['digest']}; fingerprints of the images: "
        + ", ".join(f"{role} {value}" for role, value in sorted(about["fingerprints"].items()))
        + ".",
        "",
        "## Use",
        "",
        "```sh",
        "transferbench predict PATH_OF_THIS_FOLDER photos/ out=predictions.csv",
        "transferbench export PATH_OF_THIS_FOLDER to=onnx",
        "```",
        "",
        "## Classes",
        "",
        ", ".join(_code(name) for name in about["classes"][:MOST_CLASSES])
        + (f" and {len(about['classes']) - MOST_CLASSES} more" * (len(about["classes"]) > MOST_CLASSES)),
        "",
    ]
    return "\n".join([*front, "", *body])


def _quoted(text: str) -> str:
    """Return a text in YAML; a JSON text without escapes is one."""
    return json.dumps(printable(text), ensure_ascii=False)


def _plain(text: str) -> str:
    """Return a name in Markdown that shows as it is."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", printable(text))


def _code(name: str) -> str:
    """Return a class name as code in Markdown, with backticks of its own."""
    fence = "`" * (1 + max(map(len, re.findall("`+", name)), default=0))
    space = " " if "`" in name else ""
    return f"{fence}{space}{printable(name)}{space}{fence}"
