"""What a training or evaluation makes of the device and the cores that it has."""

from __future__ import annotations

import os
from typing import Any

MOST_WORKERS = 4


def on_gpu(device: Any) -> bool:
    """Return whether a device is a GPU of CUDA, where mixed precision and page-locked batches are used."""
    return str(device).startswith("cuda")


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(asked: int | None, device: Any) -> int:
    """Return how many processes prepare batches ahead of the network.

    Args:
        asked: the setting ``num_workers``. None is none on a CPU, whose cores the network needs, and one a core on a
            GPU, up to ``MOST_WORKERS``.
        device: where the network is.
    """
    if asked is not None:
        return asked
    return min(MOST_WORKERS, usable_cores()) if on_gpu(device) else 0
