"""What changes no result does not fit a bench anew."""

from types import SimpleNamespace

import pytest
from transferbench.benchmarks.launch.limit import plan_path


@pytest.mark.parametrize("more", ["log=tensorboard", "checkpoint_minutes=1", "keep=all"])
def test_the_plan_of_a_bench_is_found_again(more):
    request, configs = SimpleNamespace(minutes=5.0, results="results"), [SimpleNamespace(comparison_id="a")]
    assert plan_path(["target=x", more], request, configs) == plan_path(["target=x"], request, configs)
