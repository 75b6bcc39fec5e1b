"""The paper's claims by their rules, on planted effects; records packed in one file; tables and figure."""

import json
import re
from pathlib import Path

import pytest
from simulated_results import digest, make_record, save
from transferbench import InputError
from transferbench.analysis import evidence
from transferbench.analysis.claims import KINDS, OTHERS, effects, gains, papers_own, verdicts
from transferbench.analysis.records.load import load
from transferbench.analysis.records.packed import main, pack, unpack

ROWS = ("L2TL", *OTHERS)


def write(folder, above, pairs=tuple(KINDS), seeds=5):
    """Write runs on pairs; `above(kind, shots, other)` is by how many points L2TL is above another row."""
    for source, target in pairs:
        for shots in (5, 20):
            for label in ROWS:
                for seed in range(seeds):
                    lead = 0 if label == "L2TL" else above(KINDS[source, target], shots, label)
                    record = make_record(
                        label,
                        target,
                        seed,
                        share=0.8 - lead / 100,
                        source=source,
                        digest=digest(source, target, shots, label, seed),
                        comparison_id=digest(source, target, shots),
                        config={"shots": shots, "recipe": {}},
                        fingerprints={"target": f"t-{target}", "source": f"s-{source}"},
                    )
                    save(folder, record)
    return load(folder)


def told(runs):
    return {claim: verdict.partition(":")[0] for claim, verdict in verdicts(effects(runs))}


def test_what_is_planted_is_found(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: {"near": 25 / shots, "middle": 3, "far": 0.0}[kind] + 2)
    found = told(runs)
    assert set(found.values()) == {"supported"}, found
    assert len(found) == 7
    assert all(gain.points > 1 for _, gain in gains(effects(runs)))


def test_the_opposite_is_contradicted(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: -25 / shots if kind == "near" else -4)
    assert set(told(runs).values()) == {"contradicted"}


def test_two_seeds_leave_it_open(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 0.3, seeds=2)
    found = dict(verdicts(effects(runs)))
    assert found["(i) above fine-tuning on near targets, 5 labels per class"].startswith(
        "open on 3 pairs; on each, "
    )


def test_what_is_not_run_is_said(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 1.0, pairs=[("glyphs", "digits")])
    text = evidence.report(runs)
    assert "(iii) no harm on far targets, 5 labels per class: not known: no pair has run" in text
    assert "Not run, or with one number of labels: mnist to usps, usps to mnist" in text
    assert "(i) above fine-tuning on near targets, 5 labels per class: open on 1 pair" in text


def test_pairs_that_have_not_run_count_in_the_correction(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 2.0, pairs=[("mnist", "usps")])
    for each in effects(runs):
        assert each.difference.num_compared == len(KINDS)
        assert each.difference.p_value_holm == pytest.approx(min(7 * each.difference.p_value, 1))


def test_a_pair_without_one_of_the_rows_says_nothing_of_the_policy(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 3.0)
    runs = [run for run in runs if run.source != "tiny-imagenet" or run.label != "Random search"]
    runs = [run for run in runs if run.source != "usps" or run.label != "Uniform weights"]
    assert dict(verdicts(effects(runs)))["the policy is what helps, 5 labels per class"] == (
        "supported: significantly above both on 2 of 2 pairs"
    )


def test_nothing_is_claimed_where_fine_tuning_has_an_alarm(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 70.0 if other == "Fine-tuning" else 0.0)
    for run in runs:
        run.record["num_classes"] = 10
    assert {e.difference.outcome for e in effects(runs)} == {"no claim"}
    assert set(told(runs).values()) == {"not known"}
    page = evidence.report(runs)
    assert page.count("- No claim on mnist to usps with 5 labels: ") == 1
    assert re.search(r"Gain over fine-tuning on mnist to usps, 5 labels .* points, no claim\.", page)
    row = next(line for line in page.splitlines() if line.startswith("| Uniform weights "))
    assert row.count("†") == len(KINDS)
    assert "*" not in row


def test_one_seed_has_no_verdict(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: -3.0, seeds=1)
    assert set(told(runs).values()) == {"not known"}
    row = next(line for line in evidence.report(runs).splitlines() if line.startswith("| L2TL "))
    assert "*" not in row


def test_a_row_whose_training_failed_counts(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 70.0 if other == "Random search" else 0.0)
    for run in runs:
        run.record["num_classes"] = 10
    assert {e.difference.outcome for e in effects(runs) if e.other == "Random search"} == {"above"}
    row = next(line for line in evidence.report(runs).splitlines() if line.startswith("| Random search "))
    assert row.count("*") == len(KINDS)
    assert "†" not in row


def test_runs_with_all_labels_are_no_case(tmp_path):
    pair = [("mnist", "usps")]
    runs = write(tmp_path, lambda kind, shots, other: 1.0, pairs=pair)
    whole = effects(runs)
    record = make_record("L2TL", "usps", 0, source="mnist", comparison_id="all", digest=digest("all"))
    record |= {"fingerprints": {"target": "t-usps", "source": "s-mnist"}}
    save(tmp_path, record | {"config": {"shots": None, "recipe": {}}})
    save(tmp_path, record | {"label": "Fine-tuning", "digest": digest("all", "too")})
    assert effects(load(tmp_path)) == whole


