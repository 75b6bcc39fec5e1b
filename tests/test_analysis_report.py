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


def test_report_is_whole_and_needs_nothing_from_outside(results, tmp_path):
    page = write_report(results, tmp_path / "report").read_text()
    assert "http" not in page
    assert "src=" not in page
    assert page.count("<svg") == 2
    assert all(label in page for label in SKILL)
    assert "Scratch is below fine-tuning" in page  # a negative result is printed as it is
    kinds = [f"{kind}.{ending}" for kind in ("accuracy", "curves") for ending in ("csv", "pdf", "png")]
    figures = sorted(path.name for path in (tmp_path / "report" / "figures").iterdir())
    assert figures == [f"glyphs-digits-77aa88bb99-{name}" for name in kinds]
    tables = sorted(path.suffix for path in (tmp_path / "report" / "tables").iterdir())
    assert tables == [".csv", ".md"]


def test_equal_records_give_equal_files(tmp_path):
    for label in ("Fine-tuning", "L2TL"):
        save(tmp_path / "results", make_record(label))
    for name in ("once", "again"):
        write_report(tmp_path / "results", tmp_path / name)
    files = [path for path in (tmp_path / "once").rglob("*") if path.is_file()]
    assert len(files) == 9
    for path in files:
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "once")).read_bytes()


def test_labels_are_escaped_and_curves_may_be_absent(tmp_path):
    save(tmp_path / "results", make_record("Fine-tuning", curve=[]))
    save(tmp_path / "results", make_record("L2TL", curve=[]) | {"setting": "<script>alert(1)</script>"})
    page = write_report(tmp_path / "results", tmp_path / "report").read_text()
    assert "<script" not in page
    assert "there are no curves" in page
    assert not list((tmp_path / "report" / "figures").glob("*curves*"))


def test_markdown_of_one_comparison(results):
    text = comparison_markdown(results, "glyphs", "digits", "77aa88bb99")
    assert "shots=5, protocol=holdout" in text
    assert "| 5 (0–4) |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(SKILL)
    assert len({len(line) for line in lines}) == 1
    with pytest.raises(InputError, match="no runs of glyphs → pets, bench 0 .* glyphs → digits"):
        comparison_markdown(results, "glyphs", "pets", "0")


def test_printing_a_comparison_loads_no_drawing_and_no_training(results):
    code = (
        "import sys; from pathlib import Path; from transferbench.analysis.report import comparison_markdown;"
        f"comparison_markdown(Path({str(results)!r}), 'glyphs', 'digits', '77aa88bb99');"
        "print([name for name in ('torch', 'matplotlib', 'seaborn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_roles_are_left_out(tmp_path):
    path = save(tmp_path, make_record(role="trial"))
    with pytest.raises(InputError, match=r"1 record\(s\), none of them of a run.*transferbench bench"):
        load(tmp_path)
    path.write_text(json.dumps(make_record()))
    assert [run.label for run in load(tmp_path)] == ["Fine-tuning"]


def test_no_records(tmp_path):
    with pytest.raises(InputError, match="no record.json.*`transferbench bench` fills this folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "broken JSON"),
        ("[]", "a list, where a record is a JSON object"),
        (json.dumps(make_record(format=2)), "format 2 is unknown; this version reads 1"),
        (json.dumps(make_record(role="runs")), "role 'runs' is unknown"),
        (json.dumps(make_record(metric="f1")), "metric 'f1' is unknown; known: top1"),
        (json.dumps(make_record(correct="AAAA")), "holds 3 bytes, where 797 test images take 100"),
        (json.dumps(make_record(correct="!")), "no base64"),
        (json.dumps(make_record(images=None)), "no whole record"),
        (json.dumps(make_record(seconds={})), "no whole record .*per_step_median"),
    ],
)
def test_a_bad_record_is_named(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
