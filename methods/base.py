"""The contract of a method: its input (Problem) and its interface (Method)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, get_origin, runtime_checkable

import torch
from torch import Tensor, nn

from .. import InputError
from ..datasets import distributed
from ..datasets.base import Split, Stream
from .metrics import classification_loss, total_weight
from .networks.network import Network
from .networks.predictor import Predictor, name_of
from .recipe import Recipe, num_parts

ConfigT = TypeVar("ConfigT")  # the dataclass of a method's own settings; its defaults are the only ones
T = TypeVar("T")
Metrics = dict[str, Tensor]  # finite scalars, still on the device


@dataclass(frozen=True)
class Problem:
    """All data and settings that a method may use. It has no test split.

    Attributes:
        source: source images; None without a source.
        target: target images to train on.
        holdout: validation images of the target, for rewards; None if they are trained on.
        recipe: training settings that all methods share.
        seed: seed of all random numbers.
        device: device of networks and batches.
        network: `network()` builds a network with the encoder and source head of the shared source
            pre-training; `network(pretrained=False)` builds one with random weights, and
            `network(pretrained=False, backbone=NAME)` one with another encoder.
        pretraining_images: number of images of the shared source pre-training, with repeats: the budget
            of a method that replaces it.
        pretrain: `pretrain(net, **settings)` runs a source pre-training with class weights, or finds an
            earlier one, and loads its weights into a network.
        controls: the result of a first stage that this run replays; None: there is none.
        score: the score of the comparison, for methods that use it.
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
    """An object that saves and restores its state."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return all that changes."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore a state."""


class Incompatible(InputError):
    """A method that cannot run on a problem, whatever its settings: a comparison leaves its row out."""


class Method(ABC, Generic[ConfigT]):
    """A method of transfer learning: from a pre-trained network to a target classifier.

    A subclass is final, and names the dataclass of its settings: `class MyMethod(Method[Config])`. Keep all
    state in attributes that are tensors or Stateful; then saving and resuming need no further code.
    """

    Config: ClassVar[type[Any]]  # the dataclass in `Method[Config]`
    title: ClassVar[str]  # name of its row in tables
    paper: ClassVar[str]  # arXiv number or venue
    needs_source: ClassVar[bool] = False  # whether it uses source images during the run
    uses_pretraining: ClassVar[bool] = True  # whether it starts from the shared source pre-training
    pretrains: ClassVar[bool] = False  # whether it runs another source pre-training, with class weights
    learns_controls: ClassVar[bool] = (
        False  # whether a second stage of `protocol=trainval` replays its controls
    )
    # Whether the run can be split across processes: every loss is a mean over a batch, and `update` is used
    data_parallel: ClassVar[bool] = False
    trains_in_parts: ClassVar[bool] = False  # whether all batches it trains on are of `train_step`
    takes_soft_labels: ClassVar[bool] = True  # whether its losses take class probabilities of the target
    averages_weights: ClassVar[bool] = False  # whether it averages weights itself, without `recipe.ema`
    weighs_classes: ClassVar[bool] = True  # whether `recipe.class_weights` has an effect on it
    closed_form: ClassVar[bool] = False  # whether its one step reads every image once, without training
    own_norms: ClassVar[bool] = False  # whether it decides on norm statistics itself; then not `bn=frozen`
    predictor_class: ClassVar[type[Predictor]] = Predictor  # class of what `predictor` returns
    head_class: ClassVar[type[nn.Module]] = nn.Linear  # class of its head
    # baseline, initialization, regularizer, parameter-efficient, source selection, or meta
    kind: ClassVar[str] = "baseline"

    net: Network  # the network that is evaluated

    def __init_subclass__(cls) -> None:
        """Set `Config` from the type argument of the base class."""
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Method:
                (cls.Config,) = get_args(base)

    @abstractmethod
    def __init__(self, problem: Problem, config: ConfigT) -> None:
        """Build networks, optimizers and streams, without a pass over data; plans build it, too.

        Raises: InputError for a setting that does not fit the network or the images, and Incompatible.
        """

    def prepare(self) -> None:  # noqa: B027  (optional on purpose)
        """Run once before step 0; timed, and skipped on resume.

        A long one calls `may_save`, and continues from a loaded state.
        """

    @abstractmethod
    def step(self, t: int) -> Metrics:
        """Take iteration t, 0 to recipe.steps - 1; return finite scalars on the device."""

    def predict(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] of images [B,3,H,W] in evaluation mode; the state does not change."""
        return self.net.target(x)

    def predictor(self) -> Predictor:
        """Return what `predict` uses, as a module in evaluation mode that shares this method's weights.

        It is called after the last step. The module can be built again without data: see `Predictor.empty`.
        """
        return self.predictor_with(self.net.target_head)

    def predictor_with(self, head: nn.Module, **parts: Any) -> Predictor:
        """Return the predictor of the network's encoder with a head, and other parts by name."""
        autocast = name_of(self.net.autocast)
        return self.predictor_class(self.net.encoder, head, autocast=autocast, **parts).eval()

    def predicting(self) -> list[Tensor]:
        """Return the parameters and buffers that `predict` uses; a predictor may hold copies of them."""
        predictor, encoder = self.predictor(), self.net.encoder
        named = (*predictor.named_parameters(), *predictor.named_buffers())
        rest = (t for name, t in named if not name.startswith("encoder."))
        return list({id(t): t for t in (*encoder.parameters(), *encoder.buffers(), *rest)}.values())

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return why it cannot run on a problem; empty if it can."""
        return ""

    @classmethod
    def images_per_step(cls, config: ConfigT, recipe: Recipe) -> tuple[int, int]:
        """Return the numbers of images of a step with a backward pass, and with a forward pass only.

        Those of the source are `recipe.source_size`.
        """
        return recipe.batch_size, 0

    @classmethod
    def label(cls, config: ConfigT) -> str:
        """Return the row's name: the title, and the settings that differ from the defaults."""
        return cls.title + changes(config, cls.Config())

    def class_weights(self) -> Tensor | None:
        """Return the weight of each source class [C_S]; None if the method has none."""
        return None

    def chosen_values(self) -> dict[str, float | list[int]]:
        """Return the values that the method chose on labeled images by itself; none without such a choice.

        A value is a number, or the numbers of things that were chosen together, counted from 1.
        """
        return {}

    def reused_seconds(self) -> float:
        """Return the seconds of work that it found in a cache; its cost includes them."""
        return 0.0

    def controls(self) -> dict[str, Tensor]:
        """Return the tensors that a second stage replays."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes."""
        return saved(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        restore(self, state)


def classed_source(problem: Problem) -> Split:
    """Return the source of a problem, checked to have classes.

    Raises: Incompatible if its images have several labels.
    """
    source = problem.source
    assert source is not None
    if source.multi_label:
        raise Incompatible(
            f"source: the images of {source.name} have several labels; expected one class each"
        )
    return source


def judging_stream(problem: Problem, batch_size: int, augmented: bool = False) -> Stream:
    """Return a stream of holdout batches, for rewards and other judgments.

    Raises: ValueError if there is no holdout, as in a second stage.
    """
    if problem.holdout is None:
        raise ValueError("there are no holdout images to judge by, and no controls to replay")
    return problem.holdout.stream(batch_size, problem.seed, augmented=augmented)


def changes(config: Any, default: Any, named: tuple[str, ...] = ()) -> str:
    """Return the settings that differ from the defaults as ` (name=value, …)`, except for `named`."""
    own = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in named}
    words = [f"{name}={value}" for name, value in own.items() if value != getattr(default, name)]
    return f" ({', '.join(words)})" if words else ""


