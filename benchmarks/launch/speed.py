"""Measure the speed of this machine: a few training steps and forward passes of the real network."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ...datasets.base import Stream
from ...methods import catalog as methods
from ...methods.base import Method
from ...methods.networks.network import evaluation_mode
from ..config.schema import Role, RunConfig, Tune
from ..training.misfit import explained
from ..training.problem import build_problem, device_of

MOST_AT_ONCE = 8  # networks that are timed together: more take much memory
SHARE = 0.01  # of the time of all runs that may be used to measure it
LEAST_SECONDS, MOST_SECONDS = 0.1, 3.0  # of one measurement
MOST_STEPS = 50
ENOUGH = 32  # images of a batch on a CPU: the time of an image changes little with more


@dataclass(frozen=True)
class Speed:
    """Seconds of one image: trained, or passed forward only. The time to load it is included."""

    trained: float
    judged: float


def speed_key(config: RunConfig) -> str:
    """Return a key that is equal for runs whose images take equal time."""
    recipe = config.recipe
    place = (config.device, config.source if config.role is Role.pretraining else config.target)
    network = (config.backbone, config.backbone_options, recipe.precision, recipe.channels_last)
    given = (*place, *network, recipe.image_size, recipe.batch_size)
    return json.dumps(given, default=str, sort_keys=True)


def measure(config: RunConfig, workers: int, threads: int, num_images: float) -> Speed:
    """Time a few steps of fine-tuning and a few forward passes, as many at once as runs will be.

    Args:
        config: a run with the network and images, or a source pre-training.
        workers: runs at a time. On a CPU they share memory and cores, so as many are timed together.
        threads: CPU threads of one run.
        num_images: images that the runs will train on; more are worth a longer measurement.

    Returns:
        The seconds per image of each of the runs at a time.
    """
    device = device_of(config.device)
    batch_size = min(config.recipe.batch_size, ENOUGH if device.type == "cpu" else 10**9)
    trainer = "pretrain" if config.role is Role.pretraining else "finetune"
    own = replace(
        config,
        role=Role.pretraining if config.role is Role.pretraining else Role.run,
        method=trainer,
        tune=Tune.off,
        settings=methods.load(trainer).Config(),
        recipe=replace(config.recipe.not_compiled(), batch_size=batch_size),  # compiling takes minutes
    )
    at_once = min(workers, MOST_AT_ONCE) if device.type == "cpu" else 1
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    gpus = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=gpus), explained(own):
            return _measured(own, at_once, num_images)
    finally:
        torch.set_num_threads(before)
        if gpus:
            torch.cuda.empty_cache()  # the workers are other processes


def _measured(config: RunConfig, at_once: int, num_images: float) -> Speed:
    """Time the steps and forward passes of a run's method, `at_once` of them together."""
    problem, size = build_problem(config).problem, config.recipe.batch_size
    running = [methods.load(config.method)(problem, config.settings) for _ in range(at_once)]
    streams = [problem.target.stream(size, problem.seed) for _ in running]

    def trains(i: int, t: int) -> None:
        running[i].step(t)["loss"].item()

    def judges(i: int, t: int) -> None:
        _judge(running[i], streams[i])

    num_steps = num_images / size
    trained = _seconds_per_step(trains, at_once, num_steps) if num_images else 0.0
    return Speed(trained / size, _seconds_per_step(judges, at_once, num_steps) / size)


def _judge(method: Method, stream: Stream) -> None:
    """Pass a batch forward, and wait for the device."""
    x, _ = next(stream)
    with evaluation_mode(method.net), torch.no_grad():
        method.predict(x).sum().item()


def _seconds_per_step(step: Callable[[int, int], None], at_once: int, num_steps: float) -> float:
    """Return the mean seconds of a step of several threads that take steps together.

    The first steps warm up; the time of one sets how many are timed.
    """
    if (first := _timed(step, at_once, range(1))) > MOST_SECONDS:
        return first
    again = min(first, _timed(step, at_once, range(1, 2)))
    budget = min(MOST_SECONDS, max(LEAST_SECONDS, SHARE * again * num_steps / at_once))
    count = min(MOST_STEPS, int(budget / again))
    return _timed(step, at_once, range(2, 2 + count)) if count > 1 else again


def _timed(step: Callable[[int, int], None], at_once: int, steps: Sequence[int]) -> float:
    """Return the mean seconds of some steps, each taken by `at_once` threads at a time."""
    threads, errors = torch.get_num_threads(), list[Exception]()
    mean = [0.0] * at_once

    def work(i: int) -> None:
        torch.set_num_threads(threads)  # the setting is one of the thread
        begin = time.perf_counter()
        try:
            for t in steps:
                step(i, t)
        except Exception as error:
            errors.append(error)
        mean[i] = (time.perf_counter() - begin) / len(steps)

    if at_once == 1:
        work(0)
    else:
        started = [threading.Thread(target=work, args=(i,)) for i in range(at_once)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    if errors:
        raise errors[0]
    return sum(mean) / at_once
