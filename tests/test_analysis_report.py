"""The report end to end, on made-up records."""

import base64
import json
import subprocess
import sys

import numpy as np
import pytest

from transferbench import InputError
from transferbench.analysis.load import load
from transferbench.analysis.report import comparison_markdown, write_report

SKILL = {"Scratch": 0.62, "Fine-tuning": 0.85, "L2TL": 0.875, "Uniform weights": 0.83, "DATL": 0.852}
METHODS = {"Scratch": "scratch", "Fine-tuning": "finetune", "L2TL": "l2tl", "Uniform weights": "l2tl"}
STEP_SECONDS = {"L2TL": 0.14, "Uniform weights": 0.11, "DATL": 0.05}
NUM_IMAGES, STEPS = 797, 300


def make_record(label="Fine-tuning", seed=0, share=None, **changed):
    """Return a record such as a run leaves; `share` of the test images are right."""
    share = SKILL[label] if share is None else share
    random = np.random.default_rng([seed, len(label)])
    hard = np.random.default_rng(99).random(NUM_IMAGES)  # shared by all runs: runs are paired
    correct = hard + random.normal(0, 0.08, NUM_IMAGES) < share + random.normal(0, 0.006)
    score = float(correct.mean())
    joint = label in ("L2TL", "Uniform weights")
    seconds = STEP_SECONDS.get(label, 0.04) * (1 + 0.02 * random.random())
    curve = [
        {
            "step": step,
            "seconds": step * seconds,
            "holdout": {"top1": score * (1 - np.exp(-step / 60)) + random.normal(0, 0.008)},
            "train": {"loss": float(np.exp(-step / 100))},
        }
        for step in range(30, STEPS + 1, 30)
    ]
    record = {
        "format": 1, "status": "done", "role": "run", "label": label,
        "method": METHODS.get(label, "datl"), "source": "glyphs", "target": "digits", "seed": seed,
        "digest": f"{len(label):05x}{seed:05x}",
        "bench": "77aa88bb99", "setting": "shots=5, protocol=holdout", "config": {}, "metric": "top1",
        "test": {"top1": score, "mean_per_class": score - 0.01, "auroc": 0.99, "num_images": NUM_IMAGES},
        "holdout": {"top1": score}, "correct": base64.b64encode(np.packbits(correct)).decode(),
        "curve": curve, "class_weights": None,
        "seconds": {"prepare": 0.0, "step": STEPS * seconds, "per_step_median": seconds, "parts": {}},
        "pretraining": [{"digest": "p1", "seconds": 62.0, "steps": 1500, "shared": True}]
        * (label != "Scratch"),
        "images": {"target": 19200, "source": 96000 * joint, "holdout": 38400 * joint},
        "num_steps": STEPS, "fingerprints": {"target": "t1", "source": "s1"},
        "environment": {"commit": "c0ffee0123456789", "dirty": False, "device": "cpu", "host": "desk"},
        "started": "2026-11-22T15:00:00Z", "ended": f"2026-11-22T15:01:{seed:02d}Z",
    }  # fmt: skip
    return record | changed


def save(results, record):
    name = f"seed{record['seed']}-{record['digest']}"
    folder = results / f"{record['source']}-{record['target']}" / record["method"] / record["label"] / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    return folder / "record.json"


@pytest.fixture
def results(tmp_path):
    for label in SKILL:
        for seed in range(5):
            save(tmp_path / "results", make_record(label, seed))
    return tmp_path / "results"
