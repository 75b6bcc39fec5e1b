"""Source pre-training: the settings of the one that a run starts from, and the weights of a finished one.

Each pre-training is a run with its own record. Runs with equal source settings share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ... import InputError
from ...datasets import planted
from ...methods import catalog as methods
from ...methods.networks.network import Network
from ...methods.networks.tensor_files import read_tensors
from ...methods.pretrain import Pretrain
from ...methods.recipe import TARGET_ONLY, TestCrops
from ..config.schema import Norms, Protocol, Role, RunConfig, Tune


@dataclass(frozen=True)
class SourceModel:
    """A finished source pre-training.

    Attributes:
        weights: tensors of its network, by name.
        path: file of the weights.
        reference: its entry in the record of a run: `digest`, `seconds`, `steps`, and `shared`.
    """

    weights: Mapping[str, Tensor]
    path: Path
    reference: dict[str, Any]

    def load_into(self, net: Network) -> None:
        """Copy the weights into a network. Raises InputError if they do not fit."""
        try:
            net.adopt(self.weights)
        except ValueError as error:
            raise InputError(f"{self.path}: {error}; remove its folder") from error


def source_model(
    folder: Path, record: Mapping[str, Any], weights: Mapping[str, Tensor], shared: bool
) -> SourceModel:
    """Return the source model of a finished pre-training."""
    reference = {
        "digest": record["digest"],
        "seconds": record["seconds"]["prepare"] + record["seconds"]["step"],
        "steps": record["num_steps"],
        "shared": shared,
    }
    return SourceModel(weights, kept_path(folder), reference)


def shared_pretraining(config: RunConfig) -> RunConfig | None:
    """Return the shared source pre-training that a run starts from, or None if it needs none."""
    if config.role is Role.pretraining:  # a specialist may start from the generalist
        return generalist(config) if config.settings.generalist else None
    if config.source == "none" or not methods.load(config.method).uses_pretraining:
        return None
    return generalist(config)


def generalist(config: RunConfig) -> RunConfig:
    """Return the pre-training on all source classes, equally weighted."""
    own = config.source_recipe
    recipe = replace(
        config.recipe,
        steps=own.steps,
        batch_size=own.batch_size,
        source_batch_size=0,  # its batches are those of `batch_size`
        lr=own.lr,
        weight_decay=own.weight_decay,
        milestones=own.milestones,
        decay_biases=False,
        head_lr_factor=1.0,
        layer_decay=1.0,  # it starts from random weights, or trains the head alone
        test_crops=TestCrops.central,  # for the target only: must not change the digest
        **TARGET_ONLY,
        lr_grid=[],
        weight_decay_grid=[],
    )
    published = config.pretrained or config.checkpoint is not None
    seed = config.seed if own.seed is None else own.seed
    return without_target(
        config, recipe=recipe, settings=Pretrain.Config(head_only=published), seed=seed, tune=Tune.off
    )


def specialist(
    config: RunConfig,
    *,
    class_weights: list[float],
    matcher: Any,
    num_samples: int,
    from_generalist: bool,
    steps_share: float,
    lr: float,
) -> RunConfig:
    """Return a pre-training with given class weights; it trains the whole network.

    Args:
        config: the run that needs it.
        class_weights: weight of each source class [C_S].
        matcher: see `Pretrain.Config`.
        num_samples: number of images drawn by the class weights; 0: draw from all at each step.
        from_generalist: start from the shared pre-training, not from random weights.
        steps_share: its number of steps, relative to the source recipe.
        lr: its learning rate. 0: that of the source recipe, or of the recipe for published weights,
            which are fine-tuned.
    """
    base = generalist(config)
    is_published = base.settings.head_only and from_generalist
    settings = replace(
        base.settings,
        class_weights=class_weights,
        matcher=matcher,
        num_samples=num_samples,
        generalist=base.digest if from_generalist else "",
        head_only=False,
    )
    recipe = replace(
        base.recipe,
        steps=max(1, round(steps_share * base.recipe.steps)),
        lr=lr or (config.recipe.lr if is_published else base.recipe.lr),
    )
    return replace(base, settings=settings, recipe=recipe)


def without_target(config: RunConfig, **changes: Any) -> RunConfig:
    """Return the settings of a pre-training for a run, without all that concerns the target."""
    has_target = planted.parse(config.source) is not None  # a planted source has images of the target
    return replace(
        config,
        role=Role.pretraining,
        target="none",
        method="pretrain",
        shots=None,
        holdout_shots=None,
        draw=config.draw if has_target else None,
        groups=config.groups if has_target or config.drop_overlap else None,
        protocol=Protocol.holdout,
        fold="",
        bn=Norms.split if config.bn is Norms.frozen else config.bn,
        score="top1",
        data={k: v for k, v in config.data.items() if k != "target"},
        **changes,
    )


def kept_path(folder: Path) -> Path:
    """Return where a run leaves tensors for the runs that need it."""
    return folder / "kept.pt"


def read_kept(folder: Path) -> dict[str, Tensor]:
    """Read the tensors that a run keeps for other runs. Raises InputError for a damaged file."""
    path = kept_path(folder)
    try:
        kept = read_tensors(path)
        if not (isinstance(kept, dict) and all(isinstance(tensor, Tensor) for tensor in kept.values())):
            raise ValueError("no named tensors in it")
    except FileNotFoundError:
        raise InputError(f"{path}: missing; remove its folder, and repeat the command") from None
    except ValueError as error:
        raise InputError(
            f"{path}: not readable ({error}); remove its folder, and repeat the command"
        ) from error
    return kept