def check_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that settings are in their ranges, ends included.

    Raises: InputError with the setting, its value and the range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            wanted = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
            raise InputError(f"method.{name}={value}: expected {wanted}")


def saved(thing: object) -> dict[str, Any]:
    """Return the state of every attribute that is a tensor or Stateful."""
    state: dict[str, Any] = {}
    for name, value in vars(thing).items():
        if isinstance(value, Tensor):
            state[name] = value.detach().clone()
        elif isinstance(value, Stateful):
            state[name] = value.state_dict()
    return state


def restore(thing: object, state: Mapping[str, Any]) -> None:
    """Restore the attributes in place, because optimizers refer to the tensors."""
    for name, value in state.items():
        own = getattr(thing, name)
        if isinstance(own, Tensor):
            own.detach().copy_(value)
        else:
            own.load_state_dict(value)


@contextmanager
def _set_to(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set a context variable inside."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


_measure: ContextVar[Callable[[str], AbstractContextManager[None]]] = ContextVar(
    "measure", default=lambda name: nullcontext()
)


def timed(name: str) -> AbstractContextManager[None]:
    """Return a context that is timed as a part of a step: data, target, source, reward or policy."""
    return _measure.get()(name)


def measured_by(measure: Callable[[str], AbstractContextManager[None]]) -> AbstractContextManager[None]:
    """Use a clock for the parts of the steps inside."""
    return _set_to(_measure, measure)


_saving: ContextVar[Callable[[], None]] = ContextVar("saving", default=lambda: None)


def may_save() -> None:
    """Allow saving, or stopping the run, at this point of `prepare`: the state is consistent."""
    _saving.get()()


def saved_by(save: Callable[[], None]) -> AbstractContextManager[None]:
    """Call `save` at each `may_save` inside."""
    return _set_to(_saving, save)


_restarting: ContextVar[Callable[[], None]] = ContextVar("restarting", default=lambda: None)


def training_restarts() -> None:
    """Begin a moving average anew: the weights are those of a start again from here on."""
    _restarting.get()()


def restarted_by(begin: Callable[[], None]) -> AbstractContextManager[None]:
    """Call `begin` at each `training_restarts` inside."""
    return _set_to(_restarting, begin)


def update(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Take one optimizer step with the gradients, averaged over processes and clipped, and reset them.

    The rate of a group of parameters is multiplied by its `lr_scale`, if it has one.
    """
    distributed.average_gradients(optimizer)
    if largest := optimizer.param_groups[0].get("clip_grad", 0.0):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, largest)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    optimizer.step()
    optimizer.zero_grad()


def train_step(
    forward: Callable[[Tensor], Tensor],
    stream: Stream,
    optimizer: torch.optim.Optimizer,
    rate: float,
    name: str = "target",
) -> Metrics:
    """Take one training step of classification on the next batch of a stream."""
    with timed("data"):
        x, y = next(stream)
    with timed(name):
        number = num_parts(len(x), optimizer.param_groups[0].get("micro_batch", 0))
        parts = zip(x.tensor_split(number), y.tensor_split(number), strict=True)
        losses = [_backward(forward, *part, y, stream.weight_C) for part in parts]
        update(optimizer, rate)
    return {"loss": losses[0] if len(losses) == 1 else torch.stack(losses).sum()}


def _backward(
    forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, whole: Tensor, weight_C: Tensor | None
) -> Tensor:
    """Add the gradient of the loss of a part of a batch, and return that loss [].

    The losses of all parts add up to that of the whole batch, whose labels are `whole`.
    """
    loss = classification_loss(forward(x), y, weight_C=weight_C)
    if len(y) < len(whole):
        loss = loss * (total_weight(y, weight_C) / total_weight(whole, weight_C))
    loss.backward()
    return loss.detach()
