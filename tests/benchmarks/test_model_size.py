"""What a model takes: counted by hand for rows that train all, a head, or nothing."""

import logging
import sys
from importlib import import_module

import pytest
import torch
from transferbench.benchmarks.training.flops import counter_class
from transferbench.benchmarks.training.model_size import model_size
from transferbench.methods import catalog
from transferbench.methods.networks.network import evaluation_mode

FLOAT = 4  # bytes


def trained(built, config):
    method = catalog.load(config.method)(built.problem, config.settings)
    method.prepare()
    method.step(0)
    return method


def size_of(config, built_of):
    built = built_of(config)
    method = trained(built, config)
    return method, model_size(method, built.problem)


def test_fine_tuning_trains_all_and_stores_its_statistics(config_of, built_of):
    method, size = size_of(config_of("finetune"), built_of)
    net = method.net
    count = sum(p.numel() for part in (net.encoder, net.target_head) for p in part.parameters())
    statistics = [b for norm in net.norms for b in (norm.running_mean, norm.running_var)]
    counters = 8 * len(net.norms)
    assert size["trained_parameters"] == count
    assert size["target_bytes"] == FLOAT * (count + sum(b.numel() for b in statistics)) + counters


def test_frozen_statistics_are_not_stored_again(config_of, built_of):
    _, size = size_of(config_of("finetune", "bn=frozen"), built_of)
    assert size["target_bytes"] == FLOAT * size["trained_parameters"]


def test_a_probe_takes_its_head(config_of, built_of):
    method, size = size_of(config_of("linear_probe"), built_of)
    count = method.head.weight.numel() + method.head.bias.numel()
    assert size["trained_parameters"] == count
    assert size["target_bytes"] == FLOAT * count


def test_lora_takes_its_changes_and_the_head_though_it_predicts_by_merged_weights(config_of, built_of):
    method, size = size_of(config_of("lora", "method.rank=2", "bn=frozen"), built_of)
    changed = [m for m in method.net.encoder.modules() if hasattr(m, "A")]
    count = sum(m.A.weight.numel() + m.B.weight.numel() for m in changed)
    assert count > 0
    assert size["trained_parameters"] == count + sum(p.numel() for p in method.net.target_head.parameters())
    assert size["target_bytes"] == FLOAT * size["trained_parameters"]


def test_class_means_train_nothing_and_take_their_means(config_of, built_of):
    method, size = size_of(config_of("ncm"), built_of)
    assert size["trained_parameters"] == 0
    assert size["target_bytes"] == FLOAT * sum(b.numel() for b in method.head.buffers())


def test_work_of_a_prediction_is_that_of_its_layers(config_of, built_of):
    """By the shapes of all maps: 2 k^2 c_in c_out h w for a convolution, 2 F C for a linear layer."""
    config = config_of("finetune")
    method, size = size_of(config, built_of)
    counted = []

    def count(module, inputs, output):
        if isinstance(module, torch.nn.Conv2d):
            counted.append(2 * module.weight.numel() * output.shape[-1] * output.shape[-2])
        elif isinstance(module, torch.nn.Linear):
            counted.append(2 * module.weight.numel())

    for module in method.net.modules():
        module.register_forward_hook(count)
    x, _ = next(iter(built_of(config).problem.target.batches(1)))
    with evaluation_mode(method.net), torch.no_grad():
        method.predict(x)
    assert size["prediction_flops"] == pytest.approx(sum(counted))


def test_a_missing_triton_is_not_told_of(monkeypatch):
    """Torch warns when the module of its counter is imported, and only then."""
    name = "torch.utils.flop_counter"
    monkeypatch.setitem(sys.modules, "triton.runtime.jit", None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    logger, told = logging.getLogger(name), []
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "callHandlers", lambda record: told.append(record.getMessage()))
    monkeypatch.setattr(torch.utils, "flop_counter", import_module(name))
    for counter in (lambda: import_module(name), counter_class):
        monkeypatch.delitem(sys.modules, name)
        counter()
    assert len(told) == 1
    assert told[0].startswith("triton not found")
    logger.warning("something else")
    assert told[1:] == ["something else"]
