"""One run, from its configuration to its record, with the runs that it rests on."""

import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from ... import InputError
from ...analysis.records.schema import FORMAT as RECORD_FORMAT
from ...datasets import distributed
from ...datasets.files.atomic import sweep
from ...methods import catalog as methods
from ...methods.networks.network import Network
from ...methods.networks.tensor_files import read_tensors
from ...methods.pretrain import Pretrain
from ...methods.recipe import TestCrops
from ..config.overrides import overrides
from ..config.schema import Protocol, Role, RunConfig, Score, Tune
from . import interrupt, record
from .clock import Clock
from .evaluate import by_image, evaluate
from .heartbeat import Claim, Taken, living
from .loop import CHECKPOINTS, Training
from .memory import PeakMemory
from .nan_guard import NanGuard
from .problem import Posed, device_of, pose, without_target

TUNING_SEED = 10_000  # apart from the seeds that are reported
WAIT_SECONDS = 1.0


def pretraining(config: RunConfig) -> RunConfig | None:
    """Give the shared source pre-training that a run starts from, or None."""
    if config.source == "none" or not methods.load(config.method).uses_pretraining:
        return None
    return generalist(config)


def generalist(config: RunConfig) -> RunConfig:
    """Give the shared pre-training on the source as it comes."""
    own = config.source_recipe
    recipe = replace(
        config.recipe,
        steps=own.steps,
        batch_size=own.batch_size,
        lr=own.lr,
        weight_decay=own.weight_decay,
        milestones=own.milestones,
        decay_biases=False,
        test_crops=TestCrops.central,  # what concerns the target alone: not another pre-training
        lr_grid=[],
        weight_decay_grid=[],
    )
    published = config.pretrained or config.checkpoint is not None
    seed = config.seed if own.seed is None else own.seed
    return without_target(
        config, recipe=recipe, settings=Pretrain.Config(head_only=published), seed=seed, tune=Tune.off
    )


def trials(config: RunConfig) -> list[RunConfig]:
    """Give the runs that choose the learning rate and weight decay: as many for every method."""
    if config.tune is Tune.off:
        return []
    plain = replace(config, role=Role.trial, tune=Tune.off, protocol=Protocol.holdout, seed=TUNING_SEED)
    recipe = config.recipe
    grid = product(recipe.lr_grid, recipe.weight_decay_grid)
    return [replace(plain, recipe=replace(recipe, lr=lr, weight_decay=wd)) for lr, wd in grid]


def requirements(config: RunConfig) -> list[RunConfig]:
    """List what can be run before a run, and is shared with others."""
    base = pretraining(config)
    return ([base] if base else []) + trials(config)


def run_one(config: RunConfig, results: Path) -> dict[str, Any]:
    """Run to the record, or find it; a run that another process works at is waited for.

    Where several processes share the run, all call this, and the first decides and writes.

    Raises: InputError for bad input; any other error leaves `error.json` and is raised again.
    """
    folder = config.folder(results)
    while (done := distributed.on_first(record.read, folder)) is None:
        folder.mkdir(parents=True, exist_ok=True)
        claim = Claim(folder, config.recipe.steps)
        if not distributed.on_first(claim.take):
            if distributed.any_rank(interrupt.requested()):
                raise interrupt.Interrupted(f"{folder}: another process works at it")
            time.sleep(WAIT_SECONDS)
            continue
        try:
            if (done := distributed.on_first(_begin, config, folder)) is not None:
                break
            _run(config, results, folder, claim)
        except Taken:
            if distributed.size() > 1:  # the others are in the midst of it
                raise
            continue
        except Exception as error:
            _leave_error(folder, error)
            raise
        finally:
            if distributed.is_first():
                claim.release()
    if distributed.is_first():
        _tidy(folder)
    return done


