"""The experiment of the Leap paper at small scale: which initialization learns new tasks fastest?

`python -m transferbench.benchmarks.studies.leap_protocol --source PATH` makes tasks of 20 classes from a
source. It meta-learns a start (an initialization) on 1, 5 and 25 of them, and then trains from it for 100
steps on tasks of held-out classes. Each line of the results is one start; the same command resumes.

Source: the Omniglot experiment of Flennerhag et al. (arXiv 1812.01054): four blocks of convolution, pooling,
norm and ReLU; batches of 20; paths of 100 steps of plain SGD at 0.1. Smaller here: images, widths, and above
all the number of paths. All starts see equally many images. The learning rate of the start and that of new
tasks are chosen with another seed and other classes, from nine pairs for each kind of start. Half of the
classes are for the starts, a fifth for the choice of the rates, and the rest for the result.
"""

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from ...analysis.statistics.paired import mean_interval
from ...datasets import catalog
from ...datasets.augment import Augment
from ...datasets.base import Dataset, Split, derive_seed
from ...datasets.storage import cache
from ...methods.base import train_step, update
from ...methods.components.tasks import cut, rows_by_class
from ...methods.components.trajectory import Metric, PathGradient, walk
from ...methods.components.weight_vectors import flat, put
from ...methods.metrics import classification_loss
from ...methods.networks.network import Network
from ...terminal import configure_output

CLASSES, BATCH, HORIZON, RATE = 20, 20, 100, 0.1
META_BATCH = 2  # tasks per update of the start
HELD_OUT = 5  # one image in five is for the test of its task
RATES = (0.03, 0.1, 0.3)
START_RATES = {"none": (0.0,), "joint": RATES, "leap": RATES, "reptile": (0.1, 0.3, 1.0)}
TUNING_SEED = 10_000


@dataclass(frozen=True)
class Task:
    """Training and test images of some classes."""

    train: Split
    test: Split


@dataclass(frozen=True)
class Scale:
    """The size of the experiment."""

    steps: int  # training steps of a start
    width: int
    image_size: int


def main() -> None:
    """Choose the rates, train the starts, learn new tasks; print each result, and a table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--results", type=Path, default=Path("leap_protocol.jsonl"))
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 5, 25])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=16)
    configure_output()
    given = parser.parse_args()
    torch.set_num_threads(1)
    scale = Scale(given.steps, given.width, given.image_size)
    split = images_of(catalog.load(given.source, as_source=True), scale.image_size)
    find = partial(found, given.results, split, scale)
    rows: dict[tuple[str, int], list[list[float]]] = {}
    for kind, start_rates in START_RATES.items():
        tried = [find(kind, max(given.tasks), TUNING_SEED, rate) for rate in start_rates]
        own = {(start, rate): tried[i][rate] for i, start in enumerate(start_rates) for rate in tried[i]}
        start_rate, rate = max(own, key=lambda pair: own[pair][0])
        for num_tasks in given.tasks if kind != "none" else [0]:
            seeds = range(given.seeds)
            rows[kind, num_tasks] = [find(kind, num_tasks, seed, start_rate)[rate] for seed in seeds]
    print(table(rows))


def found(
    results: Path, split: Split, scale: Scale, kind: str, num_tasks: int, seed: int, start_rate: float
) -> dict[str, list[float]]:
    """Return accuracy and mean training error on new tasks by learning rate, from the file or by training."""
    key = {"source": split.name, **vars(scale), "kind": kind, "tasks": num_tasks, "seed": seed}
    key |= {"start_rate": start_rate}
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    for row in map(json.loads, lines):
        if row.items() >= key.items():
            return row["scores"]
    begin = time.process_time()
    start_P, net = start(split, scale, kind, num_tasks, seed, start_rate)
    trained = time.process_time()
    tasks = new_tasks(split, seed)
    scores = {f"{r:g}": mean([learn(net, start_P, task, r, seed) for task in tasks]) for r in RATES}
    seconds = {"start_seconds": trained - begin, "seconds": time.process_time() - trained}
    with results.open("a", encoding="utf-8") as f:
        f.write(json.dumps({**key, "scores": scores, **seconds}) + "\n")
    text = ", ".join(f"{rate}: {100 * hit:.1f} % ({100 * err:.1f} %)" for rate, (hit, err) in scores.items())
    print(f"{kind}, {num_tasks} tasks, seed {seed}, start rate {start_rate:g}; task rate {text}", flush=True)
    return scores


def mean(pairs: list[tuple[float, float]]) -> list[float]:
    """Return mean accuracy and mean error over tasks."""
    return torch.tensor(pairs, dtype=torch.double).mean(0).tolist()


def images_of(dataset: Dataset, image_size: int) -> Split:
    """Return the training images of a source."""
    part = dataset.part("train")
    augment = Augment(image_size, crop_scale=0.6, hflip=dataset.hflip, crop_pct=1.0, mean_std="half")
    labels = torch.from_numpy(part.labels)
    pixels = cache.pixels(dataset, "train", image_size)
    return Split(dataset.name, dataset.classes, pixels, labels, torch.arange(len(labels)), augment)


def classes_for(split: Split, use: str) -> Tensor:
    """Return the classes for `start`, `choice` or `test`, equal for every seed."""
    order = shuffled(split.num_classes, "classes")
    ends = [round(share * len(order)) for share in (0.5, 0.7)]
    return dict(zip(("start", "choice", "test"), order.tensor_split(ends), strict=True))[use]


def shuffled(size: int, *seeds: object) -> Tensor:
    """Return a random permutation [size]."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(derive_seed(*seeds)))


