"""`export`: a kept model as a file for other programs."""

from collections.abc import Mapping
from pathlib import Path

from ... import InputError, printable
from ...datasets.files.atomic import atomic_write
from ..model.best import folder_of
from ..model.export import SUFFIX, WRITERS, facts
from ..model.files import FILES
from ..model.load import load_model
from ..model.out import check_out
from ..training.record import write_json


def export(run: str, given: Mapping[str, str]) -> int:
    """Write a model for timm, ONNX or torch.export, and a JSON with its classes and preprocessing beside it.

    Args:
        run: a run's folder, or `best`.
        given: settings: to, out, results.

    Returns:
        The exit code.

    Raises:
        InputError: there is no such model, or it has no such form.
    """
    kind = given.get("to", "")
    if kind not in WRITERS:
        raise InputError(f"to={kind}: expected to={', to='.join(WRITERS)}")
    out = Path(given.get("out", f"model-{kind}{SUFFIX[kind]}"))
    folder = folder_of(run, Path(given.get("results", "results")))
    check_out(out, SUFFIX[kind], (folder / name for name in FILES), "the kept model itself")
    model = load_model(folder, "cpu")
    if model.net.autocast:
        print("recipe.precision=bf16: the file computes in float32")
        model.net.autocast = ""
    if model.ten_crops:
        print("recipe.test_crops=ten: the file has the logits of one crop; average them over the crops")
    replaced = ", replaced" if out.exists() else ""
    with atomic_write(out) as draft:
        use = WRITERS[kind](model, draft)
    write_json(
        out.with_name(f"{out.name}.json"), {**facts(model), "use": use.replace("PATH", repr(out.name))}
    )
    words = f"{len(model.classes)} classes, named with the preprocessing in {out.name}.json{replaced}"
    print(printable(f"{out}: {words}"))
    print(printable(f"use: {use.replace('PATH', repr(str(out)))}"))
    return 0
