"""Do one run, from its settings to its record, and the runs that it requires."""

import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ... import RunFailed
from ...analysis.records.migrations import FORMAT as RECORD_FORMAT
from ...analysis.records.schema import record_path
from ...datasets import distributed
from ...datasets.files.atomic import sweep
from ...methods import catalog as methods
from ...methods.base import Method
from ...methods.networks.network import Network
from ..config.overrides import overrides
from ..config.schema import Keep, Log, Protocol, Role, RunConfig, Score, Tune, load_target
from ..model.files import write_model
from . import interrupt, record
from .clock import Clock
from .curve_log import FOLDER, EventWriter
from .determinism import deterministic_algorithms
from .evaluate import by_image, evaluate
from .heartbeat import Claim, Taken, living
from .label_count import Record, label_fields
from .loop import CHECKPOINTS, Training
from .memory import PeakMemory
from .misfit import explained
from .model_size import model_size
from .nan_guard import NanGuard
from .pretraining import SourceModel, kept_path, read_kept, shared_pretraining, source_model, specialist
from .problem import BuiltProblem, build_problem, current_device, decoded_side
from .tuning import trials, tuned

WAIT_SECONDS = 1.0


def requirements(config: RunConfig) -> list[RunConfig]:
    """Return the runs that a run requires and that others may share: pre-training and trials."""
    base = shared_pretraining(config)
    return ([base] if base else []) + trials(config)


def num_steps(config: RunConfig) -> int:
    """Return the number of steps of a run: one for a method in closed form."""
    return 1 if methods.load(config.method).closed_form else config.recipe.steps


def run_one(config: RunConfig, results: Path) -> dict[str, Any]:
    """Return the record of a run: read it, wait for another process that works on the run, or do the run.

    If several processes share the run, all call this function; the first one decides and writes.

    Args:
        config: the run.
        results: the results folder.

    Raises:
        InputError: the input is invalid.
        RunFailed: a value was not finite.
        Interrupted: the process is asked to stop; a checkpoint is saved.

    Any exception except Interrupted leaves an `error.json` in the run's folder.
    """
    folder = config.folder(results)
    while (done := distributed.on_first(record.read, folder)) is None:
        folder.mkdir(parents=True, exist_ok=True)
        claim = Claim(folder, num_steps(config))
        if not distributed.on_first(claim.take):
            if distributed.any_rank(interrupt.requested()):
                raise interrupt.Interrupted(f"{folder}: another process works on it")
            time.sleep(WAIT_SECONDS)
            continue
        try:
            if (done := distributed.on_first(_begin, config, folder)) is not None:
                break
            with explained(config), deterministic_algorithms(config.deterministic):
                _run(config, results, folder, claim)
        except Taken:
            if distributed.size() > 1:  # the other processes are in the middle of a step
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
    """Return the record if another process has just written it; else write `config.json` and return None."""
    if (done := record.read(folder)) is not None:
        return done
    (folder / "error.json").unlink(missing_ok=True)
    record.write_json(folder / "config.json", {"role": str(config.role), **config.resolved()})
    return None


def _tidy(folder: Path) -> None:
    """Remove files that a finished run does not need; a killed process may have left them."""
    with suppress(OSError):  # the folder may be read-only
        sweep(folder)
        for name in CHECKPOINTS:
            (folder / name).unlink(missing_ok=True)
        if not living(folder / "heartbeat"):
            (folder / "heartbeat").unlink(missing_ok=True)


def _leave_error(folder: Path, error: Exception) -> None:
    if (folder / "error.json").exists():  # written by another process of this run
        return
    content = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    try:
        record.write_json(folder / "error.json", {**content, "time": record.now()})
    except OSError:  # a full disk: the error itself says so
        return


def _forget_compiled(config: RunConfig) -> None:
    """Forget what earlier runs of this process compiled: past a number of graphs torch compiles no more."""
    if config.recipe.compile:
        torch.compiler.reset()


def _run(config: RunConfig, results: Path, folder: Path, claim: Claim) -> None:
    """Do a run from its start or last checkpoint to its record."""
    started = record.now()
    shared = shared_source_model(config, results)
    tried: list[tuple[RunConfig, Record]] = []

    def trial_record(trial: RunConfig) -> dict[str, Any]:
        tried.append((trial, run_one(trial, results)))
        return tried[-1][1]

    chosen, choice = tuned(config, trial_record)
    stage = first_stage(chosen)
    staged = None if stage is None else run_one(stage, results)
    controls = None if stage is None else distributed.on_first(read_kept, stage.folder(results))
    _forget_compiled(chosen)
    device = current_device(config.device)
    clock, memory = Clock(device), PeakMemory(device)
    rests_on = [shared.reference] if shared else []
    pretrain = OwnPretraining(chosen, results, clock, memory, rests_on)
    built = build_problem(chosen, shared, pretrain, controls)
    method = methods.load(config.method)(built.problem, chosen.settings)
    training = _training(config, built, method, clock, memory, rests_on, folder)
    recipe = chosen.recipe
    failed = ""
    try:
        evaluations = 1 if config.role is Role.trial else recipe.evaluations
        training.run(num_steps(config), evaluations, recipe.batch_size, claim.beat)
    except RunFailed as error:
        if config.role is not Role.trial:
            raise
        failed = str(error)  # a result, too: this rate is too high
    if not distributed.is_first():
        return
    done = _record(config, built, training, started)
    if failed:
        done |= {"holdout": None, "failed": failed}
    if staged:
        done["seconds"]["prepare"] += staged["seconds"]["prepare"] + staged["seconds"]["step"]
    if built.test is not None:
        done |= label_fields(built, method, staged, tried)
    done |= {"choice": _whole_cost(choice, tried, training.rests_on), "pretraining": training.rests_on}
    source = built.problem.source
    if source and source.truth:
        done["source_truth"] = dict(zip(source.classes, source.truth, strict=True))
    claim.check()
    if config.role in (Role.pretraining, Role.first_stage):
        kept = method.net.state_dict() if config.role is Role.pretraining else method.controls()
        record.write_tensors(kept_path(folder), kept)
    done |= _write_model(config, built, method, folder)
    record.write_json(record_path(folder), done)


