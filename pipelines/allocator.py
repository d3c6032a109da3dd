"""The C library's memory: what a network frees is kept for its next layer."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_ALL = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed memory in the process; with any other C library nothing happens.

    By default a large feature map gets pages from the system and gives them back when it is freed, so that those of
    the next layer are mapped and zeroed anew: a quarter of a ResNet18's time on a processor. To be called once what
    stays in memory is there: what is made and freed in between leaves gaps.

    Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _ALL)
