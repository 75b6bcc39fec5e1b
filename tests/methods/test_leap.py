"""Leap's gradient along a path by hand and by differences, its tasks, and whether its start learns faster."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import toy_problem, toy_split
from transferbench import InputError
from transferbench.datasets.base import Split, derive_seed
from transferbench.methods.base import Problem, update
from transferbench.methods.components.tasks import Tasks, cut, rows_by_class
from transferbench.methods.components.trajectory import Metric, PathGradient, walk
from transferbench.methods.components.weight_vectors import flat, put
from transferbench.methods.leap import Leap
from transferbench.methods.metrics import classification_loss
from transferbench.methods.networks.network import Network
from transferbench.methods.pretrain import Pretrain

RATE, STEPS, BATCH, FEATURES, CLASSES = 0.7, 6, 5, 4, 3
IMAGES = 20_000  # for each start
KINDS = [(m, s, w) for m in Metric for s in (True, False) for w in (True, False)]
every_kind = pytest.mark.parametrize(("metric", "stabilized", "with_loss"), KINDS)


def batches_of(seed: int, size: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(size, BATCH, FEATURES, generator=generator, dtype=torch.double)
    return list(zip(x, torch.randint(CLASSES, (size, BATCH), generator=generator), strict=True))


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES).double()


def walked(net: nn.Module, path: PathGradient, tasks: list[list[tuple[Tensor, Tensor]]]) -> None:
    start_P = flat(path.weights)
    for batches in tasks:
        put(path.weights, start_P)
        walk(net, iter(batches), torch.optim.SGD(path.weights, RATE), RATE, path)


def stored_path(net: nn.Linear, batches: list[tuple[Tensor, Tensor]]) -> list[tuple[np.ndarray, ...]]:
    """Descend with numpy alone; gives each point's weights [C,F+1], loss, and slope [C,F+1]."""
    w = np.concatenate([net.weight.detach().numpy(), net.bias.detach().numpy()[:, None]], axis=1)
    points = []
    for x, y in batches:
        x1 = np.concatenate([x.numpy(), np.ones((BATCH, 1))], axis=1)
        raised = np.exp(x1 @ w.T)
        p = raised / raised.sum(1, keepdims=True)
        loss = -np.log(p[np.arange(BATCH), y.numpy()]).mean()
        slope = (p - np.eye(CLASSES)[y.numpy()]).T @ x1 / BATCH
        points.append((w, loss, slope))
        w = w - RATE * slope
    return points


@every_kind
def test_the_gathered_gradient_is_the_formula_over_stored_paths(metric, stabilized, with_loss):
    net, tasks = linear(), [batches_of(1), batches_of(2)]
    expected = np.zeros((CLASSES, FEATURES + 1))
    rises = []
    for points in [stored_path(net, batches) for batches in tasks]:
        for i in range(STEPS - 1):  # K - 1 segments: the last step leads to no point
            (w, loss, slope), (next_w, next_loss, _) = points[i], points[i + 1]
            rise = next_loss - loss if with_loss else 0.0
            rises.append(rise)
            if stabilized:
                rise = -abs(rise)
            norm = np.sqrt(rise**2 + ((next_w - w) ** 2).sum()) if metric is Metric.length else 1
            expected += (-(next_w - w) - rise * slope) / norm
    assert not with_loss or min(rises) < 0 < max(rises)  # the stabiliser has something to do
    path = PathGradient(list(net.parameters()), metric, stabilized, with_loss)
    walked(net, path, tasks)
    got = path.total_P.numpy()
    assert got[: CLASSES * FEATURES] == pytest.approx(expected[:, :-1].ravel(), abs=1e-12)
    assert got[CLASSES * FEATURES :] == pytest.approx(expected[:, -1], abs=1e-12)


