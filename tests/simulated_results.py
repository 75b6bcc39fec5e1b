"""Writes a results folder with simulated records: methods x targets x seeds, and what goes wrong beside them.

The true score of a method is known, every run answers every test image, and nothing is trained.
"""

import base64
import hashlib
import json

import numpy as np

# label: method, points above fine-tuning, seconds of a step, uses the source
METHODS = {
    "Scratch": ("scratch", -22.0, 0.038, False),
    "Linear probe": ("linear_probe", -4.0, 0.013, False),
    "Fine-tuning": ("finetune", 0.0, 0.040, False),
    "DATL": ("datl", 0.3, 0.040, False),
    "Uniform weights": ("l2tl", -1.0, 0.110, True),
    "Random search": ("l2tl", -0.5, 0.120, True),
    "L2TL": ("l2tl", 2.5, 0.140, True),
    "L2-SP": ("l2sp", 0.2, 0.046, False),
    "LwF": ("lwf", 0.4, 0.055, False),
    "Bi-tuning": ("bi_tuning", 1.0, 0.061, False),
}
TARGETS = {"digits": 85.0, "birds": 77.1, "pets": 93.1, "cars": 92.0}  # fine-tuning's true score
HOSTILE = "<script>alert(1)</script>"
REPEATED = "0123456789"  # the digest of an earlier run of a seed
PNG = (  # one grey pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
NUM_IMAGES, STEPS, NUM_CLASSES = 797, 300, 30
SETTING = "shots=5, protocol=holdout, tune=off, backbone=small, recipe.steps=300, bn=split"


def write_results(folder, methods=METHODS, targets=TARGETS, seeds=5, source="glyphs", trouble=True):
    """Write records of every method, target and seed; `trouble` adds what fails, lacks, or is hostile."""
    for target in targets:
        for label in methods:
            for seed in range(seeds):
                save(folder, make_record(label, target, seed, source=source))
    save(folder, pretraining(source))
    if trouble:
        write_trouble(folder, source)
    return folder


def make_record(label="Fine-tuning", target="digits", seed=0, share=None, **changed):
    """Return a record such as a run leaves; `share` is the true score, by default that of TARGETS."""
    method, points, step_seconds, joint = METHODS.get(label, ("finetune", 0.0, 0.04, False))
    share = (TARGETS.get(target, 80.0) + points) / 100 if share is None else share
    random = np.random.default_rng([seed, *label.encode(), *target.encode()])
    correct = _hard(target) + random.normal(0, 0.05, NUM_IMAGES) < share + random.normal(0, 0.003)
    score = float(correct.mean())
    seconds = step_seconds * (1 + 0.02 * random.random())
    base = {"digest": digest("pretraining"), "seconds": 62.0, "steps": 1500, "shared": True}
    special = {"digest": digest("special", target), "seconds": 30.0, "steps": 450, "shared": False}
    record = {
        "format": 2, "status": "done", "role": "run", "label": label, "method": method,
        "source": "glyphs", "target": target, "seed": seed,
        "digest": digest(label, target, seed), "bench": digest("bench", target), "setting": SETTING,
        "notes": [], "config": {"seed": seed, "recipe": {"lr": 0.01}}, "overrides": ["recipe.lr=0.01"],
        "choice": None, "metric": "top1",
        "test": {"top1": score, "mean_per_class": score - 0.01, "auroc": 0.99, "num_images": NUM_IMAGES},
        "holdout": {"top1": score}, "correct": base64.b64encode(np.packbits(correct)).decode(),
        "curve": _curve(score, seconds, random),
        "class_weights": _class_weights(target, random) if label in ("L2TL", "DATL") else None,
        "seconds": {"prepare": 0.0, "step": STEPS * seconds, "per_step_median": seconds,
                    "parts": _parts(STEPS * seconds, joint)},
        "pretraining": [] if label == "Scratch" else [base, special] if label == "DATL" else [base],
        "images": {"target": 19200, "source": 96000 * joint, "holdout": 38400 * joint},
        "numbers": {"on_nan": "stop", "skipped_steps": [], "num_spikes": 0},
        "num_steps": STEPS, "num_parameters": 307416, "peak_memory_bytes": 802664448,
        "flops_per_step": 2135687168, "fingerprints": {"target": f"t-{target}", "source": "s1", "splits": {}},
        "environment": {
            "commit": "c0ffee0123456789", "dirty": False, "host": "desk", "threads": 1,
            "device": "cpu (x86_64)", "versions": {"python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6"},
        },
        "started": "2026-11-22T15:00:00Z", "ended": f"2026-11-22T15:01:{seed:02d}Z",
    }  # fmt: skip
    return record | changed


def digest(*parts):
    """Name something by its content, as long as a run's digest is."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]


def pretraining(source="glyphs"):
    """Return the record of the shared pre-training."""
    return make_record("Source pre-training", "none", role="pretraining", method="pretrain", source=source,
                       digest=digest("pretraining"), test=None, correct=None, curve=[])  # fmt: skip


def save(results, record):
    """Write a record where a run leaves it; names of folders never hold a slash."""
    names = (f"{record['source']}-{record['target']}", record["method"], record["label"])
    run = f"seed{record['seed']}-{record['digest']}"
    folder = results.joinpath(*(name.replace("/", "_") for name in names), run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record))
    return folder / "record.json"


def write_trouble(results, source="glyphs"):
    """Write a failed and an unfinished run, a row left out, a set with hostile names, a repeat."""
    pair = results / f"{source}-digits"
    leave(pair / "lwf" / "seed5-feedc0ffee", method="lwf", seed=5,
          error={"error": "OutOfMemoryError: CUDA out of memory", "traceback": f"Traceback\n{HOSTILE}",
                 "time": "2026-11-22T15:02:00Z"})  # fmt: skip
    leave(pair / "l2tl" / "seed5-deadbeef00", method="l2tl", seed=5,
          heartbeat={"step": 120, "steps": STEPS, "host": "node7", "time": 1795369536.3})  # fmt: skip
    skipped = {"source": source, "target": "digits", "bench": digest("bench", "digits"), "label": "Co-Tuning",
               "reason": f"the source has no class {HOSTILE}"}  # fmt: skip
    (pair / "co_tuning").mkdir(parents=True, exist_ok=True)
    (pair / "co_tuning" / f"skipped-{skipped['bench']}.json").write_text(json.dumps(skipped))
    for label in ("Fine-tuning", "L2TL"):
        for seed in range(1 + (label == "L2TL")):
            weights = {f"{HOSTILE} {i}": i / 3 for i in range(4)} if label == "L2TL" else None
            save(results, make_record(label, HOSTILE, seed, source=source, class_weights=weights,
                                      notes=[f"{HOSTILE} were left out"]))  # fmt: skip
    repeat = make_record("L2TL", "digits", 0, source=source)
    save(results, repeat | {"digest": REPEATED, "ended": "2026-11-21T00:00:00Z"})


def leave(folder, method, seed, error=None, heartbeat=None):
    """Write the folder of a run without a record."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"role": "run", "source": "glyphs", "target": "digits", "method": method, "seed": seed}
    for name, content in (("config.json", config), ("error.json", error), ("heartbeat", heartbeat)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))


