"""Draw `docs/images/peers.png` and `minutes.png` from the tables in `docs/benchmarks.md`.

python scripts/peers/figure.py
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[2] / "docs"
OURS, THEIRS = "#0b6e99", "#b0b0b0"
WAYS = OURS, "#c77b21", "#777777", THEIRS
PANELS = {
    "loader": "training images in a second",
    "reading": "ms, an X-ray",
    "nnU-Net": "seconds, nnU-Net",
}


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of each row of the table whose first column is called ``heading``."""
    lines = itertools.dropwhile(lambda line: not line.startswith(f"| {heading} |"), text.splitlines())
    body = itertools.takewhile(lambda line: line.startswith("|"), itertools.islice(lines, 2, None))
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in body]


def number(cell: str) -> float:
    """Return the first number of a cell."""
    return float(cell.split()[0].replace(",", ""))


def speeds(text: str) -> Figure:
    """Draw the loaders and networks as bars."""
    tables = {heading: {row[0]: number(row[1]) for row in rows(text, heading)} for heading in PANELS}
    sizes = [len(values) for values in tables.values()]
    figure, axes = plt.subplots(len(PANELS), figsize=(7, 6), height_ratios=sizes, layout="constrained")
    for axis, (heading, values) in zip(axes, tables.items(), strict=True):
        peers = ("TorchIO", "torchxrayvision")
        colours = [THEIRS if heading == "nnU-Net" or name.startswith(peers) else OURS for name in values]
        bars = axis.barh(list(values), list(values.values()), color=colours)
        axis.bar_label(bars, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}", padding=3)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(PANELS[heading], loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def accuracy(text: str) -> Figure:
    """Draw the Dice after equal minutes with its intervals, a line for each way."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    ways = itertools.groupby(rows(text, "way"), key=lambda row: row[0])
    for k, (way, points) in enumerate(ways):
        minutes, dice = [], []
        for row in points:
            minutes.append(number(row[1]) * 1.02**k)  # side by side, so that intervals can be told apart
            dice.append([float(value) for value in re.findall(r"\d\.\d+", row[3])])
        middle, low, high = zip(*dice, strict=True)
        below, above = ([abs(a - b) for a, b in zip(middle, ends, strict=True)] for ends in (low, high))
        axis.errorbar(minutes, middle, (below, above), fmt="o-", color=WAYS[k], label=way, capsize=3)
    axis.set_xscale("log")
    axis.set_xticks(ticks := [10, 20, 40, 75], map(str, ticks))
    axis.minorticks_off()
    axis.set_xlabel("minutes of training on 2 cores")
    axis.set_ylabel("mean Dice on 20 patients, 95% interval")
    axis.legend(loc="lower right", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Draw and write."""
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    for name, draw in {"peers": speeds, "minutes": accuracy}.items():
        draw(text).savefig(DOCS / f"images/{name}.png", dpi=110)


if __name__ == "__main__":
    main()
