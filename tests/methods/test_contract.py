"""What every file in methods/ has to keep; a new file is tested without a line here."""

import gc
import io
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
import torch
from suited import FOR_TRANSFORMERS
from torch import Tensor
from transferbench import methods
from transferbench.benchmarks.training.evaluate import evaluate
from transferbench.benchmarks.training.nan_guard import not_finite
from transferbench.benchmarks.training.pretraining import generalist
from transferbench.benchmarks.training.run import run_one
from transferbench.datasets.base import Split
from transferbench.methods import catalog
from transferbench.methods.base import Method, saved_by

NAMES = catalog.names()
VARIANTS = [
    ("l2tl", "method.weights=uniform"),
    ("l2tl", "method.weights=random"),
    ("l2tl", "method.weights=uniform_code", "method.preset=code_svhn"),
    ("l2tl", "method.alpha=walk", "method.reward=auroc"),
    ("l2tl", "method.credit=gain"),
    ("l2tl_gradients", "method.action=sampled"),
    ("linear_probe", "method.taps=3"),
    ("finetune", "bn=shared"),
]
ALL = [(name,) for name in NAMES] + VARIANTS
every_method = pytest.mark.parametrize("spec", ALL, ids=" ".join)
Build = Callable[..., Method]


def test_a_file_is_a_method_where_a_class_of_it_is_one():
    modules = {m.name: import_module(f"{methods.__name__}.{m.name}") for m in iter_modules(methods.__path__)}
    own = {name: [c for c in vars(m).values() if is_method(c, m.__name__)] for name, m in modules.items()}
    assert {name: len(found) for name, found in own.items() if found} == dict.fromkeys(NAMES, 1)


def is_method(thing: Any, module: str) -> bool:
    is_one = isinstance(thing, type) and issubclass(thing, Method) and thing is not Method
    return is_one and thing.__module__ == module


def run(method: Method, first: int, last: int) -> list[dict[str, float]]:
    if first == 0:
        method.prepare()
    curve = []
    for t in range(first, last):
        torch.manual_seed(t)
        curve.append({k: v.item() for k, v in method.step(t).items()})
    return curve


def reachable(thing: Any, path: str = "", seen: dict[int, Any] | None = None) -> dict[str, Any]:
    """Collect every tensor and number that can be reached from a method, by its path.

    Not the seconds of a pass that it found in the cache: they are a cost.
    """
    seen = {} if seen is None else seen  # with the objects: the id of one that is gone is given again
    if isinstance(thing, bool | int | float | str):
        return {path: thing}
    if (
        id(thing) in seen
        or isinstance(thing, Split | type)
        or callable(thing)
        and not hasattr(thing, "__dict__")
    ):
        return {}
    seen[id(thing)] = thing
    if isinstance(thing, Tensor):
        return {
            path: thing.detach().clone(),
            **({f"{path}.grad": thing.grad} if thing.grad is not None else {}),
        }
    if isinstance(thing, torch.optim.Optimizer):
        return reachable(thing.state_dict(), path, seen)
    if isinstance(thing, dict):
        items = thing.items()
    elif isinstance(thing, list | tuple | set):
        items = enumerate(thing)
    elif hasattr(thing, "__dict__"):
        items = vars(thing).items()
    else:
        return {}
    found: dict[str, Any] = {}
    for key, value in items:
        if key == "found_seconds":
            continue
        found |= reachable(value, f"{path}.{key}", seen)
    return found


def assert_same(a: Any, b: Any) -> None:
    left, right = reachable(a), reachable(b)
    assert left.keys() == right.keys()
    different = [
        k
        for k in left
        if not (torch.equal(left[k], right[k]) if isinstance(left[k], Tensor) else left[k] == right[k])
    ]
    assert not different


@every_method
def test_same_seed_same_run(build: Build, spec):
    assert run(build(*spec), 0, 3) == run(build(*spec), 0, 3)


@every_method
def test_another_seed_another_run(build: Build, spec):
    assert run(build(*spec), 0, 3) != run(build(*spec, "seed=1"), 0, 3)


@every_method
def test_metrics_and_state_are_finite(build: Build, spec):
    """A run stops at what is not: NaN or infinity cannot stand for something else."""
    method = build(*spec)
    method.prepare()
    assert not not_finite(method.state_dict())
    for value in method.step(0).values():
        assert value.shape == ()
        assert not value.requires_grad
        assert torch.isfinite(value)
    assert not not_finite(method.state_dict())


