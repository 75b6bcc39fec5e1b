"""The contract: what a method is handed (Problem), and what it must offer (Method)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, get_origin, runtime_checkable

import torch
from torch import Tensor

from .. import InputError
from ..datasets import distributed
from ..datasets.base import Batch, Split, Stream
from .metrics import classification_loss
from .networks.network import Network
from .recipe import Recipe

ConfigT = TypeVar("ConfigT")  # the dataclass of a method's own settings; its defaults are the only ones
Metrics = dict[str, Tensor]  # finite scalars, still on the device


@dataclass(frozen=True)
class Problem:
    """All that a method may see: there is no test split in it.

    Attributes:
        source: source images, or None.
        target: target images to train on.
        holdout: the target's validation part, for rewards; None when it is trained on.
        recipe: what all methods share.
        seed: of every draw.
        device: where it runs.
        network: makes a network whose encoder and source head start from the shared source
            pre-training, or with `network(pretrained=False)` from random weights; then, with
            `backbone=NAME`, its encoder may be another one.
        pretraining_images: that the shared source pre-training sees, repeats counted: the budget of
            what takes its place.
        pretrain: runs, or finds, a source pre-training with other class weights and loads it
            into a network: `pretrain(net, weights, settings)`.
        controls: what a first stage learned and this run replays, or None.
        score: the score that is reported, for methods that are guided by it.
    """

    source: Split | None
    target: Split
    holdout: Split | None
    recipe: Recipe
    seed: int
    device: torch.device
    network: Callable[..., Network]
    pretraining_images: int
    pretrain: Callable[..., None]
    controls: Mapping[str, Tensor] | None
    score: str


@runtime_checkable
class Stateful(Protocol):
    """Anything that saves and takes back what changes in it."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return all that changes."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore a state."""


class Method(ABC, Generic[ConfigT]):
    """One way to get from a pre-trained network to a target classifier.

    A subclass is final, and names the dataclass of its settings: `class MyMethod(Method[Config])`. Keep all
    state in attributes that are tensors or Stateful; then saving and resuming need no further code.
    """

    Config: ClassVar[type[Any]]  # the dataclass in `Method[Config]`
    title: ClassVar[str]  # the row's name in tables
    paper: ClassVar[str]
    needs_source: ClassVar[bool] = False  # source images during the run
    uses_pretraining: ClassVar[bool] = True
    pretrains: ClassVar[bool] = False  # on the source once more, with class weights of its own
    learns_controls: ClassVar[bool] = False  # a first stage learns what `protocol=trainval` replays
    data_parallel: ClassVar[bool] = (
        False  # what is learned from a batch is a mean over its images, by `update`
    )
    kind: ClassVar[str] = "baseline"  # or initialization, regularizer, source selection, meta

    net: Network  # the network that is judged

    def __init_subclass__(cls) -> None:
        """Set `Config` from the type argument of the base class."""
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Method:
                (cls.Config,) = get_args(base)

    @abstractmethod
    def __init__(self, problem: Problem, config: ConfigT) -> None:
        """Build networks, optimizers and streams: cheap, no pass over data."""

    def prepare(self) -> None:  # noqa: B027  (optional on purpose)
        """Prepare once before step 0; timed, skipped on resume.

        Where it takes long, it calls `may_save` on its way, and goes on from a state that was loaded.
        """

    @abstractmethod
    def step(self, t: int) -> Metrics:
        """Advance one iteration; t in 0..recipe.steps-1."""

    def predict(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] in evaluation mode; changes nothing."""
        return self.net.target(x)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return why it cannot run on a problem; empty where it can."""
        return ""

    @classmethod
    def images_per_step(cls, config: ConfigT, batch_size: int) -> tuple[int, int]:
        """Count the images of a step that are trained on, and that are only judged."""
        return batch_size, 0

    @classmethod
    def label(cls, config: ConfigT) -> str:
        """Name the row of these settings: the title, and what differs from the defaults."""
        return cls.title + changes(config, cls.Config())

    def class_weights(self) -> Tensor | None:
        """Return the weight of each source class [C_S], where the method learns or sets one."""
        return None

    def controls(self) -> dict[str, Tensor]:
        """Return what a second stage replays."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes."""
        return saved(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        restore(self, state)


def classed_source(problem: Problem) -> Split:
    """Return the source to a method that weighs its classes.

    Raises: InputError when its images have several labels, and so no class.
    """
    source = problem.source
    assert source is not None
    if source.multi_label:
        raise InputError(f"source: the images of {source.name} have several labels; expected one class each")
    return source


def judging_stream(problem: Problem, batch_size: int, augmented: bool = False) -> Stream:
    """Draw the holdout's batches, by which a method judges what it learns beside the weights.

    Raises: ValueError when there is no holdout, as where a second stage replays what was learned.
    """
    if problem.holdout is None:
        raise ValueError("there are no holdout images to judge by, and no controls to replay")
    return problem.holdout.stream(batch_size, problem.seed, augmented=augmented)


def changes(config: Any, default: Any, named: tuple[str, ...] = ()) -> str:
    """Write the settings that differ from the defaults, ` (name=value, …)`, but for those named already."""
    own = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in named}
    words = [f"{name}={value}" for name, value in own.items() if value != getattr(default, name)]
    return f" ({', '.join(words)})" if words else ""


