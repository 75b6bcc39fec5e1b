"""`predict`: the classes of new images, by a kept model."""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ... import InputError, printable
from ...analysis.wording import counted
from ...datasets.files.atomic import atomic_write
from ...datasets.pixels import Unreadable
from ..model.best import folder_of
from ..model.images import Found, find
from ..model.load import BATCH, Decoded, Model, Prediction, chunks, load_model
from ..model.out import check_out

TOP = 5  # classes of each image


def predict(run: str, paths: Sequence[Path], given: Mapping[str, str]) -> int:
    """Write a table with the most probable classes of each image.

    Args:
        run: a run's folder, or `best`.
        paths: image files, folders, tars, zips, and lists.
        given: settings: out, top, results, device.

    Returns:
        The exit code.

    Raises:
        InputError: there is no such model, or no image can be read.
    """
    most = _number(given.get("top", str(TOP)))
    out = Path(given.get("out", "predictions.csv"))
    if not paths:
        raise InputError("predict: no images; expected files, folders, tars, zips or lists")
    if str(out) != "-":
        check_out(out, ".csv", paths, "one of the images or lists to predict")
    folder = folder_of(run, Path(given.get("results", "results")))
    model = load_model(folder, given.get("device", "auto"))
    about = model.about
    words = f"{about['label']}, {about.get('target', '')}, seed {about.get('seed', '')}"
    print(printable(f"model: {words}: {folder}"), file=sys.stderr)
    with ExitStack() as opened:
        found = find(paths, opened)
        rows = list(_rows(model, found, min(most, len(model.classes))))
    failed = [row for row in rows if row[-1]]
    if len(failed) == len(rows):
        name, *_, why = failed[0]
        raise InputError(f"none of {counted(len(rows), 'image')} can be read; the first: {name}: {why}")
    for row in failed[:3]:
        print(f"not read: {printable(f'{row[0]}: {row[-1]}')}", file=sys.stderr)
    replaced = " (replaced)" if out.exists() else ""
    _write(out, _header(most, len(model.classes)), rows)
    words = f", {len(failed)} of them not read" if failed else ""
    if str(out) != "-":
        print(printable(f"{counted(len(rows), 'image')}{words}: {out}{replaced}"))
    return 0


def _number(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 10**6):
        raise InputError(f"top={text}: expected a whole number of 1 or more")
    return int(text)


def _header(most: int, num_classes: int) -> list[str]:
    more = [name for k in range(2, min(most, num_classes) + 1) for name in (f"class_{k}", f"probability_{k}")]
    return ["image", "class", "probability", *more, "error"]


def _rows(model: Model, found: Sequence[Found], most: int) -> Iterator[list[str]]:
    """Yield the row of each image: name, classes with probabilities, and why it was not read."""
    bar = Console(stderr=True)
    with ThreadPoolExecutor() as threads:
        batches = track(
            list(chunks(found, BATCH)),
            f"predicting {len(found):,} images",
            console=bar,
            transient=True,
            disable=len(found) <= BATCH,
        )
        for batch in batches:
            data = [_bytes(each) for each in batch]
            decoded = list(threads.map(lambda d: _decoded(model, d), data))
            readable = [each for each in decoded if not isinstance(each, str)]
            predictions = iter(model.predictions(readable) if readable else ())
            for each, pixels in zip(batch, decoded, strict=True):
                if isinstance(pixels, str):
                    yield [each.name, *[""] * (2 * most), pixels]
                else:
                    yield [each.name, *_shown(next(predictions), most), ""]


def _bytes(found: Found) -> bytes | str:
    """Return a file's bytes, or why there are none."""
    try:
        return found.read()
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # a damaged archive causes errors of every type
        return str(error) or type(error).__name__


def _decoded(model: Model, data: bytes | str) -> Decoded | str:
    """Return an image, or why there is none."""
    try:
        return data if isinstance(data, str) else model.decoded(data)
    except Unreadable as error:
        return str(error)


def _shown(prediction: Prediction, most: int) -> Iterator[str]:
    for name, probability in prediction.top(most):
        yield from (name, f"{probability:.6f}")


def _write(out: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write the table to a file, or for `-` to standard output."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    content = text.getvalue()
    if str(out) == "-":
        sys.stdout.write(content)
        return
    with atomic_write(out) as draft:
        draft.write_text(content, encoding="utf-8", errors="surrogateescape")