def tasks_of(split: Split, classes: Tensor, num_tasks: int, seed: int) -> list[Task]:
    """Divide classes into tasks; shuffle again when too few are left."""
    by_class, per_shuffle = rows_by_class(split.labels), len(classes) // CLASSES
    tasks = []
    for i in range(num_tasks):
        order = classes[shuffled(len(classes), seed, "deal", i // per_shuffle)]
        dealt = order[i % per_shuffle * CLASSES :][:CLASSES].tolist()
        rows = [by_class[c][shuffled(len(by_class[c]), "held out", c)] for c in dealt]
        train, test = [r[len(r) // HELD_OUT :] for r in rows], [r[: len(r) // HELD_OUT] for r in rows]
        tasks.append(Task(cut(split, train), cut(split, test)))
    return tasks


def new_tasks(split: Split, seed: int) -> list[Task]:
    """Return tasks of classes that no start has seen, each class once."""
    classes = classes_for(split, "choice" if seed == TUNING_SEED else "test")
    return tasks_of(split, classes, len(classes) // CLASSES, seed)


class FourBlocks(nn.Sequential):
    """Four blocks of convolution, pooling, norm and ReLU; the side shrinks to a sixteenth."""

    def __init__(self, scale: Scale) -> None:
        layers: list[nn.Module] = []
        for wide in (3, *[scale.width] * 3):
            layers += [nn.Conv2d(wide, scale.width, 3, padding=1), nn.MaxPool2d(2)]
            layers += [nn.BatchNorm2d(scale.width), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Flatten())
        self.num_features = scale.width * (scale.image_size // 16) ** 2


def start(
    split: Split, scale: Scale, kind: str, num_tasks: int, seed: int, rate: float
) -> tuple[Tensor, Network]:
    """Train a start on tasks; return its weights [P] and the network for them."""
    torch.manual_seed(derive_seed(seed, "network"))
    net = Network(FourBlocks(scale), 0, CLASSES).to(memory_format=torch.channels_last)
    tasks = [task.train for task in tasks_of(split, classes_for(split, "start"), num_tasks, seed)]
    if kind == "joint":
        return joint_start(net, tasks, scale.steps, seed, rate), net
    if kind == "none":
        return flat(list(net.parameters())), net
    return path_start(net, tasks, scale.steps, seed, rate, kind == "leap"), net


def path_start(net: Network, tasks: list[Split], steps: int, seed: int, rate: float, is_leap: bool) -> Tensor:
    """Meta-learn a start with its head [P], by Leap or by Reptile."""
    weights = list(net.parameters())
    new = [(b, b.clone()) for b in net.buffers()]
    start_P = flat(weights)
    optimizer = torch.optim.SGD(weights, RATE)
    for first in range(0, steps // HORIZON, META_BATCH):
        metric = Metric.length if is_leap else Metric.energy
        path = PathGradient(weights, metric, stabilized=is_leap, with_loss=is_leap)
        for i in range(first, first + META_BATCH):
            put(weights, start_P)
            for buffer, value in new:
                buffer.copy_(value)
            stream = tasks[i % len(tasks)].stream(BATCH, derive_seed(seed, "path", i))
            walk(net.target, islice(stream, HORIZON), optimizer, RATE, path)
        start_P -= rate * path.total_P / META_BATCH
    for buffer, value in new:
        buffer.copy_(value)
    return start_P


def joint_start(net: Network, tasks: list[Split], steps: int, seed: int, rate: float) -> Tensor:
    """Train one encoder with one head per task, in turn; return it with a new head [P]."""
    new_head = flat(list(net.target_head.parameters()))
    heads = nn.ModuleList(nn.Linear(net.encoder.num_features, CLASSES) for _ in tasks)
    optimizer = torch.optim.SGD([*net.encoder.parameters(), *heads.parameters()], rate)
    streams = [task.stream(BATCH, derive_seed(seed, "joint", i)) for i, task in enumerate(tasks)]
    for t in range(steps):
        turn = t % len(tasks)
        train_step(nn.Sequential(net.encoder, heads[turn]), streams[turn], optimizer, rate)
    return torch.cat([flat(list(net.encoder.parameters())), new_head])


def learn(net: Network, start_P: Tensor, task: Task, rate: float, seed: int) -> tuple[float, float]:
    """Train on a new task; return the accuracy on its test images and the mean error during training."""
    weights, kept = list(net.parameters()), [b.clone() for b in net.buffers()]
    put(weights, start_P)
    optimizer = torch.optim.SGD(weights, rate)
    wrong = []
    for x, y in islice(task.train.stream(BATCH, derive_seed(seed, "learn")), HORIZON):
        logits_BC = net.target(x)
        classification_loss(logits_BC, y).backward()
        update(optimizer, rate)
        wrong.append((logits_BC.argmax(1) != y).double().mean())
    net.eval()
    with torch.no_grad():
        right = [(net.target(x).argmax(1) == y).double() for x, y in task.test.batches(500)]
    net.train()
    for buffer, value in zip(net.buffers(), kept, strict=True):
        buffer.copy_(value)
    return torch.cat(right).mean().item(), torch.stack(wrong).mean().item()


def table(rows: dict[tuple[str, int], list[list[float]]]) -> str:
    """Return a table of means and 95 % intervals over seeds; differences are paired by seed (same tasks)."""
    lines = ["| start | tasks | accuracy, % | from joint, points | training error, % | from joint, points |"]
    lines += ["|---|---|---|---|---|---|"]
    for (kind, num_tasks), own in rows.items():
        joint = rows.get(("joint", num_tasks), [])
        words = []
        for i in (0, 1):
            words.append(interval([row[i] for row in own]))
            pairs = zip(own, joint, strict=True) if joint else []
            words.append("–" if kind == "joint" or not joint else interval([a[i] - b[i] for a, b in pairs]))
        lines.append(f"| {kind} | {num_tasks or '–'} | {' | '.join(words)} |")
    return "\n".join(lines)


def interval(values: list[float]) -> str:
    """Return a mean and its interval, in percent."""
    middle, low, high = mean_interval([100 * value for value in values])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