def write_plan(results, name="small", element="", targets=TARGETS, view="scores", ats=(None,), **changed):
    """Write the plan of a table or figure: one cell has not run, and one cannot."""
    rows = ["L2TL"] if view in ("classes", "pictures") else ["Fine-tuning", "Uniform weights", "L2TL"]
    cells = [_cell(results, row, target, at=at) for row in rows for target in targets for at in ats]
    cells.append(
        _cell(results, "L2TL", "aircraft", bench="", at=ats[-1], reason=f"no images of aircraft {HOSTILE}")
    )
    cells.append(_cell(results, "L2TL, n=21", next(iter(targets)), at=ats[-1]))
    plan = {"format": 1, "name": name, "element": element, "title": "Small targets", "view": view,
            "command": f"transferbench suite {name}", "notes": ["Small images."], "cells": cells}  # fmt: skip
    (results / "suites").mkdir(exist_ok=True)
    (results / "suites" / f"{name}.json").write_text(json.dumps(plan | changed))
    return results / "suites" / f"{name}.json"


def write_plans(results, targets=TARGETS):
    """Write a plan of every kind of view but those of labels and cost, with images for the pictures."""
    write_plan(results, "table2", "Table 2", targets)
    write_plan(results, "figure3", "Figure 3", targets, "shots", ats=(5, "all"))
    write_plan(results, "figure4", "Figure 4", targets, "curves")
    one = dict(list(targets.items())[:1])
    write_plan(results, "table4", "Table 4", one, "classes")
    write_plan(results, "figure2", "Figure 2", one, "pictures")
    (results / "suites" / "pictures").mkdir(exist_ok=True)
    pictures = {
        "classes": {f"class {i:02d}": [PNG] * 4 for i in range(NUM_CLASSES)},
        "target_images": [PNG] * 8,
    }
    for target in one:
        path = results / "suites" / "pictures" / f"glyphs-{target}.json"
        path.write_text(json.dumps({"source": "glyphs", "target": target, **pictures}))


def _cell(results, row, target, seeds=5, **changed):
    found = results.glob(f"*-{target}/*/{row}/seed*/record.json")
    records = [(json.loads(path.read_text()), path) for path in sorted(found)]
    records = [(record, path) for record, path in records if record["digest"] != REPEATED]
    cell = {
        "row": row, "column": target, "source": "glyphs", "target": target, "at": None,
        "bench": digest("bench", target), "label": row, "method": METHODS.get(row, ("l2tl",))[0],
        "runs": [
            {"seed": r["seed"], "digest": r["digest"], "record": str(path.relative_to(results))}
            for r, path in records
        ] or [{"seed": seed, "digest": digest(row, target, seed),
               "record": f"glyphs-{target}/l2tl/seed{seed}-{digest(row, target, seed)}/record.json"}
              for seed in range(seeds)],
        "command": f"transferbench bench target={target} source=glyphs methods=l2tl seeds={seeds}",
        "reason": "",
    }  # fmt: skip
    return cell | changed


def _hard(target):
    """Return how hard each test image is [N], the same in all runs."""
    return np.random.default_rng([99, *target.encode()]).random(NUM_IMAGES)


def _curve(score, seconds, random):
    return [
        {
            "step": step,
            "seconds": step * seconds,
            "holdout": {"top1": score * (1 - np.exp(-step / 60)) + random.normal(0, 0.008)},
            "train": {"loss": float(np.exp(-step / 100))},
        }
        for step in range(30, STEPS + 1, 30)
    ]


def _class_weights(target, random):
    """Return class -> weight: a ranking of the target, and noise of the seed."""
    true = np.random.default_rng(list(target.encode())).random(NUM_CLASSES)
    return dict(
        zip(
            (f"class {i:02d}" for i in range(NUM_CLASSES)),
            np.clip(true + random.normal(0, 0.1, NUM_CLASSES), 0, 1).tolist(),
            strict=True,
        )
    )


def _parts(seconds, joint):
    shares = {"data": 0.1, "target": 0.3, "source": 0.3, "reward": 0.25, "policy": 0.05} if joint else {
        "data": 0.1, "target": 0.9}  # fmt: skip
    return {name: share * seconds for name, share in shares.items()}
