"""A note names the rows whose GPU waits for images."""

import pytest
from simulated_results import make_record, save
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.load import load
from transferbench.analysis.tables.comparison_table import markdown

GPU, CPU = "NVIDIA H100", "cpu (x86_64)"


def written(folder, device: str, shares: dict[str, float]):
    for label, share in shares.items():
        for seed in range(3):
            record = make_record(label, seed=seed)
            seconds = record["seconds"] | {"parts": {"data": share * record["seconds"]["step"]}}
            environment = record["environment"] | {"device": device}
            save(folder, record | {"seconds": seconds, "environment": environment})
    (found,) = comparisons(load(folder))
    return markdown(found)


def test_rows_that_wait_are_named_with_their_share(tmp_path):
    text = written(tmp_path, GPU, {"Fine-tuning": 0.31, "L2TL": 0.64, "L2-SP": 0.05})
    (line,) = [line for line in text.splitlines() if line.startswith("- data-bound")]
    assert "31 % of a step of Fine-tuning and 64 % of a step of L2TL." in line
    assert "L2-SP" not in line


@pytest.mark.parametrize(("device", "share"), [(CPU, 0.9), (GPU, 0.09)])
def test_a_cpu_and_a_small_share_have_no_note(tmp_path, device, share):
    assert "data-bound" not in written(tmp_path, device, {"Fine-tuning": share, "L2TL": share})
