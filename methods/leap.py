"""Leap: fine-tuning from initial weights that are meta-learned on source tasks, for short gradient paths.

Use when: you study meta-learned starts. It replaces source pre-training.
Source: Flennerhag, Moreno, Lawrence, Damianou: Transferring Knowledge across Learning Processes
(arXiv 1812.01054), the algorithm named Leap; constants of the Omniglot experiment in the released code
(`amzn/metalearn-leap`), except for those below.

Departs from: (1) a task is a new random choice of source classes, where the paper has a fixed set of tasks;
(2) the budget is a number of images, not of meta-steps, to be equal to that of other methods; it is smaller
than the paper's, so paths are half as long (`task_steps`, 100 there) and batches of tasks are smaller
(`meta_batch`, 20 there); (3) the target has a new head, and is trained as by every other method. As in the
code, the last of K steps adds no segment, running statistics are not meta-learned, and all tasks share a
head, whatever the order of their classes.
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
from .components.trajectory import Metric, PathGradient, walk
from .components.weight_vectors import flat, put
from .networks.network import init_head

LEAST_CLASSES = 4  # least number of source classes: two tasks of two classes


@dataclass
class Config:
    """Settings of Leap."""

    task_classes: int = 20  # classes of a task; at most half of the source's
    task_batch: int = 20  # images of a batch of a task
    task_steps: int = 50  # K, training steps on a task
    meta_batch: int = 4  # tasks of a meta-step
    num_images: int = 0  # images of all tasks; 0: as many as the source pre-training uses
    inner_lr: float = 0.1  # learning rate on a task
    meta_lr: float = 0.1  # learning rate of the initial weights
    metric: Metric = Metric.length  # distance between two points of a path
    stabilized: bool = True  # count a rise of the loss between batches as a fall
    with_loss: bool = True  # loss as a coordinate of the path; False with energy, not stabilized: Reptile

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        ranges = {"task_classes": (2, inf), "task_batch": (2, inf), "task_steps": (2, inf)}
        ranges |= {"meta_batch": (1, inf), "num_images": (0, inf), "inner_lr": (0, inf)}
        check_ranges(self, ranges | {"meta_lr": (0, inf)})
        return self


class Leap(Method[Config]):
    """Initial weights from which the paths of gradient descent on source tasks are short."""

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
        init_head(self.task_head, self.recipe.head_init_std)
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
        """Return a reason for a source without enough classes for tasks."""
        source = problem.source
        if source is None:
            return "it cuts its tasks from the source's classes, and there is no source"
        if source.multi_label:
            return "it cuts its tasks from the source's classes, and source images have several labels"
        num_classes = len(source.labels.unique())
        few = f"it needs {LEAST_CLASSES} source classes for tasks that differ, and there are {num_classes}"
        return few if num_classes < LEAST_CLASSES else ""

    def prepare(self) -> None:
        """Meta-learn the initial weights; resumes at a saved state."""
        while self.source.drawn < self.num_tasks:
            self.meta_step()
            may_save()
        self.restart()

    def meta_step(self) -> None:
        """Train on tasks from the same initial weights, and update them by the mean gradient of the paths."""
        config = self.config
        torch.manual_seed(derive_seed(self.seed, "meta-step", self.source.drawn))  # for dropout
        path = PathGradient(self.weights, config.metric, config.stabilized, config.with_loss)
        optimizer = torch.optim.SGD(self.weights, config.inner_lr)
        num_tasks = min(config.meta_batch, self.num_tasks - self.source.drawn)
        for _ in range(num_tasks):
            self.restart()
            walk(self.task_logits, self.source.draw(config.task_steps), optimizer, config.inner_lr, path)
        self.start_P -= config.meta_lr * path.total_P / num_tasks
        if not self.start_P.isfinite().all():
            raise InputError(
                f"method.inner_lr={config.inner_lr:g}, method.meta_lr={config.meta_lr:g}: the weights are "
                f"not finite after {self.source.drawn} tasks; expected lower rates"
            )

    def restart(self) -> None:
        """Restore the initial weights, and the running statistics of a new network."""
        put(self.weights, self.start_P)
        for buffer, new in self.buffers:
            buffer.copy_(new)

    def task_logits(self, x: Tensor) -> Tensor:
        """Return the logits [B,C] of a task for images [B,3,H,W]."""
        return self.task_head(self.net.features(x))

    def step(self, t: int) -> Metrics:
        """Train on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))
