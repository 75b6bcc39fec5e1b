"""Records of earlier formats, brought up to the present one.

Formats: 1, before a run's numbers were watched; 2, with `numbers`; 3, with the settings' present names,
`comparison_id` in place of `bench`, and `l2tl_gradients` as a method; 4, with counts of `labels`.
"""

import re
from collections.abc import Mapping
from typing import Any

FORMAT = 4
RENAMED = {  # settings: their names in formats 1 and 2, and today's
    "recipe.central_share": "recipe.crop_pct",
    "recipe.head_std": "recipe.head_init_std",
    "recipe.mirror": "recipe.hflip",
    "recipe.normalise": "recipe.mean_std",
    "recipe.warmup_share": "recipe.warmup_fraction",
    "method.normaliser": "method.normalizer",
    "method.num_neighbours": "method.num_neighbors",
    "method.stabilised": "method.stabilized",
}


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record in the present format. Raises a KeyError or a TypeError where it is not whole."""
    for step in MIGRATIONS[record["format"] - 1 :]:
        record = step(record)
    return record


def _from_1(record: dict[str, Any]) -> dict[str, Any]:
    """Add what early records lack; what is not known is None."""
    record = {"notes": [], "started": record["ended"], "peak_memory_bytes": None, **record}
    record.setdefault("overrides", [word for word in record["setting"].split(", ") if word])
    record["environment"] = {"threads": 0, **record["environment"]}
    return record | {"format": 2, "numbers": {"on_nan": "stop", "skipped_steps": [], "num_spikes": 0}}


def _from_2(record: dict[str, Any]) -> dict[str, Any]:
    """Rename settings and the comparison's name, and name credit by gradients as the method that it is."""
    record = {**record, "format": 3, "comparison_id": record["bench"]}
    del record["bench"]
    record["config"] = renamed_config(record["config"], RENAMED)
    record["overrides"] = [with_present_name(word) for word in record["overrides"]]
    for old, new in RENAMED.items():
        old_name, new_name = (name.rpartition(".")[2] for name in (old, new))
        record["label"] = record["label"].replace(f"{old_name}=", f"{new_name}=")
    return _as_l2tl_gradients(record)


def renamed_config(config: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a configuration with other names of settings; `names` maps `group.old` to `group.new`."""
    config = {group: dict(own) if isinstance(own, dict) else own for group, own in config.items()}
    for old, new in names.items():
        group, _, old_name = old.rpartition(".")
        own = config.get("settings" if group == "method" else group)
        if isinstance(own, dict) and old_name in own:
            own[new.rpartition(".")[2]] = own.pop(old_name)
    return config


def with_present_name(word: str) -> str:
    """Return an override, `name=value`, with the setting's present name."""
    name, equals, value = word.partition("=")
    return f"{RENAMED.get(name, name)}{equals}{value}"


OF_REWARDS = {  # settings of L2TL that `l2tl_gradients` does not have
    "preset",
    "weights",
    "credit",
    "reward",
    "replay",
    "first_policy_step",
    "reward_augmented",
    "lambda_denominator",
    "normalizer",
    "reduction",
    "logp_mean",
    "reward_train_mode",
    "decay_biases",
    "baseline_momentum",
    "baseline_first",
    "baseline_debiased",
    "policy_lr",
    "policy_lr_decay_step",
    "ties",
}
UNWRITTEN = {  # settings that format 2 left out of a configuration where they had these values
    "judge_lr": 0.0,
    "layerwise": False,
    "relative_credit": False,
    "action": "sampled",
    "explored": 0,
    "direction_memory": 0.0,
    "credit_sharpness": 2.0,
    "credit_bar": 0.1,
}


def _as_l2tl_gradients(record: dict[str, Any]) -> dict[str, Any]:
    """Return an early record of `method=l2tl method.preset=first_order` as one of `method=l2tl_gradients`.

    A record stays as it is if it has other settings than the new method: the label lists what was changed.
    """
    settings = record["config"].get("settings")
    if record["method"] != "l2tl" or not isinstance(settings, dict):
        return record
    changed = set(re.findall(r"(\w+)=", record["label"]))
    is_first_order = settings.get("preset") == settings.get("credit") == "first_order"
    if not is_first_order or changed & OF_REWARDS or settings.get("alpha") == "walk":
        return record
    if settings.get("weights", "learned") != "learned":
        return record
    own = {name: value for name, value in settings.items() if name not in OF_REWARDS}
    kept = [
        word
        for word in record["overrides"]
        if not word.startswith("method.") or word.split("=")[0].removeprefix("method.") in changed
    ]
    return record | {
        "method": "l2tl_gradients",
        "label": record["label"].replace("L2TL, first_order", "L2TL by gradients"),
        "config": record["config"] | {"method": "l2tl_gradients", "settings": UNWRITTEN | own},
        "overrides": kept,
    }


def _from_3(record: dict[str, Any]) -> dict[str, Any]:
    """Rename the labels of test images, and name in the overrides what the shots of then counted."""
    record = {**record, "format": 4}
    if isinstance(record.get("labels"), str):
        record["test_labels"] = record.pop("labels")
    if any(word.startswith("shots=") and word != "shots=null" for word in record["overrides"]):
        record["overrides"] = [*record["overrides"], "labels=train"]
    return record


MIGRATIONS = (_from_1, _from_2, _from_3)  # from format i + 1
