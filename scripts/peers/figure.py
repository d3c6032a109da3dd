"""Draw `docs/images/peers.png` from the tables in `docs/benchmarks.md`.

python scripts/peers/figure.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[2] / "docs"
OURS, THEIRS = "#0b6e99", "#b0b0b0"
PANELS = {
    "loader": "training images in a second of one thread",
    "reading": "ms of one thread, an X-ray",
    "nnU-Net": "seconds of two threads, nnU-Net (batch: busy machine)",
}


def table(text: str, heading: str) -> dict[str, float]:
    """Return the first number of each row of the table whose first column is called ``heading``."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(f"| {heading} |"))
    next(lines)
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, value, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        found[name.replace("`", "").replace("**", "")] = float(value.split()[0].replace(",", ""))
    return found


def main() -> None:
    """Draw and write."""
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    tables = {heading: table(text, heading) for heading in PANELS}
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
    figure.savefig(DOCS / "images/peers.png", dpi=110)


if __name__ == "__main__":
    main()
