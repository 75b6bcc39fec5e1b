"""Neighbors by low-level looks against a plain search, rounds by hand, and near and foreign images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transferbench.datasets.pixels import MemoryPixels
from transferbench.methods.selective_joint import SelectiveJoint, described, nearest


@pytest.fixture(scope="module")
def problem(config_of, built_of):
    """The embedded pair, with one image in ten of the source, and random weights."""
    built = built_of(config_of("finetune", "backbone=small", "shots=5", "recipe.steps=6")).problem
    return replace(built, source=built.source.subset(torch.arange(0, 4700, 10)))


def looks(net, split):
    net.eval()
    with torch.no_grad():
        ((x, _),) = split.batches(len(split))
        maps = [m.double().numpy() for m in net.stages(x)[:2]]
    return np.concatenate([f(m, axis=(2, 3)) for m in maps for f in (np.mean, np.std)], axis=1)


def test_neighbors_are_those_of_a_plain_search(problem):
    net = problem.network()
    found = nearest(net, problem.target, problem.source, 7, batch_size=16)
    assert net.training  # put back
    target, source = looks(net, problem.target), looks(net, problem.source)
    mean, deviation = target.mean(0), target.std(0).clip(1e-6)
    target, source = (target - mean) / deviation, (source - mean) / deviation
    cosine = target @ source.T / np.outer(np.linalg.norm(target, axis=1), np.linalg.norm(source, axis=1))
    best = -np.sort(-cosine, axis=1)[:, :7]
    assert np.allclose(np.take_along_axis(cosine, found.numpy(), axis=1), best, atol=1e-5)
    assert all(len(set(row)) == 7 for row in found.tolist())


def test_a_flat_image_is_described_by_its_means_alone(problem):
    net = problem.network().eval()
    x = torch.randn(3, 3, 16, 16)
    assert described(net, x).shape == (3, 2 * (16 + 32))
    wide, deep = net.stages(x)[:2]
    assert torch.allclose(described(net, x)[:, :16], wide.mean((2, 3)))
    assert torch.allclose(described(net, x)[:, -32:], deep.flatten(2).std(2, correction=0))


def test_images_that_stay_hard_take_more_neighbors(problem):
    method = SelectiveJoint(problem, SelectiveJoint.Config(num_neighbors=2, num_rounds=3))
    method.prepare()
    neighbors = method.neighbors_TK
    assert neighbors.shape == (50, 6)
    assert torch.equal(method.source.rows, neighbors[:, :2].unique())
    hard = torch.arange(50) < 7
    method.misclassified = lambda: hard
    for t in (0, 1):
        method.step(t)
    assert torch.equal(method.source.rows, neighbors[:, :2].unique())
    method.step(2)  # a third of the six steps
    expected = torch.cat((neighbors[:7, :4].ravel(), neighbors[7:, :2].ravel())).unique()
    assert torch.equal(method.source.rows, expected)
    method.step(3)
    assert torch.equal(method.source.rows, expected)
    method.step(4)
    assert torch.equal(method.source.rows, torch.cat((neighbors[:7].ravel(), expected)).unique())
    assert method.source.num_images == 5 * 16


def test_hard_images_are_those_that_the_network_gets_wrong(problem):
    method = SelectiveJoint(problem, SelectiveJoint.Config())
    net = method.net
    net.target_head.weight.data.zero_()
    net.target_head.bias.data[4] = 1.0
    assert torch.equal(method.misclassified(), problem.target.labels != 4)
    assert net.training


def test_weights_are_the_shares_of_the_classes(problem):
    method = SelectiveJoint(problem, SelectiveJoint.Config())
    method.source.choose(torch.tensor([0, 1, 5]))  # five images of each class are left
    assert method.class_weights()[:3].tolist() == pytest.approx([0.4, 0.2, 0.0])


def test_foreign_images_are_left_out(problem):
    """Half of the source's classes are in negative, and look less like the target."""
    source = problem.source
    pixels, is_foreign = source.pixels.pixels.clone(), torch.arange(94) % 2 == 0
    rows = source.index[is_foreign[source.labels]]
    pixels[rows] = 255 - pixels[rows]
    source = replace(source, pixels=MemoryPixels(pixels, source.pixels.aspect))
    method = SelectiveJoint(replace(problem, source=source), SelectiveJoint.Config())
    method.prepare()
    weight_S = method.class_weights()
    assert weight_S[is_foreign].mean() < 0.3 * weight_S[~is_foreign].mean()