def _write_model(config: RunConfig, built: BuiltProblem, method: Method, folder: Path) -> dict[str, Any]:
    """Write the model that a run keeps, before its record: none tells of a model that is not there.

    Returns: the record's fields `size` and `model`; no `model` where it is not kept, nothing for other roles.
    """
    if config.role is not Role.run:
        return {}
    size = model_size(method, built.problem)
    if config.keep is Keep.none:
        return {"size": size}
    side = decoded_side(load_target(config).side, config.recipe.image_size)
    return {"size": size, "model": write_model(folder, config, method, built.problem.target, side)}


def _whole_cost(
    choice: dict[str, Any] | None,
    tried: Sequence[tuple[RunConfig, Record]],
    rests_on: Sequence[dict[str, Any]],
) -> dict[str, Any] | None:
    """Return a choice with the seconds of the methods' own pre-trainings that only its trials rest on."""
    if choice is None:
        return None
    of_trials = {r["digest"]: r for _, trial in tried for r in trial["pretraining"] if not r["shared"]}
    used = {r["digest"] for r in rests_on}
    more = sum(r["seconds"] for digest, r in of_trials.items() if digest not in used)
    return {**choice, "seconds": choice["seconds"] + more}


def shared_source_model(config: RunConfig, results: Path) -> SourceModel | None:
    """Run or find the shared source pre-training; return None if the run needs none."""
    base = shared_pretraining(config)
    return None if base is None else _source_model(base, results, shared=True)


def _source_model(base: RunConfig, results: Path, shared: bool) -> SourceModel:
    """Run or find a source pre-training, and read its weights."""
    done = run_one(base, results)
    folder = base.folder(results)
    return source_model(folder, done, distributed.on_first(read_kept, folder), shared)


def first_stage(config: RunConfig) -> RunConfig | None:
    """Return the first stage of `protocol=trainval`, which learns with rewards on the holdout.

    The run replays the tensors that it keeps. None if the method needs no first stage.
    """
    needed = config.protocol is Protocol.trainval and methods.load(config.method).learns_controls
    if config.role is not Role.run or not needed:
        return None
    return replace(config, role=Role.first_stage, protocol=Protocol.holdout, tune=Tune.off)


@dataclass(frozen=True)
class OwnPretraining:
    """The callback for a pre-training with class weights that the method computes in `prepare`.

    The pre-training has its own record: its time and memory do not count for the run.
    """

    config: RunConfig
    results: Path
    clock: Clock
    memory: PeakMemory
    rests_on: list[dict[str, Any]]

    def __call__(self, net: Network, **wanted: Any) -> None:
        """Run or find the pre-training, and load it into `net`; `wanted`: see `pretraining.specialist`."""
        with self.clock.paused():
            with self.memory.paused():
                found = _source_model(specialist(self.config, **wanted), self.results, shared=False)
            found.load_into(net)
            if found.reference["digest"] not in [r["digest"] for r in self.rests_on]:
                self.rests_on.append(found.reference)


def _training(
    config: RunConfig,
    built: BuiltProblem,
    method: Method,
    clock: Clock,
    memory: PeakMemory,
    rests_on: list[dict[str, Any]],
    folder: Path,
) -> Training:
    """Return the training loop of a method."""
    source = built.problem.source
    watched = source.classes if source and source.truth else ()
    guard = NanGuard(method, folder, config.on_nan)
    every = 60 * config.checkpoint_minutes
    ema = 0.0 if method.closed_form or method.averages_weights else config.recipe.ema
    training = Training(
        method, guard, clock, memory, built.curve, config.seed, folder, rests_on, every, watched, ema
    )
    if config.log is Log.tensorboard and config.role is not Role.trial and distributed.is_first():
        training.events = EventWriter(folder / FOLDER, config.recipe.lr_at)
    return training


def _record(config: RunConfig, built: BuiltProblem, training: Training, started: str) -> dict[str, Any]:
    """Evaluate the finished method on the test images, once, and return the record."""
    method, clock, problem = training.method, training.clock, built.problem
    recipe = config.recipe
    test: dict[str, float] | None = None
    per_image: dict[str, Any] = {"correct": None}
    if built.test is not None:
        by_class = config.score == Score.auroc
        test, logits = evaluate(method, built.test, recipe.batch_size, recipe.test_crops, by_class)
        training.watch.check_scores(test, "test", training.step)
        per_image = by_image(logits, built.test)
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
        "setting": config.describe(),
        "notes": list(built.notes),
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
        "chosen_values": method.chosen_values(),
        "seconds": {
            "prepare": clock.prepare + method.reused_seconds(),
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
        "data_sets": config.data_sets,
        "fingerprints": {**config.data, "splits": {n: s.fingerprint() for n, s in built.splits.items()}},
        "environment": record.environment(problem.device),
        "started": started,
        "ended": record.now(),
    }