def _begin(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """Give the record where another process has ended between two looks; else write what is begun."""
    if (done := record.read(folder)) is not None:
        return done
    (folder / "error.json").unlink(missing_ok=True)
    record.write_json(folder / "config.json", {"role": str(config.role), **config.resolved()})
    return None


def _tidy(folder: Path) -> None:
    """Remove what a record makes useless; a kill may have come before."""
    with suppress(OSError):  # read-only by now
        sweep(folder)
        for name in CHECKPOINTS:
            (folder / name).unlink(missing_ok=True)
        if not living(folder / "heartbeat"):
            (folder / "heartbeat").unlink(missing_ok=True)


def _leave_error(folder: Path, error: Exception) -> None:
    if (folder / "error.json").exists():  # of another process of this run, which was first
        return
    content = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    try:
        record.write_json(folder / "error.json", {**content, "time": record.now()})
    except OSError:  # a full disk: the error itself says so
        return


def _run(config: RunConfig, results: Path, folder: Path, claim: Claim) -> None:
    started = record.now()
    chosen, choice = _chosen(config, results)
    rests_on: list[dict[str, Any]] = []
    device = device_of(config.device)
    controls = _first_stage(chosen, results)
    clock, memory = Clock(device), PeakMemory(device)
    posed = pose(
        chosen,
        load_weights=partial(_load_shared, config, results, rests_on, memory),
        pretrain=partial(_pretrain_specialist, config, results, rests_on, memory, clock),
        controls=controls,
    )
    method = methods.load(config.method)(posed.problem, config.settings)
    every = 60 * config.checkpoint_minutes
    source = posed.problem.source
    watched = source.classes if source and source.truth else ()
    watch = NanGuard(method, folder, config.on_nan)
    training = Training(
        method, watch, clock, memory, posed.curve, config.seed, folder, rests_on, every, watched
    )
    recipe = chosen.recipe
    training.run(recipe.steps, recipe.evaluations, recipe.batch_size, claim.beat)
    if not distributed.is_first():
        return
    done = _record(config, posed, training, started)
    done |= {"choice": choice, "pretraining": training.rests_on}
    if source and source.truth:
        done["source_truth"] = dict(zip(source.classes, source.truth, strict=True))
    claim.check()
    if config.role in (Role.pretraining, Role.first_stage):
        kept = method.net.state_dict() if config.role is Role.pretraining else method.controls()
        record.write_tensors(folder / "kept.pt", kept)
    record.write_json(folder / "record.json", done)


def _chosen(config: RunConfig, results: Path) -> tuple[RunConfig, dict[str, Any] | None]:
    """Run the trials and take the learning rate and weight decay of the best."""
    candidates = trials(config)
    if not candidates:
        return config, None
    scores = [run_one(trial, results)["holdout"][config.score] for trial in candidates]
    best = max(range(len(scores)), key=scores.__getitem__)
    lr, wd = candidates[best].recipe.lr, candidates[best].recipe.weight_decay
    choice = {
        "rule": f"best {config.score} after the last step on the half of the holdout that serves no rewards",
        "num_trials": len(scores),
        "seed": TUNING_SEED,
        "lr": lr,
        "weight_decay": wd,
        "holdout": scores[best],
    }
    return replace(config, recipe=replace(config.recipe, lr=lr, weight_decay=wd)), choice


def _first_stage(config: RunConfig, results: Path) -> Mapping[str, Tensor] | None:
    """Learn on train with rewards of the holdout what `protocol=trainval` then replays."""
    needed = config.protocol is Protocol.trainval and methods.load(config.method).learns_controls
    if config.role is not Role.run or not needed:
        return None
    stage = replace(config, role=Role.first_stage, protocol=Protocol.holdout, tune=Tune.off)
    run_one(stage, results)
    return distributed.on_first(_kept, stage.folder(results))


def _kept(folder: Path) -> dict[str, Tensor]:
    """Read what a run leaves for those that rest on it. Raises: InputError for a damaged file."""
    path = folder / "kept.pt"
    try:
        kept = read_tensors(path)
        if not (isinstance(kept, dict) and all(isinstance(tensor, Tensor) for tensor in kept.values())):
            raise ValueError("it holds no named tensors")
    except (ValueError, FileNotFoundError) as error:
        raise InputError(
            f"{path}: not readable ({error}); remove {folder}, and the same command makes it anew"
        ) from error
    return kept


def _load_shared(
    config: RunConfig, results: Path, rests_on: list[dict[str, Any]], memory: PeakMemory, net: Network
) -> None:
    """Put the shared source pre-training into a network, where the run starts from it."""
    is_specialist = config.role is Role.pretraining and config.settings.generalist
    base = generalist(config) if is_specialist else pretraining(config)
    if base is not None:
        _adopt(base, results, rests_on, memory, net, shared=True)


def _pretrain_specialist(
    config: RunConfig,
    results: Path,
    rests_on: list[dict[str, Any]],
    memory: PeakMemory,
    clock: Clock,
    net: Network,
    *,
    class_weights: list[float],
    matcher: Any,
    num_samples: int,
    from_generalist: bool,
    steps_share: float,
    lr: float,
) -> None:
    """Run a source pre-training with class weights, off this run's clock: it has its own record.

    It trains the whole network: at `lr`, or, where that is 0, at the source recipe's rate; but what is
    published is fine-tuned, at the recipe's rate.
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
    special = replace(base, settings=settings, recipe=recipe)
    with clock.paused():
        _adopt(special, results, rests_on, memory, net, shared=False)


def _adopt(
    base: RunConfig,
    results: Path,
    rests_on: list[dict[str, Any]],
    memory: PeakMemory,
    net: Network,
    shared: bool,
) -> None:
    with memory.paused():
        done = run_one(base, results)
    kept = distributed.on_first(_kept, base.folder(results))
    try:
        net.adopt(kept)
    except ValueError as error:
        raise InputError(f"{base.folder(results) / 'kept.pt'}: {error}; remove its folder") from error
    if done["digest"] not in [r["digest"] for r in rests_on]:
        seconds = done["seconds"]["prepare"] + done["seconds"]["step"]
        rests_on.append(
            {"digest": done["digest"], "seconds": seconds, "steps": done["num_steps"], "shared": shared}
        )


def _record(config: RunConfig, posed: Posed, training: Training, started: str) -> dict[str, Any]:
    """Judge the finished method on the test images, once, and gather all figures."""
    method, clock, problem = training.method, training.clock, posed.problem
    recipe = config.recipe
    test: dict[str, float] | None = None
    per_image: dict[str, Any] = {"correct": None}
    if posed.test is not None:
        by_class = config.score == Score.auroc
        test, said = evaluate(method, posed.test, recipe.batch_size, recipe.test_crops, by_class)
        training.watch.check_scores(test, "test", training.step)
        per_image = by_image(said, posed.test)
    holdout = training.curve[-1]["holdout"] if training.curve else None
    weight_S = method.class_weights()
    source_classes = problem.source.classes if problem.source else ()
    streams = {name: v for name, v in vars(method).items() if hasattr(v, "num_images")}
    return {
        "format": RECORD_FORMAT,
        "status": "done",
        "role": str(config.role),
        "label": type(method).label(config.settings),
        "method": config.method,
        "source": config.source_name,
        "target": config.target_name,
        "seed": config.seed,
        "digest": config.digest,
        "comparison_id": config.comparison_id,
        "setting": config.words(),
        "notes": list(posed.notes),
        "config": config.resolved(),
        "overrides": overrides(config) if config.role is Role.run else [],
        "metric": config.score,
        "test": test,
        "holdout": holdout,
        **per_image,
        "curve": training.curve,
        "class_weights": None
        if weight_S is None
        else dict(zip(source_classes, weight_S.tolist(), strict=True)),
        "seconds": {
            "prepare": clock.prepare,
            "step": clock.step,
            "per_step_median": clock.per_step_median,
            "parts": clock.parts,
        },
        "images": {n: streams[n].num_images if n in streams else 0 for n in ("target", "source", "holdout")},
        "num_steps": training.step,
        "numbers": {
            "on_nan": str(config.on_nan),
            "skipped_steps": training.watch.skipped,
            "num_spikes": training.watch.num_spikes,
        },
        "peak_memory_bytes": training.memory.bytes,
        "peak_memory_of": training.memory.of,
        "flops_per_step": training.flops_per_step,
        "num_parameters": sum(p.numel() for p in method.net.parameters()),
        "fingerprints": {**config.data, "splits": {n: s.fingerprint() for n, s in posed.splits.items()}},
        "environment": record.environment(problem.device),
        "started": started,
        "ended": record.now(),
    }
