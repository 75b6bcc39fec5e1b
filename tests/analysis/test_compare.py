"""Two folders of results, run by run: what differs, what is the same, and what is in one of them alone."""

import pytest
import simulated_results
from simulated_results import make_record, save
from transferbench import InputError
from transferbench.analysis.compare import compare_results

LABELS = ("Fine-tuning", "L2TL")


def write(folder, labels=LABELS, seeds=3, share=None, target="digits", **changed):
    for label in labels:
        for seed in range(seeds):
            save(folder, make_record(label, target, seed, share=share, **changed))
    return folder


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_folder_does_not_differ_from_itself(tmp_path):
    results = write(tmp_path / "a")
    found = compare_results(results, results)
    assert not found.differs
    assert "6 pairs of the same source, target, setting, method and seed." in found.text
    assert "All 2 rows: correct on the same test images in every pair." in found.text
    assert "Only in" not in found.text
    assert [row[6:] for row in rows(found.text)] == [["3 of 3", "1.00 (1.00 to 1.00)"]] * 2


def test_a_change_of_scores_is_found_and_one_of_time_measured(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b", ["Fine-tuning"])
    for seed in range(3):
        record = make_record("L2TL", seed=seed, share=0.80)
        record["seconds"]["per_step_median"] *= 2
        save(b, record)
    found = compare_results(a, b)
    assert found.differs
    assert "L2TL on digits: B is below A by 7." in found.text
    assert "after Holm correction for 2 comparisons" in found.text
    assert "1 of 2 rows: correct on the same test images in every pair." in found.text
    assert rows(found.text)[1][7].startswith("2.0")
    assert compare_results(b, a).text.count("B is above A by 7.") == 1


def test_a_difference_that_is_not_found_says_what_could_have_been(tmp_path):
    a = write(tmp_path / "a", ["L2TL"])
    b = write(tmp_path / "b", ["L2TL"], share=0.8755)
    found = compare_results(a, b)
    assert not found.differs
    assert "The only row: inconclusive; 80 % power to detect " in found.text


def test_what_is_in_one_folder_alone_is_listed(tmp_path):
    a, b = write(tmp_path / "a", seeds=3), write(tmp_path / "b", ["Fine-tuning"], seeds=2)
    write(b, ["DATL"])
    text = compare_results(a, b).text
    assert "- Only in A: Fine-tuning on digits, seed 2." in text
    assert "- Only in A: L2TL on digits, seeds 0, 1, 2." in text
    assert "- Only in B: DATL on digits, seeds 0, 1, 2." in text


def test_where_benches_differ_the_words_of_the_setting_pair_and_it_is_said(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b", comparison_id="new")
    text = compare_results(a, b).text
    old = simulated_results.digest("bench", "digits")
    assert "6 pairs" in text
    assert f"paired by these words, for the benches differ ({old}, new)" in text


def test_words_that_several_benches_share_pair_nothing(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b", comparison_id="new")
    write(b, comparison_id="newer", digest="other")
    write(a, target="pets"), write(b, target="pets")
    text = compare_results(a, b).text
    assert "several comparisons have these settings, so none of them are paired" in text
    assert {row[0] for row in rows(text)} == {"pets"}


def test_versions_and_machines_that_differ_are_named(tmp_path):
    a = write(tmp_path / "a")
    environment = make_record()["environment"]
    versions = environment["versions"] | {"torch": "2.16.0"}
    b = write(
        tmp_path / "b", environment=environment | {"host": "node7", "dirty": True, "versions": versions}
    )
    text = compare_results(a, b).text
    assert "torch: 2.15.0 in A, 2.16.0 in B." in text
    assert "commit: c0ffee0123 in A, c0ffee0123 + changes in B." in text
    assert "on desk in A, cpu (x86_64) on node7 in B; compare the times with care." in text
    assert "python" not in text


def test_other_test_images_are_not_compared(tmp_path):
    a = write(tmp_path / "a")
    b = write(tmp_path / "b", fingerprints={"target": "others", "source": "s1", "splits": {}})
    found = compare_results(a, b)
    assert not found.differs
    assert "L2TL on digits: not compared (the test images are not the same)." in found.text
    assert [row[5] for row in rows(found.text)] == ["–", "–"]


def test_folders_with_nothing_in_common_are_refused(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b", target="pets")
    with pytest.raises(InputError, match="no run of .* has a partner in .*glyphs → digits.*glyphs → pets"):
        compare_results(a, b)
    with pytest.raises(InputError, match="no results in"):
        compare_results(a, tmp_path / "nowhere")