def check_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that settings lie in their ranges, ends included.

    Raises: InputError that names the setting, its value and the range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            wanted = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
            raise InputError(f"method.{name}={value}: expected {wanted}")


def saved(thing: object) -> dict[str, Any]:
    """Collect every attribute that is a tensor or Stateful."""
    state: dict[str, Any] = {}
    for name, value in vars(thing).items():
        if isinstance(value, Tensor):
            state[name] = value.detach().clone()
        elif isinstance(value, Stateful):
            state[name] = value.state_dict()
    return state


def restore(thing: object, state: Mapping[str, Any]) -> None:
    """Put the attributes back in place, so that optimizers keep their hold of the tensors."""
    for name, value in state.items():
        own = getattr(thing, name)
        if isinstance(own, Tensor):
            own.detach().copy_(value)
        else:
            own.load_state_dict(value)


_measure: ContextVar[Callable[[str], AbstractContextManager[None]]] = ContextVar(
    "measure", default=lambda name: nullcontext()
)


def timed(name: str) -> AbstractContextManager[None]:
    """Name a part of a step (data, target, source, reward, policy) for the clock that runs."""
    return _measure.get()(name)


@contextmanager
def measured_by(measure: Callable[[str], AbstractContextManager[None]]) -> Iterator[None]:
    """Let a clock see the parts of the steps inside."""
    token = _measure.set(measure)
    try:
        yield
    finally:
        _measure.reset(token)


_saving: ContextVar[Callable[[], None]] = ContextVar("saving", default=lambda: None)


def may_save() -> None:
    """Say, in the middle of `prepare`, that the state is whole: it may be saved here, or the run stopped."""
    _saving.get()()


@contextmanager
def saved_by(save: Callable[[], None]) -> Iterator[None]:
    """Let a loop save where the preparation inside says that it may."""
    token = _saving.set(save)
    try:
        yield
    finally:
        _saving.reset(token)


def update(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Take one step with the gradients that have been gathered, of all processes, and drop them."""
    distributed.average_gradients(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()


def train_step(
    forward: Callable[[Tensor], Tensor],
    stream: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    rate: float,
    name: str = "target",
) -> Metrics:
    """Take one step of plain classification on the next batch of a stream."""
    with timed("data"):
        x, y = next(stream)
    with timed(name):
        loss = classification_loss(forward(x), y)
        loss.backward()
        update(optimizer, rate)
    return {"loss": loss.detach()}
