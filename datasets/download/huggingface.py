"""Download a data set from the Hugging Face hub: parquet files, from which each image is written to a file.

A copy has its images as `<part>/<label>/<row>.<suffix>`, with numbers, since class names can contain any
character. `from_hub.json` names the origin and lists the images; it is written last.
"""

import importlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from ... import InputError, install_command
from ..about import Hub, Listing
from ..files.folder_names import part_of
from ..reading.holdout import draw
from ..storage.table import Row
from .http import DownloadError, check_reachable, verify

MARKER = "from_hub.json"
NINE_TO_ONE = {"train": 9, "holdout": 1}
ANSWER_SECONDS = 10.0  # timeout of the file list
FILE = re.compile(r"(?:data/)?(?:(?P<config>[^/]+)[/-])?(?P<split>[^-/]+)-\d{5}-of-\d{5}[^/]*\.parquet")
BATCH_ROWS = 64  # images in memory
BUFFER_BYTES = 1 << 20
SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"RIFF": ".webp",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


def is_copy(root: Path) -> bool:
    """Return whether a folder is a copy from the hub."""
    return (root / MARKER).is_file()


def read(root: Path, sizes: Mapping[str, int] = NINE_TO_ONE) -> Listing:
    """List the images of a copy.

    Args:
        root: its folder.
        sizes: proportion of `train` and `holdout`, used to draw a holdout if the hub has none.
    """
    copy = json.loads((root / MARKER).read_text(encoding="utf-8"))
    parts = {
        part: [Row(f"{part}/{path}", int(path.partition("/")[0])) for path in paths]
        for part, paths in copy["parts"].items()
    }
    if "holdout" not in parts and "holdout" in sizes:
        rows = parts["train"]
        held = draw(rows, round(len(rows) * sizes["holdout"] / (sizes["train"] + sizes["holdout"])))
        parts["train"] = [row for row, is_held in zip(rows, held, strict=True) if not is_held]
        parts["holdout"] = [row for row, is_held in zip(rows, held, strict=True) if is_held]
    note = f"images from the hub's copy {copy['repo']} at {copy['revision'][:8]}"
    return Listing(tuple(copy["classes"]), parts, notes=(note,))


def fetch(hub: Hub, draft: Path) -> None:
    """Download the parts and write their images; on failure, the folder and the files so far are kept.

    Raises:
        DownloadError: if a library is missing, or the hub does not provide the set.
    """
    api, parquet = _library("huggingface_hub").HfApi(), _library("pyarrow.parquet")
    store = draft / "parquet"
    with _hub_errors(hub.repo):
        revision, files = _download(api, hub, store)
    try:
        hub = _with_columns(parquet, hub, next(iter(files.values()))[0])
        classes = _classes(parquet, hub, [file for own in files.values() for file in own])
        paths = {part: _write(parquet, hub, own, draft / part, len(classes)) for part, own in files.items()}
    except InputError:
        raise
    except OSError as error:
        raise DownloadError(f"images cannot be written ({error.strerror or error})") from error
    except (ValueError, RuntimeError) as error:  # from pyarrow
        shutil.rmtree(store)
        raise DownloadError(f"damaged parquet files ({_one_line(error)})") from error
    copy = {"repo": hub.repo, "revision": revision, "classes": classes, "parts": paths}
    (draft / MARKER).write_text(json.dumps(copy), encoding="utf-8")
    shutil.rmtree(store)


def _download(api: Any, hub: Hub, store: Path) -> tuple[str, dict[str, list[Path]]]:
    """Download the files of each part; return their commit and paths."""
    _check_reachable(api.endpoint)
    info = api.dataset_info(hub.repo, timeout=ANSWER_SECONDS, files_metadata=True)
    sums = {s.rfilename: f"sha256:{s.lfs.sha256}" if s.lfs else "" for s in info.siblings or ()}
    hub = hub if hub.parts else _with_parts(hub, list(sums))
    names = {part: _names(hub, split, list(sums)) for part, split in hub.parts.items()}
    options = {"repo_type": "dataset", "revision": info.sha, "local_dir": store / info.sha}
    files = {
        part: [_checked(Path(api.hf_hub_download(hub.repo, name, **options)), sums[name]) for name in own]
        for part, own in names.items()
    }
    return info.sha, files


def _with_parts(hub: Hub, names: Sequence[str]) -> Hub:
    """Return a hub with the parts that the names of its files tell. Raises DownloadError if they do not."""
    found: dict[str, dict[str, str]] = {}  # by configuration
    for name in names:
        if (match := FILE.fullmatch(name)) and (part := part_of(match["split"])):
            found.setdefault(match["config"] or "", {})[part] = match["split"]
    if not found:
        copy = f"hf download {hub.repo} --repo-type dataset --local-dir FOLDER"
        raise DownloadError(
            f"no parquet files with a split train; if it has images as files: {copy}, then target=FOLDER"
        )
    if hub.config not in found and (hub.config or len(found) > 1):
        known = ", ".join(f"hf:{hub.repo}/{config}" for config in sorted(found))
        raise DownloadError(f"several configurations; expected one of {known}")
    config = hub.config if hub.config in found else next(iter(found))
    return replace(hub, parts=found[config], config=config)


