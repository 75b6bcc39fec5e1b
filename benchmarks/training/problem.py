"""Build the problem of a run: the images and network for its method; the test images are kept apart."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ... import InputError
from ...datasets import catalog
from ...datasets.augment import Augment
from ...datasets.augmentation.mixing import Mixing
from ...datasets.base import Dataset, Split, derive_seed
from ...datasets.pixels import MemoryPixels
from ...datasets.reading import near_duplicates
from ...datasets.storage import cache
from ...methods import catalog as methods
from ...methods.base import Problem
from ...methods.metrics import balanced_weights
from ...methods.networks.encoders import (
    architecture,
    backbone_statistics,
    build_encoder,
    sized_options,
    with_drop_path,
)
from ...methods.networks.network import Network
from ...methods.recipe import ClassWeights, MeanStd, Precision, Recipe
from ..config.labeled_images import check_several
from ..config.schema import Labels, Norms, Protocol, Role, RunConfig, load_target
from .pretraining import SourceModel

GPU_SHARE = 0.125  # of the free memory, for the pixels of a part: four parts take at most 41 %
REWARD_FOLDS = 5  # one of so many folds of a cross-validated trial's images serves rewards


@dataclass(frozen=True)
class BuiltProblem:
    """A problem for a method, and the images that only the training loop may see.

    Attributes:
        problem: the problem, without test images.
        curve: images that the curve is measured on, or None.
        test: test images, or None.
        splits: all parts that were read, by name; of the target, the images that are drawn from each.
        whole: all parts of the target, before images are drawn; empty without a target.
        notes: notes on the images, for tables.
    """

    problem: Problem
    curve: Split | None
    test: Split | None
    splits: Mapping[str, Split]
    whole: Mapping[str, Split]
    notes: tuple[str, ...]


def device_of(name: str) -> torch.device:
    """Return the device of a name; `auto` is a GPU if there is one. Raises InputError if it is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d?))?", name):
        raise InputError(f"device={name}: not known; expected auto, cpu, cuda or cuda:0")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={name}: no CUDA device here; expected cpu")
    if device.index is not None and device.index >= (count := torch.cuda.device_count()):
        raise InputError(f"device={name}: no such GPU here; the last one is cuda:{count - 1}")
    return device


def current_device(name: str) -> torch.device:
    """Return the device of a name, and make a numbered GPU the one whose queue events belong to."""
    device = device_of(name)
    if device.index is not None:
        torch.cuda.set_device(device)
    return device


def check_graphs(recipe: Recipe, device: torch.device) -> None:
    """Check that there is a GPU if CUDA graphs are asked for. Raises InputError."""
    if recipe.cuda_graphs and device.type == "cpu":
        raise InputError("recipe.cuda_graphs=true: needs a GPU, and the device is a CPU; expected false")


def load_nothing(net: Network, **wanted: Any) -> None:
    """Leave the network as it is; the default for `pretrain`, when no method is trained on the problem."""


def build_problem(
    config: RunConfig,
    shared: SourceModel | None = None,
    pretrain: Callable[..., None] = load_nothing,
    controls: Mapping[str, Tensor] | None = None,
) -> BuiltProblem:
    """Build the problem of a configuration.

    Args:
        config: the run.
        shared: source model that the networks start from; None: random or published weights.
        pretrain: function that runs or finds a pre-training with the method's class weights, and loads it
            into a network.
        controls: tensors that a first stage learned, or None.
    """
    device = device_of(config.device)
    source = (
        None if config.source == "none" else catalog.load(config.source, True, config.draw, config.groups)
    )
    source_split, notes = (None, ()) if source is None else _source_split(config, source, device)
    whole: dict[str, Split] = {}
    if config.role is Role.pretraining:
        assert source is not None
        assert source_split is not None
        judged, parts = source, {"train": source_split}
        if "holdout" in source.parts:
            parts["holdout"] = _split(config, source, "holdout", device)
        train, holdout, test = parts["train"], None, None
        curve = parts.get("holdout")
    else:
        judged, whole = _target_parts(config, device)
        parts = limited(config, whole)
        train, holdout, curve, test = by_protocol(config, parts)
        if config.recipe.class_weights is ClassWeights.balanced:
            train = replace(train, weight_C=balanced_weights(train.labels, train.num_classes))
        train = augmented(train, config.recipe)
        notes = (*notes, *judged.notes)
    problem = Problem(
        source=source_split,
        target=train,
        holdout=holdout,
        recipe=config.recipe,
        seed=config.seed,
        device=device,
        network=_network_maker(config, source, judged, device, shared),
        pretraining_images=config.source_recipe.steps * config.source_recipe.batch_size,
        pretrain=pretrain,
        controls=controls,
        score=config.score,
    )
    return BuiltProblem(problem, curve, test, parts, whole, notes)


