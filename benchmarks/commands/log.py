"""`log`: send the curve and the scores of a finished run to an experiment tracker."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ... import InputError, install_command
from ...analysis.records.schema import is_done, read_record, record_path
from ..training.curve_log import FOLDER, EventWriter, scalars

LEVELS = 3  # pair, row and seed: the names that tell runs apart
PROJECT = "transferbench"  # name of the experiment or project at the tracker
PACKAGES = {
    "tensorboard": install_command("tensorboard"),
    "mlflow": "`pip install mlflow`",
    "wandb": "`pip install wandb`",
}


def log(folder: Path, to: str, uri: str | None = None) -> int:
    """Send a finished run to a tracker; return the exit code.

    Args:
        folder: folder of the run.
        to: tensorboard, mlflow or wandb.
        uri: folder for the event files, in which each run has its own, MLflow's tracking URI, or address of a
            W&B server; None: the folder `events` of the run, or the tracker's own default.

    Raises:
        InputError: the tracker is not known or not installed, or the run is not done.
    """
    if to not in PACKAGES:
        raise InputError(f"to={to}: not known; expected {', '.join(PACKAGES)}")
    if find_spec(to) is None:
        raise InputError(f"to={to}: needs {to}: {PACKAGES[to]}")
    if not is_done(folder):
        raise InputError(f"{folder}: no finished run; expected one folder with a record.json")
    record = read_record(record_path(folder))
    place = {"tensorboard": _to_tensorboard, "mlflow": _to_mlflow, "wandb": _to_wandb}[to](
        record, folder, uri
    )
    print(f"logged: {folder.name} to {place}")
    return 0


def _to_tensorboard(record: Mapping[str, Any], folder: Path, uri: str | None) -> str:
    """Write event files; return their folder."""
    place = Path(uri).joinpath(*folder.resolve().parts[-LEVELS:]) if uri else folder / FOLDER
    writer = EventWriter(place)
    for point in record["curve"]:
        writer.write(point)
    writer.close()
    return str(place)


def _to_mlflow(record: Mapping[str, Any], folder: Path, uri: str | None) -> str:
    """Log parameters, curve and scores as a run of MLflow; return its tracking URI."""
    import mlflow

    if uri:
        mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=_name(record), tags={"digest": record["digest"], "folder": folder.name}):
        mlflow.log_params(dict(_parameters(record["config"])))
        for point in record["curve"]:
            mlflow.log_metrics(dict(scalars(point)), step=point["step"])
        mlflow.log_metrics(_final(record), step=record["num_steps"])
    return str(mlflow.get_tracking_uri())


def _to_wandb(record: Mapping[str, Any], folder: Path, uri: str | None) -> str:
    """Log parameters, curve and scores as a run of Weights & Biases; return its address or folder."""
    import wandb

    settings = wandb.Settings(base_url=uri) if uri else None
    config = dict(_parameters(record["config"]))
    with wandb.init(project=PROJECT, name=_name(record), config=config, settings=settings) as run:
        for point in record["curve"]:
            run.log(dict(scalars(point)), step=point["step"])
        run.summary.update(_final(record))
        return str(run.url or run.dir)


def _name(record: Mapping[str, Any]) -> str:
    """Return the name of a run at a tracker: pair, row and seed."""
    return f"{record['source']}-{record['target']}, {record['label']}, seed {record['seed']}"


def _final(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores on the test images and the seconds, by name."""
    scores = dict(scalars(record, ("test",)))
    return scores | {f"seconds/{name}": record["seconds"][name] for name in ("prepare", "step")}


def _parameters(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting of a run by its dotted name."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _parameters(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