@pytest.mark.parametrize("metric", Metric)
def test_a_segment_pulls_by_the_slope_of_its_length_with_the_far_end_fixed(metric):
    """By differences, on one and the same batch: the loss is then a function of the weights."""
    net, (batch,) = linear(), batches_of(3, 1)
    weights = list(net.parameters())
    start_P = flat(weights)

    def point(at_P: Tensor) -> Tensor:
        put(weights, at_P)
        loss = classification_loss(net(batch[0]), batch[1]).detach()
        return torch.cat([at_P, loss[None]])

    path = PathGradient(weights, metric, stabilized=False)
    walk(net, iter([batch, batch]), torch.optim.SGD(weights, RATE), 0.0, PathGradient(weights))  # no change
    assert torch.equal(flat(weights), start_P)
    walk(net, iter([batch] * 2), torch.optim.SGD(weights, RATE), RATE, path)
    put(weights, start_P)
    loss = classification_loss(net(batch[0]), batch[1])
    far = point(start_P - RATE * torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
    size = (lambda way: way.norm()) if metric is Metric.length else (lambda way: way.square().sum() / 2)
    step = 1e-6 * torch.eye(len(start_P), dtype=torch.double)
    differences = [(size(far - point(start_P + e)) - size(far - point(start_P - e))) / 2e-6 for e in step]
    assert path.total_P.tolist() == pytest.approx(torch.stack(differences).tolist(), abs=1e-7)


def test_without_loss_by_energy_it_is_reptile():
    net, tasks = linear(), [batches_of(1), batches_of(2), batches_of(3)]
    ends = [stored_path(net, batches)[STEPS - 1][0] for batches in tasks]  # after K - 1 steps
    start = stored_path(net, tasks[0])[0][0]
    expected = sum(start - end for end in ends)
    path = PathGradient(list(net.parameters()), Metric.energy, stabilized=False, with_loss=False)
    walked(net, path, tasks)
    assert path.total_P[:12].numpy() == pytest.approx(expected[:, :-1].ravel(), abs=1e-12)


def test_a_path_of_one_step_has_no_segment_and_paths_are_not_joined():
    net = linear()
    path = PathGradient(list(net.parameters()))
    walked(net, path, [batches_of(seed, 1) for seed in range(3)])
    assert not path.total_P.any()


def test_a_weight_that_a_task_does_not_use_stays():
    used, unused = linear(), nn.Parameter(torch.ones(2, dtype=torch.double))
    path = PathGradient([unused, *used.parameters()])
    walked(used, path, [batches_of(1)])
    assert path.total_P[:2].tolist() == [0, 0]
    assert path.total_P[2:].abs().min() > 0


def leap(problem: Problem | None = None, **settings: object) -> Leap:
    given = {"task_batch": 4, "task_steps": 3, "meta_batch": 2, "num_images": 60, "meta_lr": 0.05}
    return Leap(problem or toy_problem(), Leap.Config(**{**given, **settings}))


def test_every_task_starts_at_the_start_and_the_start_moves_by_their_mean(monkeypatch):
    method = leap()
    starts: list[Tensor] = []
    restart = method.restart

    def seen() -> None:
        restart()
        state = [*method.net.encoder.state_dict().values(), *method.task_head.parameters()]
        starts.append(torch.cat([v.detach().flatten().double() for v in state]))

    monkeypatch.setattr(method, "restart", seen)
    before, seed_of = method.start_P.clone(), method.source.seed
    method.meta_step()
    assert torch.equal(starts[0], starts[1])  # running statistics too
    single = []
    for k in (0, 1):
        twin = leap(meta_batch=1, meta_lr=1.0)
        twin.source.drawn = k
        twin.meta_step()
        assert twin.source.seed == seed_of
        single.append(twin.start_P - before)
    assert not torch.allclose(single[0], single[1])
    assert torch.allclose(method.start_P - before, 0.05 * (single[0] + single[1]) / 2, atol=1e-5)


def test_as_reptile_the_start_goes_where_the_path_went():
    method = leap(meta_batch=1, meta_lr=1.0, metric=Metric.energy, stabilized=False, with_loss=False)
    twin = leap(meta_batch=1, task_steps=2)
    method.meta_step()
    twin.meta_step()
    assert torch.allclose(method.start_P, flat(twin.weights), atol=1e-6)  # after 2 of the 3 steps


def test_preparing_changes_the_encoder_alone():
    problem = toy_problem()
    new, method = problem.network(), leap(problem)
    method.prepare()
    state = method.net.state_dict()
    same = {k for k, v in new.state_dict().items() if torch.equal(v, state[k])}
    trained = {f"encoder.{name}" for name, _ in new.encoder.named_parameters()}
    assert same == set(state) - trained
    assert torch.equal(flat(method.weights), method.start_P)


@pytest.mark.parametrize(("num_images", "num_tasks"), [(60, 5), (1, 1), (0, 10)])
def test_it_walks_as_many_tasks_as_its_images_allow(num_images, num_tasks):
    method = leap(num_images=num_images)  # of 3 batches of 4 images; the shared pre-training sees 120
    method.prepare()
    assert method.source.drawn == num_tasks
    assert method.source.num_images == 12 * num_tasks


def test_a_preparation_that_was_cut_off_goes_on_to_the_same_start():
    whole, first, rest = leap(), leap(), leap()
    whole.prepare()
    first.meta_step()
    rest.load_state_dict(first.state_dict())
    rest.prepare()
    assert rest.source.drawn == whole.source.drawn
    assert torch.equal(rest.start_P, whole.start_P)
    assert all(map(torch.equal, whole.net.state_dict().values(), rest.net.state_dict().values()))


def test_rates_at_which_the_weights_blow_up_are_refused():
    with pytest.raises(InputError, match=r"method.inner_lr=1e\+30, .* are not finite after 2 tasks"):
        leap(inner_lr=1e30).prepare()


def test_what_it_cannot_run_on():
    problem = toy_problem()
    assert Leap.why_incompatible(problem) == ""
    assert "no source" in Leap.why_incompatible(replace(problem, source=None))
    labels = toy_split([[0.0, 1.0]], 2)
    assert "source images have several labels" in Leap.why_incompatible(replace(problem, source=labels))
    three = toy_split([0, 1, 3] * 2, 4)  # one of four classes has no image
    assert "needs 4 source classes for tasks that differ, and there are 3" in Leap.why_incompatible(
        replace(problem, source=three)
    )


def test_a_task_holds_the_images_of_its_classes_with_labels_of_its_own():
    split = toy_split([2, 0, 1, 2, 0, 5, 2], 6)
    rows = rows_by_class(split.labels)
    assert [r.tolist() for r in rows] == [[1, 4], [2], [0, 3, 6], [], [], [5]]
    task = cut(split, [rows[2], rows[5], rows[0]])
    assert task.classes == ("c2", "c5", "c0")
    assert task.index.tolist() == [0, 3, 6, 5, 1, 4]
    assert task.labels.tolist() == [0, 0, 0, 1, 2, 2]


def test_tasks_differ_and_depend_on_seed_and_number_alone():
    split = toy_split([c for c in range(9) if c != 3] * 5, 9)

    def images(tasks: Tasks) -> list[float]:
        return [x.double().sum().item() + y.sum().item() for x, y in tasks.draw(2)]

    tasks, again, other = (Tasks(split, 20, 6, seed) for seed in (0, 0, 1))
    assert tasks.num_classes == 4  # half of those with images
    drawn = [images(tasks) for _ in range(4)]
    assert len({tuple(d) for d in drawn}) == 4
    assert images(other) not in drawn
    again.load_state_dict({"drawn": 2, "num_images": 24})
    assert [images(again) for _ in range(2)] == drawn[2:]
    assert again.state_dict() == tasks.state_dict() == {"drawn": 4, "num_images": 48}


class Perceptron(nn.Module):
    """Two hidden layers: trained in a moment."""

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        hidden = nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        self.layers = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), *hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def learned(net: Network, task: Split, rate: float) -> float:
    """Train on a task with a new head; gives the mean training error over 50 steps."""
    weights = list(net.parameters())
    kept, wrong = flat(weights), []
    optimizer = torch.optim.SGD(weights, rate)
    for x, y in islice(task.stream(20, 0), 50):
        logits = net.target(x)
        classification_loss(logits, y).backward()
        update(optimizer, rate)
        wrong.append((logits.argmax(1) != y).float().mean().item())
    put(weights, kept)
    return float(np.mean(wrong))


