"""Read tensor files from untrusted sources: no code in them runs, and none decompresses beyond its size."""

import errno
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DOS_FOLDER = 0x10  # bit of a zip entry's attributes


def read_tensors(path: Path, device: str | torch.device = "cpu") -> Any:
    """Read a file by `torch.save` with plain values and tensors, or a `.safetensors` file.

    Raises: ValueError with a short reason; OSError.
    """
    if path.suffix == ".safetensors":
        return _safe(path, device)
    _check_packing(path)
    with _named():
        content = torch.load(path, map_location=device, weights_only=True)
    for name, tensor in tensors_in(content):
        if tensor.layout is torch.strided and tensor.numel() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name or 'a tensor'} has {tensor.numel():,} values and bytes for fewer")
    return content


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


def _check_packing(path: Path) -> None:
    """Check that an archive is undamaged and uncompressed; torch checks neither, and never compresses."""
    with _named():
        if not zipfile.is_zipfile(path):  # a format before PyTorch 1.6, or not a torch file
            return
        with zipfile.ZipFile(path) as archive:
            num_bytes = sum(entry.file_size for entry in archive.infolist())
            if folders := [
                e.filename for e in archive.infolist() if e.is_dir() or e.external_attr & DOS_FOLDER
            ]:
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
