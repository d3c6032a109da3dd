"""What a benchmark found: figures with what they are to reach, and what they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pipelines.files import json_text

if TYPE_CHECKING:
    from rich.console import Console

_PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite", "mlflow", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        name: what was measured.
        value: in ``unit``.
        unit: e.g. "images/s".
        ratio: of what was measured to what it is measured against; None where it is a plain number.
        against: what that is.
        at_least: what the ratio, or the value where there is no ratio, is to reach; None for none.
        at_most: likewise.
    """

    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the figure reaches what it is to reach; None where nothing is asked of it."""
        judged = self.value if self.ratio is None else self.ratio
        if self.at_least is not None:
            return judged >= self.at_least
        return judged <= self.at_most if self.at_most is not None else None

    @property
    def reach(self) -> str:
        """What is to be reached, in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}" if self.at_most is not None else ""

    def content(self) -> dict[str, Any]:
        """Return the figure as JSON has it."""
        named = asdict(self)
        rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in named.items()}
        return {**rounded, "reach": self.reach, "met": self.met}


@dataclass
class Benchmark:
    """All figures of one kind.

    Attributes:
        kind: "train", "predict", "prepare", "startup" or "memory".
        bundle: the bundle's name.
        settings: what was measured: rounds, images, device and the like.
        figures: what was found.
        load_before: of the machine before it began, see :func:`load`; what it did itself is in the one after it.
    """

    kind: str
    bundle: str
    settings: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    load_before: float | None = None

    def content(self) -> dict[str, Any]:
        """Return everything as JSON has it. No name of the machine, the user or a file is in it."""
        figures = [figure.content() for figure in self.figures]
        head = {"benchmark": self.kind, "bundle": self.bundle, "settings": self.settings}
        return {**head, "figures": figures, "machine": {**machine(), "load_before": self.load_before}}

    def to_json(self) -> str:
        """Return the content as text."""
        return json_text(self.content()).rstrip()

    def print(self, console: Console) -> None:
        """Print a table for people."""
        from rich.table import Table

        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        loads = f"load before {self.load_before}, after {load()}"
        table = Table(
            title=f"{self.kind} {self.bundle}: {settings}",
            caption=loads,
            title_justify="left",
            caption_justify="left",
        )
        for column in ("", "value", "ratio", "to", "reach", ""):
            table.add_column(column)
        for figure in self.figures:
            ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
            verdict = {True: "[green]met[/]", False: "[yellow]not met[/]", None: ""}[figure.met]
            value = f"{figure.value:.4g} {figure.unit}"
            table.add_row(figure.name, value, ratio, figure.against, figure.reach, verdict)
        console.print(table)


def machine() -> dict[str, Any]:
    """Return the kind of machine, its load, the threads used and the versions of what computes."""
    import torch

    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "kind": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": load(),
        "versions": versions,
    }


def load() -> float | None:
    """Return how many processes were at work or waiting for work in the last minute; None where it is not known."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of numbers that were measured in turns.

    Args:
        above: one number a round.
        below: likewise; or one more, measured before the first round and after each: a round is then compared with
            the mean of those at its two sides.
    """
    if len(below) == len(above) + 1:
        below = [(one + other) / 2 for one, other in pairwise(below)]
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
