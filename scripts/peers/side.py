"""A program that ``turns.py`` asks for numbers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

# On a busy machine CLOCK=cpu OMP_NUM_THREADS=1 still compares what runs in one process: it counts its processor time.
clock = time.process_time if os.environ.get("CLOCK") == "cpu" else time.perf_counter


def answer(measure: Callable[[], float]) -> None:
    """Be a side: warm up once, then answer each line of the input with what ``measure`` returns."""
    measure()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(f"{measure():.4f}", flush=True)
