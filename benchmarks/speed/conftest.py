"""Add a description of the machine to the results of `make speed`."""

import os
from importlib.metadata import version
from typing import Any

import torch

NAMED = ("torch", "torchvision", "timm", "numpy", "pillow")


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Add cores, device and versions of libraries."""
    machine_info["cores"] = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    machine_info["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    machine_info["versions"] = {name: version(name) for name in NAMED}
