"""Leap: fine-tuning from a start that is meta-learned on tasks cut from the source, for short paths.

Source: Flennerhag, Moreno, Lawrence, Damianou: Transferring Knowledge across Learning Processes
(arXiv 1812.01054), the algorithm named Leap; constants of the Omniglot experiment in the released code
(`amzn/metalearn-leap`), but for those named below.

Departs from: (1) a task is a random choice of source classes, drawn anew each time, where the paper has a
fixed set of tasks; (2) images are counted, not meta-steps, so that the budget is one that others have; there
are fewer of them than in the paper, and so paths are half as long (`task_steps`, 100 there) and batches of
tasks are smaller (`meta_batch`, 20 there); (3) the target has a new head, and is trained as by every other
method. As in the code, the last of K steps adds no segment, running statistics are not meta-learned, and all
tasks share a head, whatever the order of their classes.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from .. import InputError
from ..datasets.base import derive_seed
from .base import Method, Metrics, Problem, check_ranges, classed_source, may_save, train_step
from .components.tasks import Tasks
from .components.trajectory import Metric, PathGradient, flat, put, walk

LEAST_CLASSES = 4  # of the source: two tasks of two classes


@dataclass
class Config:
    """How tasks are cut from the source, how each is trained, and how the start is moved."""

    task_classes: int = 20  # at most half of the source's
    task_batch: int = 20  # images
    task_steps: int = 50
    meta_batch: int = 4  # tasks
    num_images: int = 0  # of all tasks together; 0: as many as the shared source pre-training sees
    inner_lr: float = 0.1
    meta_lr: float = 0.1
    metric: Metric = Metric.length
    stabilised: bool = True  # a loss that rises between batches counts as if it had fallen
    with_loss: bool = True  # False, with energy and not stabilised: Reptile

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        ranges = {"task_classes": (2, inf), "task_batch": (2, inf), "task_steps": (2, inf)}
        ranges |= {"meta_batch": (1, inf), "num_images": (0, inf), "inner_lr": (0, inf)}
        check_ranges(self, ranges | {"meta_lr": (0, inf)})
        return self


class Leap(Method[Config]):
    """Random weights are moved to where the paths of gradient descent are short, on all tasks."""

    title = "Leap"
    paper = "arXiv 1812.01054"
    kind = "meta"
    needs_source = True
    uses_pretraining = False

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe, self.seed = config, problem.recipe, problem.seed
        self.net = problem.network(pretrained=False)
        self.source = Tasks(classed_source(problem), config.task_classes, config.task_batch, problem.seed)
        source_head: Any = self.net.source_head
        self.task_head = nn.Linear(source_head.in_features, self.source.num_classes)
        nn.init.normal_(self.task_head.weight, std=self.recipe.head_init_std)
        nn.init.zeros_(self.task_head.bias)
        self.task_head.to(problem.device)
        trained = [*self.net.encoder.parameters(), *self.task_head.parameters()]
        self.weights = [p for p in trained if p.requires_grad]
        self.buffers = [(b, b.clone()) for b in self.net.encoder.buffers()]
        self.start_P = flat(self.weights)
        num_images = config.num_images or problem.pretraining_images
        self.num_tasks = max(1, round(num_images / (config.task_batch * config.task_steps)))
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a source that gives no tasks."""
        source = problem.source
        if source is None:
            return "it cuts its tasks from the source's classes, and there is no source"
        if source.multi_label:
            return "it cuts its tasks from the source's classes, and source images have several labels"
        num_classes = len(source.labels.unique())
        few = f"it needs {LEAST_CLASSES} source classes for tasks that differ, and there are {num_classes}"
        return few if num_classes < LEAST_CLASSES else ""

    def prepare(self) -> None:
        """Meta-learn the start; from the middle, where a state from there was loaded."""
        while self.source.drawn < self.num_tasks:
            self.meta_step()
            may_save()
        self.restart()

    def meta_step(self) -> None:
        """Walk through tasks from the same start, and move it against the mean gradient of the paths."""
        config = self.config
        torch.manual_seed(derive_seed(self.seed, "meta-step", self.source.drawn))  # of dropout
        path = PathGradient(self.weights, config.metric, config.stabilised, config.with_loss)
        optimizer = torch.optim.SGD(self.weights, config.inner_lr)
        num_tasks = min(config.meta_batch, self.num_tasks - self.source.drawn)
        for _ in range(num_tasks):
            self.restart()
            walk(self.task_logits, self.source.draw(config.task_steps), optimizer, config.inner_lr, path)
        self.start_P -= config.meta_lr * path.total_P / num_tasks
        if not self.start_P.isfinite().all():
            raise InputError(
                f"method.inner_lr={config.inner_lr:g}, method.meta_lr={config.meta_lr:g}: the weights went "
                f"to infinity after {self.source.drawn} tasks; expected lower rates"
            )

    def restart(self) -> None:
        """Go to the start, with the running statistics of a new network."""
        put(self.weights, self.start_P)
        for buffer, new in self.buffers:
            buffer.copy_(new)

    def task_logits(self, x: Tensor) -> Tensor:
        """Images [B,3,H,W] to logits [B,C] of a task."""
        return self.task_head(self.net.features(x))

    def step(self, t: int) -> Metrics:
        """Fine-tune from the start on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))