def _with_columns(parquet: Any, hub: Hub, file: Path) -> Hub:
    """Return a hub with the columns that are images and classes. Raises DownloadError if there are none."""
    if hub.image and hub.label:
        return hub
    metadata = parquet.read_schema(file).metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        kinds = {name: feature["_type"] for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        kinds = {}
    images, labels = ([n for n, own in kinds.items() if own == kind] for kind in ("Image", "ClassLabel"))
    if not (images and labels):
        raise DownloadError("no column of images and one of class labels; expected a set for classification")
    return replace(hub, image=images[0], label=labels[0])


def _library(name: str) -> Any:
    """Import an optional library. Raises DownloadError if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = name.partition(".")[0]
        raise DownloadError(f"needs {missing}: {install_command('hub')}") from error


def _check_reachable(endpoint: str) -> None:
    """Check that the hub answers; its library is slower to report that it does not."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:  # otherwise the library reports it
        check_reachable(endpoint)


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turn errors of the library, which uses requests or httpx, into a one-line error."""
    from huggingface_hub import errors

    try:
        yield
    except InputError:
        raise
    except errors.GatedRepoError as error:
        raise _gated(repo) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError("no such repository, or a private one (`hf auth login`)") from error
    except (OSError, RuntimeError, ValueError, errors.HTTPError) as error:
        cause = error.__cause__ or error  # the library reports every refusal as a lost connection
        if getattr(getattr(cause, "response", None), "status_code", 0) in (401, 403):
            raise _gated(repo) from error
        raise DownloadError(_one_line(cause)) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _gated(repo: str) -> DownloadError:
    return DownloadError(
        f"gated: accept the terms and log in (https://huggingface.co/datasets/{repo}, `hf auth login`)"
    )


def _names(hub: Hub, split: str, names: Sequence[str]) -> list[str]:
    """Find the files of a split, in order. Raises DownloadError if they are incomplete."""
    config = f"{re.escape(hub.config)}[/-]" if hub.config else ""
    pattern = re.compile(rf"(?:data/)?{config}{re.escape(split)}-(\d{{5}})-of-(\d{{5}})[^/]*\.parquet")
    found = sorted((m for name in names if (m := pattern.fullmatch(name))), key=lambda m: m[1])
    if not found:
        raise DownloadError(f"no parquet files of {' '.join((hub.config, split)).strip()}")
    if [int(m[1]) for m in found] != list(range(int(found[0][2]))):
        raise DownloadError(f"{len(found)} parquet files of {split}; expected {int(found[0][2])}")
    return [m[0] for m in found]


def _checked(file: Path, checksum: str) -> Path:
    if not verify(file, checksum):
        file.unlink()
        raise DownloadError(f"{file.name}: its checksum differs from the hub's")
    return file


def _classes(parquet: Any, hub: Hub, files: Sequence[Path]) -> list[str]:
    """Read the class names from the metadata of each file."""
    found = set()
    for file in files:
        schema = parquet.read_schema(file)
        if missing := {hub.image, hub.label} - set(schema.names):
            raise DownloadError(f"{file.name}: no column {min(missing)}; it has {', '.join(schema.names)}")
        try:
            names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][hub.label]["names"]
            if not isinstance(names, list):
                raise TypeError(names)
        except (KeyError, TypeError, ValueError) as error:
            raise DownloadError(f"{file.name}: column {hub.label} has no class names") from error
        found.add(tuple(map(str, names)))
    if len(found) != 1:
        raise DownloadError(f"column {hub.label} has different class names in different files")
    return list(found.pop())


def _write(parquet: Any, hub: Hub, files: Sequence[Path], folder: Path, num_classes: int) -> list[str]:
    """Write the images of a part; return their paths relative to its folder, in order."""
    shutil.rmtree(folder, ignore_errors=True)  # from an earlier attempt
    paths: list[str] = []
    words = f"writing images of {folder.name}"
    for file in track(files, words, console=Console(stderr=True), transient=True, disable=len(files) < 8):
        for image, label in _rows(parquet, hub, file):
            if label is None or not 0 <= label < num_classes:
                raise DownloadError(
                    f"row {len(paths)} of {folder.name}: label {label}; expected 0 to {num_classes - 1}"
                )
            if not image:
                raise DownloadError(f"row {len(paths)} of {folder.name}: no image")
            path = f"{label:05}/{len(paths):08}{_suffix(image)}"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(image)
            paths.append(path)
    return paths


def _rows(parquet: Any, hub: Hub, file: Path) -> Iterator[tuple[bytes | None, int | None]]:
    """Yield images and labels, a few in memory at a time."""
    table = parquet.ParquetFile(file, buffer_size=BUFFER_BYTES)
    for batch in table.iter_batches(BATCH_ROWS, columns=[hub.image, hub.label]):
        images, labels = (batch.column(name).to_pylist() for name in (hub.image, hub.label))
        for image, label in zip(images, labels, strict=True):
            yield image and image["bytes"], label


def _suffix(image: bytes) -> str:
    return next((suffix for magic, suffix in SUFFIXES.items() if image.startswith(magic)), ".img")