@every_method
def test_predicting_changes_nothing(build: Build, spec):
    method, twin = build(*spec), build(*spec)
    run(method, 0, 2)
    run(twin, 0, 2)
    split = method.source.split if spec[0] == "pretrain" else method.target.split
    evaluate(method, split.subset(torch.arange(20)), batch_size=8)
    assert_same(method, twin)
    assert run(method, 2, 4) == run(twin, 2, 4)


@every_method
def test_resuming_changes_nothing(build: Build, spec):
    whole = build(*spec)
    run(whole, 0, 3)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = build(*spec)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert_same(whole, resumed)
    assert run(whole, 3, 6) == run(resumed, 3, 6)
    assert_same(whole, resumed)


@pytest.mark.parametrize("name", NAMES)
def test_a_preparation_that_is_saved_in_its_middle_goes_on(build: Build, name):
    """From the first and the last place where a method says that it may be saved."""
    whole = build(name)
    places: list[dict[str, Any]] = []
    with saved_by(lambda: places.append(whole.state_dict())):
        whole.prepare()
    for state in places[:1] + places[-1:]:
        resumed = build(name)
        resumed.load_state_dict(state)
        resumed.prepare()
        assert_same(whole, resumed)


@every_method
def test_the_test_images_are_out_of_reach(build: Build, spec):
    method = build(*spec)
    reached, queue = set(), [method]
    while queue:
        for thing in gc.get_referents(queue.pop()):
            if id(thing) not in reached and not isinstance(thing, type | str | Tensor):
                if type(thing).__name__ in ("module", "function", "frame"):
                    continue
                reached.add(id(thing))
                queue.append(thing)
                if isinstance(thing, Split):
                    assert not thing.name.endswith("/test")


def read_in_steps(method: Method, name: str) -> int:
    """Return how many images a stream of a method reads in two steps, after the preparation."""
    stream = getattr(method, name, None)
    method.prepare()
    before = getattr(stream, "num_images", 0)
    for t in range(2):
        torch.manual_seed(t)
        method.step(t)
    return getattr(stream, "num_images", 0) - before


@every_method
def test_source_batches_have_a_size_of_their_own(build: Build, config_of, spec):
    """Every method that draws source images in its steps takes, and counts, as many as the recipe says."""
    equal, own = ("recipe.batch_size=8",), ("recipe.batch_size=8", "recipe.source_batch_size=24")
    methods_of = [build(*spec, *sizes) for sizes in (equal, own)]
    read = [read_in_steps(method, "source") for method in methods_of]
    for name in ("target", "holdout"):
        assert len({getattr(getattr(m, name, None), "num_images", 0) for m in methods_of}) == 1
    if spec[0] == "pretrain":
        assert read[1] == read[0]
        return
    assert read[1] == 3 * read[0]
    configs = [config_of(*spec, *sizes) for sizes in (equal, own)]
    counts = [sum(catalog.load(c.method).images_per_step(c.settings, c.recipe)) for c in configs]
    assert (counts[1] > counts[0]) == (read[0] > 0)


@pytest.fixture(scope="module")
def shared_results(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("results")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FOR_TRANSFORMERS])
def test_it_learns(config_of, shared_results, name):
    """On the embedded pair, from a short source pre-training that all share.

    It is too short for a transformer; tests/methods/test_vpt.py and test_adaptformer.py have another problem.
    """
    options = [
        "backbone=small",
        "recipe.steps=40",
        "recipe.evaluations=4",
        "recipe.lr=0.05",
        "recipe.batch_size=32",
        "shots=20",
    ]
    options += ["source_recipe.steps=120", "source_recipe.batch_size=32"]
    config = config_of(name, *options)
    done = run_one(generalist(config) if name == "pretrain" else config, shared_results)
    floor = 0.3 if name == "pretrain" else 0.7
    assert done["holdout"]["top1"] > floor
    losses = [point["holdout"]["loss"] for point in done["curve"]]
    assert losses[-1] < losses[0] or (catalog.load(name).closed_form and len(losses) == 1)


def test_resuming_would_notice_a_forgotten_counter(build: Build):
    """The comparison behind the contract sees what is not saved."""
    method, twin = build("finetune"), build("finetune")
    method.forgotten = {"count": [1, torch.zeros(2)]}
    twin.forgotten = {"count": [1, torch.ones(2)]}
    with pytest.raises(AssertionError):
        assert_same(method, twin)
