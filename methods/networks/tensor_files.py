"""Read tensor files from untrusted sources: no code in them runs, and none decompresses beyond its size."""

import errno
import json
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PICKLE = b"\x80"  # first byte of what `torch.save` wrote before PyTorch 1.6
DOS_FOLDER = 0x10  # bit of a zip entry's attributes
MOST_INDEX = 100_000_000  # bytes of the index of a file in several parts
KNOWN = (  # first bytes of files that are often given in place of weights, and what they are
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (b"<", "a web page or XML, not the file itself; download it again"),
    (b"\x89HDF", "an HDF5 file, as of Keras"),
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    (b"BZh", "compressed by bzip2; unpack it"),
    (b"\xfd7zXZ", "compressed by xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it"),
    (b"\x93NUMPY", "a NumPy array"),
)
IGNORED = (  # modules whose objects lie beside the weights in files of training; they are left out
    *("argparse", "pathlib", "datetime", "collections", "enum", "numpy", "_codecs"),
    *("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "torchmetrics"),
    *("omegaconf", "yacs", "fvcore", "mmengine", "mmcv", "easydict", "addict", "ml_collections"),
    *("timm", "transformers", "accelerate", "apex"),
    *(f"builtins.{kind}" for kind in ("int", "float", "str", "list", "dict", "set", "tuple", "bool")),
)


def read_tensors(path: Path, device: str | torch.device = "cpu") -> Any:
    """Read a file by `torch.save` with plain values and tensors, or `.safetensors`; the content decides.

    The index of a file in several parts, as `model.safetensors.index.json`, reads all its parts.

    Raises: ValueError with a short reason; OSError.
    """
    with path.open("rb") as file:
        start = file.read(256)
    if not start:
        raise ValueError("the file is empty")
    if start[8:9] == b"{":
        return _safe(path, device)
    if start.lstrip()[:1] == b"{":
        return _parts(path, device)
    for first, kind in KNOWN:
        if start.lstrip().startswith(first):
            raise ValueError(f"it is {kind}")
    _check_packing(path)
    with _named(), warnings.catch_warnings(), torch.serialization.safe_globals(_stand_ins(path)):
        warnings.simplefilter("ignore")  # the error says it
        content = torch.load(path, map_location=device, weights_only=True)
    for name, tensor in tensors_in(content):
        if tensor.device.type == "meta":
            raise ValueError(f"{name or 'a tensor'} has no values; it was saved from the device 'meta'")
        if tensor.layout is torch.strided and tensor.numel() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name or 'a tensor'} has {tensor.numel():,} values and bytes for fewer")
    return content


def files_of(path: Path) -> list[Path]:
    """Return all files that `read_tensors` reads for a path: itself, and the parts that an index names.

    Raises: ValueError with a short reason; OSError.
    """
    with path.open("rb") as file:
        if file.read(256).lstrip()[:1] != b"{":
            return [path]
    return [path, *(path.parent / name for name in sorted(set(_index(path).values())))]


def tensors_in(content: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested mappings and lists with their names, as `optimizer.state.0`."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from tensors_in(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, list | tuple):
        for key, value in enumerate(content):
            yield from tensors_in(value, f"{path}.{key}")


def misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return how the tensors of `state` differ in names and shapes from a model's own; empty if all fit."""
    words = [f"{name} is missing" for name in own if name not in state]
    words += [
        f"{name} has shape {list(state[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return words + [f"{name} is not one of its own" for name in state if name not in own]


def some(words: list[str]) -> str:
    """Return the first two, and the number of others, as text."""
    return "; ".join(words[:2]) + (f"; and {len(words) - 2} more" if len(words) > 2 else "")


def _safe(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise ValueError(_reason(error)) from error


def _index(path: Path) -> dict[str, str]:
    """Return the part of each tensor, from the index of a file in several parts."""
    if path.stat().st_size > MOST_INDEX:
        raise ValueError("it is no index of weights in several files")
    try:
        parts = json.loads(path.read_bytes())["weight_map"]
        names = {str(name): str(part) for name, part in parts.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is JSON without the 'weight_map' of an index of weights") from error
    for part in names.values():
        if Path(part).name != part:
            raise ValueError(f"its part {part!r} is not beside it")
    return names


def _parts(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    names = _index(path)
    found: dict[str, Tensor] = {}
    for part in sorted(set(names.values())):
        if not (path.parent / part).is_file():
            raise ValueError(f"its part {part} is missing beside it")
        tensors = read_tensors(path.parent / part, device)
        for name in (n for n, own in names.items() if own == part):
            if not isinstance(tensors, Mapping) or name not in tensors:
                raise ValueError(f"its part {part} has no {name}")
            found[name] = tensors[name]
    return found


class _Ignored:
    """An object of a training program that is left out; its own code never runs."""

    def __init__(self, *parts: Any) -> None:
        """Take no part in."""

    def __setstate__(self, state: Any) -> None:
        """Take no state in."""


class _IgnoredNames(OrderedDict[Any, Any]):
    """The same for classes like `dict`: the reader fills plain mappings only."""

    def __new__(cls, *parts: Any) -> Any:
        """Return an empty mapping."""
        return OrderedDict()


def _stand_ins(path: Path) -> list[Any]:
    """Return a stand-in for each class of a training program in a file; other classes stay refused."""
    if not zipfile.is_zipfile(path):
        return []
    with _named():
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    of_numpy = ("numpy.", "_codecs.")
    return [
        (_Ignored if name.startswith(of_numpy) else _IgnoredNames, name)
        for name in found
        if name.partition(".")[0] in IGNORED or name in IGNORED
    ]


def _check_packing(path: Path) -> None:
    """Check that an archive is undamaged and uncompressed; torch checks neither, and never compresses."""
    with _named():
        if not zipfile.is_zipfile(path):  # a format before PyTorch 1.6, or not a torch file
            with path.open("rb") as file:
                begin = file.read(4)
            if begin == b"PK\x03\x04":
                raise ValueError("its end is missing: the download or copy is not complete")
            if not begin.startswith(PICKLE):
                raise ValueError("it is no file of PyTorch")
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if entries and all(e.filename.endswith(".npy") for e in entries):
                raise ValueError("it is a NumPy archive, as of JAX")
            num_bytes = sum(entry.file_size for entry in entries)
            if folders := [e.filename for e in entries if e.is_dir() or e.external_attr & DOS_FOLDER]:
                raise ValueError(
                    f"{folders[0]} is marked as a folder"
                )  # torch would return uninitialized memory
            if num_bytes > path.stat().st_size:
                raise ValueError(f"unfolds to {num_bytes:,} bytes")
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")


@contextmanager
def _named() -> Iterator[None]:
    """Convert any error of a reader of damaged bytes to a ValueError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # an error of the disk, not of the content
        raise ValueError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if "weights_only" in str(error) or "Unsupported" in str(error):
        return "it holds more than tensors and plain values, and nothing of that is run"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