def _source_split(config: RunConfig, source: Dataset, device: torch.device) -> tuple[Split, tuple[str, ...]]:
    """Return the source's training images and notes; `drop_overlap` removes images that the target has."""
    split = _split(config, source, "train", device)
    if not config.drop_overlap:
        return split, source.notes
    keep = torch.ones(len(split), dtype=torch.bool)
    target = catalog.load(config.drop_overlap, groups=config.groups)
    rows = near_duplicates.overlapping_rows(source, target)
    keep[torch.from_numpy(rows)] = False
    note = f"{source.name}: {len(rows)} images left out that the target has, too"
    return split.subset(torch.nonzero(keep)[:, 0]), (*source.notes, note)


def _target_parts(config: RunConfig, device: torch.device) -> tuple[Dataset, dict[str, Split]]:
    """Return the target and its parts."""
    target = load_target(config)
    check_target(target)
    names = ("train", "holdout") if config.role is Role.screen else ("train", "holdout", "test")
    return target, {part: _split(config, target, part, device) for part in names}


def limited(config: RunConfig, whole: Mapping[str, Split]) -> dict[str, Split]:
    """Return the parts of a target with the training and holdout images that are drawn by the seed.

    Raises:
        InputError: a class has fewer images than `shots` or `holdout_shots` ask for.
    """
    drawn = config.drawn
    asked = {"train": f"shots={config.shots}", "holdout": f"holdout_shots={config.holdout_shots}"}
    if config.shots and config.labels is Labels.all:
        each = " and ".join(f"{k} of {part}" for part, k in drawn.items())
        asked = dict.fromkeys(asked, f"shots={config.shots} with labels=all, {each}")
    parts = dict(whole)
    for part, k in drawn.items():
        if k is not None:
            parts[part] = whole[part].shots(k, config.seed, asked[part])
    return parts


def check_target(target: Dataset) -> None:
    """Check that a target has several classes and all three parts.

    Raises:
        InputError: it has one class, or a part is missing; the message has the setting that draws the part.
    """
    check_several(target)
    missing = [part for part in ("holdout", "test") if part not in target.parts]
    if missing:
        places = " and ".join(f"{target.name}/{part}/" for part in missing)
        lacks = " and ".join(f"no '{part}'" for part in missing)
        raise InputError(
            f"{target.name}: {lacks} images; it has "
            f"{', '.join(target.parts)}. Put class folders into {places}, or draw "
            f"{'them' if len(missing) > 1 else 'it'} from train with draw={','.join(missing)}"
        )


def by_protocol(
    config: RunConfig, parts: Mapping[str, Split]
) -> tuple[Split, Split | None, Split | None, Split | None]:
    """Return the images for training, for rewards, for the curve, and for the test."""
    train, holdout, test = parts["train"], parts["holdout"], parts.get("test")
    if config.role is Role.screen:
        return train.joined(holdout), None, None, None
    if config.fold:
        return _by_fold(config, train.joined(holdout))
    if config.role is Role.trial:  # hyper-parameters are chosen on images that no reward has used
        reward, choice = holdout.halves(seed=0)
        return train, reward, choice, None
    if config.role is Role.first_stage:
        return train, holdout, holdout, None
    if config.protocol is Protocol.trainval:
        return train.joined(holdout), None, None, test
    return train, holdout, holdout, test


def _by_fold(config: RunConfig, labeled: Split) -> tuple[Split, Split | None, Split | None, Split | None]:
    """Return the images of a trial that is cross-validated: one fold judges it, the others train.

    A method that learns from rewards gets a fifth of the others for them.
    """
    fold, num_folds = map(int, config.fold.split("/"))
    train, choice = labeled.fold(fold - 1, num_folds, config.seed)
    reward: Split | None = None
    if methods.load(config.method).learns_controls:
        train, reward = train.fold(0, REWARD_FOLDS, config.seed)
    return train, reward, choice, None


