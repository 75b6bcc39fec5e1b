"""Try the networks of a comparison before anything runs: a forward and a backward pass of each."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ... import InputError
from ...methods import catalog as methods
from ...methods.base import Incompatible, Problem
from ...methods.networks.encoders import other_sizes, patch_misfit
from ...methods.networks.network import Network
from ...methods.recipe import num_parts
from ..config.schema import RunConfig
from ..training.misfit import is_out_of_memory, misfit, reason
from ..training.pretraining import shared_pretraining
from ..training.problem import build_problem, device_of
from ..training.run import first_stage

ENOUGH = 2  # images of a batch on a CPU
MANY = 1000  # images of a batch of which a method that trains the encoder trains some
LARGER = (32, 64, 96, 128, 224, 299, 512)  # image sizes in pixels that are tried, to name one that works


@dataclass(frozen=True)
class Pass:
    """A pass of images through a network.

    Attributes:
        setting: the setting of its batch size, with its value.
        batch: images for each process.
        of_source: whether they are source images.
        trains: whether it trains the encoder, or needs its features alone, in evaluation mode.
    """

    setting: str
    batch: int
    of_source: bool
    trains: bool = True


def check_networks(configs: Sequence[RunConfig], processes: int = 1) -> list[str]:
    """Take a step with each different network, image size, batch size and precision of some runs, once.

    A GPU gets the whole batch. A CPU gets at most two images: norms fail with one image and not with two, no
    layer depends on the number beyond, and the memory of more is not tried there. Random numbers of the
    process are left as they are.

    Args:
        configs: the runs.
        processes: number of processes that share the batches.

    Returns:
        Notes on the weights that the networks start from, for people.

    Raises:
        InputError: a network cannot be trained; the setting that helps is named.
    """
    notes: dict[str, None] = {}
    of_network: dict[str, list[RunConfig]] = {}
    for config in configs:
        of_network.setdefault(_network(config), []).append(config)
    for alike in of_network.values():
        config = alike[0]
        passes = list(dict.fromkeys(p for c in alike for p in _passes(c, processes)))
        try:
            notes.update(dict.fromkeys(_step(config, passes)))
        except InputError:
            raise
        except Exception as error:
            raise _explained(config, passes, processes, error) from error
    return list(notes)


def try_method(config: RunConfig, problem: Problem) -> str:
    """Build the method of a run, which refuses settings that do not fit its network, and drop it.

    Returns:
        Why the method cannot run on the problem, whatever its settings; empty if it can.

    Raises:
        InputError: a setting of the method does not fit.
    """
    if config.recipe.compile:  # a pass of one image would take minutes
        problem = build_problem(_not_compiled(first_stage(config) or config)).problem
    method = methods.load(config.method)
    try:
        with _same_random_numbers(problem.device):
            method(problem, config.settings)
    except Incompatible as error:
        return str(error)
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(
                f"{method.label(config.settings)}: out of memory before the first step on {config.backbone}; "
                "expected smaller settings of the method, or a smaller backbone"
            ) from error
        raise
    finally:
        _free(problem.device)
    return ""


def _network(config: RunConfig) -> str:
    """Return a key that is equal for runs with equal networks and image sizes, as far as a step shows."""
    recipe = config.recipe
    network = (config.backbone, config.backbone_options, config.pretrained, config.checkpoint, config.bn)
    given = (*network, recipe.image_size, recipe.precision, recipe.channels_last, config.device)
    return json.dumps(given, default=str, sort_keys=True)


def _passes(config: RunConfig, processes: int) -> list[Pass]:
    """Return the passes of a run's step, and of the source pre-training that it starts from."""
    on_cpu = device_of(config.device).type == "cpu"
    method, recipe = methods.load(config.method), config.recipe

    def sized(name: str, size: int, *of_source_and_trains: bool) -> Pass:
        batch = max(1, size // processes)
        batch //= num_parts(batch, recipe.micro_batch)
        return Pass(f"{name}={size}", min(batch, ENOUGH) if on_cpu else batch, *of_source_and_trains)

    trains = method.images_per_step(config.settings, replace(recipe, batch_size=MANY))[0] > 0
    found = [sized("recipe.batch_size", recipe.batch_size, False, trains)]
    if method.needs_source:
        name = "source_batch_size" if recipe.source_batch_size else "batch_size"
        found.append(sized(f"recipe.{name}", recipe.source_size, True))
    if shared_pretraining(config):
        found.append(sized("source_recipe.batch_size", config.source_recipe.batch_size, True))
    return found


def _step(config: RunConfig, passes: Sequence[Pass]) -> tuple[str, ...]:
    """Take all passes through the network of a run; return the notes on its weights."""
    config = _not_compiled(config)  # a compiled pass takes minutes
    device = device_of(config.device)
    with _same_random_numbers(device):
        net = build_problem(config).problem.network()
        if why := patch_misfit(net.encoder, config.recipe.image_size):
            raise ValueError(why)
        config.recipe.make_optimizer(net)
        for each in passes:
            _pass(config, net, each)
    notes = (*net.notes, *_too_small(config, net.encoder))
    del net
    _free(device)
    return notes


def _too_small(config: RunConfig, encoder: nn.Module) -> Iterator[str]:
    """Yield a note if images are smaller than the stride of the last stage, by timm's `feature_info`."""
    stages = getattr(encoder, "feature_info", None)
    reductions = [stage.get("reduction", 1) for stage in stages] if isinstance(stages, list) else []
    least, side = max(reductions, default=1), config.recipe.image_size
    if side < least:
        yield (
            f"recipe.image_size={side}: {config.backbone} looks at fields of {least} x {least} pixels, so"
            " most of what it sees is padding"
        )


def _not_compiled(config: RunConfig) -> RunConfig:
    return replace(config, recipe=config.recipe.not_compiled())


def _same_random_numbers(device: torch.device) -> AbstractContextManager[None]:
    """Leave the random numbers of the process as they are."""
    return torch.random.fork_rng(range(torch.cuda.device_count()) if device.type == "cuda" else [])


def _free(device: torch.device) -> None:
    """Free the memory of a GPU: the workers are other processes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _pass(config: RunConfig, net: Network, each: Pass) -> None:
    side = config.recipe.image_size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(each.batch, 3, side, side, generator=generator).to(device_of(config.device))
    features: Callable[[Tensor], Tensor] = net.source_features if each.of_source else net.features
    head = net.source_head if each.of_source else net.target_head
    net.train(each.trains)
    try:
        with torch.set_grad_enabled(each.trains):
            feature_BF = features(x)
        if feature_BF.ndim != 2:
            raise ValueError(f"features of shape {list(feature_BF.shape)}, expected [images, features]")
        if feature_BF.isnan().any():
            raise ValueError("features that are not numbers")
        if each.trains:
            head(feature_BF).float().square().mean().backward()
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(
                f"{each.setting}: out of memory in a forward and backward pass of {config.backbone} at "
                f"{side} px on {device_of(config.device)}; expected fewer images, a smaller "
                "recipe.image_size, or recipe.precision=bf16"
            ) from error
        raise
    finally:
        net.zero_grad()


def _explained(config: RunConfig, passes: Sequence[Pass], processes: int, error: Exception) -> InputError:
    """Return an error that names the first setting whose change helps, which is tried."""
    for changed, own, message in _changes(config, passes, processes, reason(error)):
        try:
            _step(changed, own)
        except Exception:
            continue
        return InputError(message)
    return misfit(config, error) or InputError(
        f"backbone={config.backbone}: cannot be trained here ({reason(error)}); expected another backbone"
    )


def _changes(
    config: RunConfig, passes: Sequence[Pass], processes: int, why: str
) -> Iterator[tuple[RunConfig, Sequence[Pass], str]]:
    """Yield settings that may help: the changed run, its passes, and the message if they do."""
    recipe, backbone = config.recipe, config.backbone
    if single := [p for p in passes if p.batch == 1 and p.trains]:
        shown = single[0].setting
        if recipe.micro_batch:
            shown = f"recipe.micro_batch={recipe.micro_batch} of {shown}"
        each = f" for each of {processes} processes" if processes > 1 else ""
        need = f"{backbone} has norms that need two images or more{each} at {recipe.image_size} px"
        least = 2 * processes
        if recipe.micro_batch:  # the last part of a batch has one image less than the others
            own = recipe.batch_size // processes
            least = next((n for n in range(1, own + 1) if own // num_parts(own, n) > 1), least)
        expected = f"expected {least} or more, or a backbone without batch norms"
        larger = [replace(p, batch=max(p.batch, 2)) for p in passes]
        yield config, larger, f"{shown}: {need}; {expected}"
    size = f"recipe.image_size={recipe.image_size}: {backbone} cannot be trained with it ({why}); expected"
    others = other_sizes(backbone, config.backbone_options, recipe.image_size)
    for side in others or [side for side in LARGER if side > recipe.image_size]:
        yield replace(config, recipe=replace(recipe, image_size=side)), passes, f"{size} {side}"
    for without in _without(config.backbone_options):
        changed = replace(config, backbone_options=without)
        out = {k: v for k, v in config.backbone_options.items() if k not in without}
        shown = ", ".join(f"backbone_options.{name}={value}" for name, value in out.items())
        yield changed, passes, f"{shown}: {backbone} cannot be trained with it ({why}); expected none"
    for name, plain in (("precision", "fp32"), ("channels_last", False)):
        if (own := getattr(recipe, name)) != plain:
            changed = replace(config, recipe=replace(recipe, **{name: type(own)(plain)}))
            shown = str(own).lower()
            yield (
                changed,
                passes,
                (
                    f"recipe.{name}={shown}: {backbone} cannot be trained with it ({why}); "
                    f"expected {str(plain).lower()}"
                ),
            )


def _without(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return options without each of them, and none."""
    each = [{k: v for k, v in options.items() if k != name} for name in options]
    return each + ([{}] if len(options) > 1 else [])