def test_its_start_learns_new_glyphs_in_fewer_steps_than_a_random_one(config_of, built_of, capsys):
    """From 54 of the classes, tasks of ten others are learned; the better of two rates counts for each start.

    Pre-training on all 54 classes at once, on as many images, is better still.
    """
    built = built_of(config_of("leap")).problem
    rows = rows_by_class(built.source.labels)
    order = torch.randperm(94, generator=torch.Generator().manual_seed(derive_seed(0, "half"))).tolist()
    source = cut(built.source, [rows[c] for c in order[:54]])
    tasks = [cut(built.source, [rows[c] for c in order[i : i + 10]]) for i in (54, 64, 74)]

    def network(pretrained: bool = True) -> Network:
        torch.manual_seed(0)
        return Network(Perceptron(), 54, 10, head_init_std=0.05)

    recipe = replace(built.recipe, batch_size=20, lr=0.1, momentum=0.0, steps=IMAGES // 20)
    problem = replace(built, source=source, target=tasks[0], network=network, recipe=recipe)
    method = Leap(problem, Leap.Config(task_classes=10, num_images=IMAGES))
    joint = Pretrain(problem, Pretrain.Config())
    method.prepare()
    for t in range(recipe.steps):
        joint.step(t)
    assert method.source.num_images == joint.source.num_images == IMAGES
    starts = {"random": network(), "Leap": method.net, "joint": joint.net}
    areas = {
        name: min(np.mean([learned(net, task, rate) for task in tasks]) for rate in (0.1, 0.3))
        for name, net in starts.items()
    }
    with capsys.disabled():
        words = ", ".join(f"{name} {100 * area:.1f} %" for name, area in areas.items())
        print(f"\nnew glyphs, mean training error over 50 steps by start: {words}")
    assert areas["Leap"] < areas["random"] - 0.1