def decoded_side(side: int, image_size: int) -> int:
    """Return the pixels per side that images are decoded to, given their typical side and the input's."""
    return min(side or image_size, image_size * 8 // 7)


def _split(config: RunConfig, dataset: Dataset, part: str, device: torch.device) -> Split:
    """Return a part with its pixels and augmentation; move small pixel arrays to the GPU."""
    recipe = config.recipe
    of_backbone = recipe.mean_std is MeanStd.backbone  # no name says it
    side = decoded_side(dataset.side, recipe.image_size)
    pixels = cache.pixels(dataset, part, side, str(recipe.interpolation))
    if device.type == "cuda" and isinstance(pixels, MemoryPixels):
        free, _ = torch.cuda.mem_get_info(device)
        if pixels.pixels.numel() < GPU_SHARE * free:
            pixels = pixels.to(device)
    augment = Augment(
        image_size=recipe.image_size,
        crop_scale=recipe.crop_scale,
        hflip=recipe.hflip and dataset.hflip,
        crop_pct=recipe.crop_pct,
        mean_std=backbone_statistics(config.backbone) if of_backbone else str(recipe.mean_std),
    )
    labels = torch.from_numpy(dataset.part(part).labels).to(device)
    name = f"{dataset.name}/{part}"
    index = torch.arange(len(labels))
    about = dataset.scored, dataset.truth, dataset.fingerprint, str(recipe.interpolation)
    return Split(name, dataset.classes, pixels, labels, index, augment, device, *about)


def augmented(train: Split, recipe: Recipe) -> Split:
    """Return the training images of a target with the recipe's further augmentation."""
    names = ("color_jitter", "random_erasing")
    own = {name: getattr(recipe, name) for name in names}
    train = replace(train, augment=replace(train.augment, policy=str(recipe.augment), **own))
    if not recipe.softens_labels:
        return train
    weight_C = train.weight_C
    if weight_C is None:
        weight_C = torch.ones(train.num_classes, device=train.device)
    mixing = Mixing(recipe.mixup, recipe.cutmix, recipe.label_smoothing)
    return replace(train, weight_C=weight_C, mixing=mixing)


def _network_maker(
    config: RunConfig,
    source: Dataset | None,
    target: Dataset,
    device: torch.device,
    shared: SourceModel | None,
) -> Callable[..., Network]:
    """Return a function that makes networks; their random weights depend on the seed alone."""
    recipe = config.recipe

    def network(pretrained: bool = True, backbone: str = "") -> Network:
        name = backbone or config.backbone
        options = {} if backbone else with_drop_path(name, config.backbone_options, recipe.drop_path)
        options = sized_options(name, options, recipe.image_size)
        torch.manual_seed(derive_seed(config.seed, "network"))
        published = pretrained and (config.pretrained or config.checkpoint is not None)
        encoder, classifier = build_encoder(
            name,
            published and config.pretrained,
            config.checkpoint if published else None,
            options,
        )
        net = Network(
            encoder,
            len(source.classes) if source else 0,
            0 if config.role is Role.pretraining else len(target.classes),
            split_norms=config.bn is not Norms.shared,
            frozen_norms=config.bn is Norms.frozen and pretrained and not backbone,
            autocast=torch.bfloat16 if recipe.precision is Precision.bf16 else None,
            head_init_std=recipe.head_init_std,
        )
        net.backbone, net.backbone_options = architecture(name, options)
        notes = list(getattr(encoder, "notes", ()))
        if classifier is not None and source and classifier.out_features == len(source.classes):
            net.source_head.load_state_dict(classifier.state_dict())
        elif classifier is not None:
            notes.append(f"classifier left out: {classifier.out_features} classes")
        if notes and config.checkpoint:
            net.notes = (f"checkpoint={config.checkpoint}: {'; '.join(notes)}",)
        net = net.to(device)
        if recipe.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if pretrained and shared is not None:
            shared.load_into(net)
        if recipe.grad_checkpointing:
            net.checkpoint_activations()
        check_graphs(recipe, device)
        if recipe.compile:
            net.compile_encoder(recipe.cuda_graphs)
        return net

    return network