def test_rows_that_answer_alike_are_seen(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 1.0, pairs=[("mnist", "usps")])
    by = {(run.label, run.record["config"]["shots"], run.seed): run.correct for run in runs}
    for each in effects(runs):
        own = [by["L2TL", each.shots, seed] == by[each.other, each.shots, seed] for seed in range(5)]
        assert each.alike == pytest.approx(sum(map(sum, own)) / sum(map(len, own)))
        assert 0.5 < each.alike < 1


def test_the_page_of_the_docs_is_that_of_the_packed_records(capsys):
    assert evidence.main([]) == 0
    page = Path(__file__).parents[2] / "docs" / "results" / "evidence.md"
    assert page.read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_gain_is_the_difference_of_two(tmp_path):
    runs = write(tmp_path, lambda kind, shots, other: 20 / shots, pairs=[("mnist", "usps")])
    few, more = (e.difference for e in effects(runs) if e.other == "Fine-tuning")
    ((pair, gain),) = gains(effects(runs))
    assert pair == "mnist to usps"
    assert gain.points == pytest.approx(few.points - more.points)
    half = [d.high - d.points for d in (few, more, gain)]
    assert half[2] ** 2 == pytest.approx(half[0] ** 2 + half[1] ** 2, rel=1e-6)


def test_the_papers_own_are_those_of_its_tables():
    own = {each.what: [round(p, 1) for p in each.points] for each in papers_own()}
    assert own == {
        "the paper, five near sets": [1.0, 1.3, 0.6, 0.9, 0.8],
        "the paper, textures, 10 labels": [5.1],
        "the paper, textures": [1.7],
        "the paper, X-rays, AUROC": [0.7],
    }


def test_packed_records_give_the_same_and_hide_the_machine(tmp_path, capsys):
    runs = write(tmp_path / "results", lambda kind, shots, other: 1.0, pairs=[("mnist", "usps")])
    file = tmp_path / "evidence.parquet"
    assert pack([tmp_path / "results"], file) == len(runs) == 40
    again = unpack(file)
    assert effects(again) == effects(runs)
    assert evidence.report(again) == evidence.report(runs)
    text = json.dumps([run.record for run in again])
    assert "desk" not in text
    losses = [run.record["curve"][-1]["train"]["loss"] for run in runs]
    assert sorted(run.record["curve"][-1]["train"]["loss"] for run in again) == sorted(losses)
    assert evidence.main([str(file), str(tmp_path / "claims.png")]) == 0
    assert re.search(r"\| mnist to usps +\| +near \|", capsys.readouterr().out)
    assert (tmp_path / "claims.png").stat().st_size > 10_000


def test_runs_are_added_to_those_of_an_earlier_file_and_replace_their_like(tmp_path, capsys):
    file = tmp_path / "evidence.parquet"
    first = write(
        tmp_path / "first", lambda kind, shots, other: 1.0, pairs=[("mnist", "usps"), ("usps", "mnist")]
    )
    later = write(
        tmp_path / "later", lambda kind, shots, other: 3.0, pairs=[("mnist", "usps"), ("glyphs", "digits")]
    )
    assert main([str(tmp_path / "first"), str(file)]) == 0
    assert main([str(file), str(tmp_path / "later"), str(file)]) == 0
    assert "120 records" in capsys.readouterr().out
    kept = [run for run in first if run.source == "usps"]
    assert effects(unpack(file)) == effects([*kept, *later])
    points = [each.difference.points for each in effects(unpack(file)) if each.pair == "mnist to usps"]
    assert len(points) == 6
    assert min(points) > 2.5


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_a_file_that_is_none_is_named(tmp_path, content, capsys):
    file = tmp_path / "evidence.parquet"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"evidence.parquet: cannot be read as packed records"):
        unpack(file)
    assert evidence.main([str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_without_records_is_named(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "evidence.parquet")]) == 2
    assert "no results in" in capsys.readouterr().err


def test_of_several_comparisons_the_largest_counts_and_none_without_fine_tuning(tmp_path):
    pair = [("mnist", "usps")]
    write(tmp_path, lambda kind, shots, other: 3.0, pairs=pair)
    whole = effects(load(tmp_path))
    record = make_record("L2TL", "usps", 0, share=0.5, source="mnist", comparison_id="other")
    record |= {"config": {"shots": 5, "recipe": {}}, "digest": digest("one")}
    save(tmp_path, record | {"fingerprints": {"target": "t-usps", "source": "s-mnist"}})
    assert effects(load(tmp_path)) == whole


def test_a_picture_that_cannot_be_written_is_named(tmp_path, capsys):
    write(tmp_path / "results", lambda kind, shots, other: 1.0, pairs=[("mnist", "usps")])
    pack([tmp_path / "results"], tmp_path / "evidence.parquet")
    for picture in ("nowhere/claims.png", "claims.xyz"):
        assert evidence.main([str(tmp_path / "evidence.parquet"), str(tmp_path / picture)]) == 2
        assert f"{picture}: not written" in capsys.readouterr().err
