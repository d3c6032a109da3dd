"""A program that ``turns.py`` asks for numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable


def answer(measure: Callable[[], float]) -> None:
    """Be a side: warm up once, then answer each line of the input with what ``measure`` returns."""
    measure()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(f"{measure():.4f}", flush=True)
