"""Charts of an evaluation and of a training, as PNG (or any suffix matplotlib writes).

Colours are Okabe and Ito's, which colour-blind people tell apart; lines differ in style as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.evaluation.bootstrap import bootstrap_ci
from pipelines.evaluation.segmentation import bland_altman
from pipelines.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, SKY, GREY = "#0072B2", "#E69F00", "#56B4E9", "#666666"
_NAMED_CASES = 40  # beyond this many, names of cases would overlap


def bland_altman_figure(
    cases: pd.DataFrame,
    path: str | os.PathLike[str],
    columns: tuple[str, str] = ("volume_ml", "reference_volume_ml"),
    quantity: str = "volume",
    unit: str = "mL",
    note: str = "",
) -> None:
    """Draw measurements' differences against their means, with bias, limits of agreement and 95% intervals.

    Args:
        cases: a row a case. One case has no limits.
        path: where to write.
        columns: the prediction's and the reference's, without NaN.
        quantity: what is measured, for the labels.
        unit: its unit; empty for a ratio.
        note: which cases these are, behind their number in the title.

    Source: Bland and Altman, Lancet 1986; 327: 307-310.
    """
    prediction, reference = (cases[column].to_numpy(float) for column in columns)
    digits, suffix = (1, f" {unit}") if unit else (3, "")
    agreement = bland_altman(prediction, reference)
    figure = new_figure(6.4, 4.2)
    axes = tidy(figure.subplots())
    axes.scatter((prediction + reference) / 2, prediction - reference, color=BLUE, s=28, zorder=3)
    axes.axhline(0, color="black", linewidth=0.6)
    for name, label, style, side in (
        ("upper", "+1.96 SD", "--", "bottom"),
        ("bias", "bias", "-", "center"),
        ("lower", "-1.96 SD", "--", "top"),
    ):
        text = f"{label}: {agreement[name]:+.{digits}f}{suffix}"
        _level(axes, agreement[name], agreement[f"{name}_ci95"], text, style, side)
    in_unit = f" ({unit})" if unit else ""
    axes.set_xlabel(f"mean of predicted and reference {quantity}{in_unit}")
    axes.set_ylabel(f"predicted - reference{in_unit}")
    count = f"{agreement['n']} case{'s' * (agreement['n'] != 1)}" + (f" ({note})" if note else "")
    axes.set_title(f"Agreement of {quantity}s, {count}", loc="left")
    axes.margins(y=0.15)
    save_figure(figure, path)


def segmentation_figures(cases: pd.DataFrame, folder: Path) -> None:
    """Draw what a table of segmentation scores shows: ``bland_altman.png`` and ``dice_by_case.png`` in ``folder``."""
    bland_altman_figure(cases, folder / "bland_altman.png")
    dice_by_case_figure(cases, folder / "dice_by_case.png")


def dice_by_case_figure(cases: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw the Dice of each case, worst first, and their mean with its 95% interval.

    Args:
        cases: columns ``case`` and ``dice``, a row a case.
        path: where to write.
    """
    ranked = cases.sort_values("dice", kind="stable")
    mean, interval = ranked["dice"].mean(), bootstrap_ci(ranked["dice"])
    figure = new_figure(min(12.0, max(4.0, 1.6 + 0.26 * len(ranked))), 4.2)
    axes = tidy(figure.subplots())
    axes.scatter(range(len(ranked)), ranked["dice"], color=BLUE, s=28, zorder=3)
    _level(axes, mean, interval, f"mean\n{mean:.3f}", "-")
    if len(ranked) <= _NAMED_CASES:
        axes.set_xticks(
            range(len(ranked)), ranked["case"].astype(str).str.slice(0, 24), rotation=90, fontsize=8
        )
    else:
        axes.set_xlabel("case, by rank")
    axes.set_ylabel("Dice")
    axes.set_ylim(min(0.7, ranked["dice"].min() - 0.05), 1.0)
    axes.margins(x=0.05)
    save_figure(figure, path)


def learning_curves(history: Mapping[str, Sequence[tuple[int, float]]], path: str | os.PathLike[str]) -> None:
    """Draw how a training went: losses, validation metrics and learning rate below one another.

    Args:
        history: name to (epoch, value) pairs. Names with "loss" share the first panel, "lr" and names with
            "learning_rate" the last; everything else is a validation metric.
        path: where to write.
    """
    panels: dict[str, list[str]] = {"loss": [], "validation": [], "learning rate": []}
    # blue is the training's, whichever of the two a history begins with
    for name in sorted(history, key=lambda name: not name.startswith("train")):
        rate = name == "lr" or "learning_rate" in name
        panels["learning rate" if rate else "loss" if "loss" in name else "validation"].append(name)
    drawn = {title: names for title, names in panels.items() if names}
    figure = new_figure(6.4, 0.6 + 2.1 * max(1, len(drawn)))
    grid = figure.subplots(max(1, len(drawn)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(grid, drawn.items(), strict=False):
        colours = _colours(len(names) + 1)[title == "validation" :]
        for name, colour, style in zip(names, colours, _styles(len(names)), strict=False):
            epochs, values = zip(*history[name], strict=True) if history[name] else ((), ())
            axes.plot(epochs, values, style, color=colour, label=name, marker="o", markersize=2.5)
        axes.set_ylabel(title)
        axes.legend(frameon=False, fontsize=8)
        tidy(axes)
    grid[-1].set_xlabel("epoch")
    # of a single epoch, matplotlib shows fractions unless one tick is enough
    grid[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    save_figure(figure, path)


def _level(
    axes: Axes,
    value: float,
    interval: tuple[float, float] | None,
    label: str,
    style: str,
    side: str = "center",
) -> None:
    """Draw a line with a band and a label on one ``side`` of its right end, or nothing where it is undefined."""
    if not np.isfinite(value):
        return
    axes.axhline(value, color=ORANGE, linestyle=style, linewidth=1.4)
    if interval:
        axes.axhspan(*interval, color=ORANGE, alpha=0.15, linewidth=0)
    axes.annotate(
        label,
        (1, value),
        (4, 0),
        ("axes fraction", "data"),
        textcoords="offset points",
        va=side,
        fontsize=8,
    )


def _colours(count: int) -> list[str]:
    return [(BLUE, ORANGE, "#009E73", "#CC79A7", SKY, GREY)[i % 6] for i in range(count)]


def _styles(count: int) -> list[str]:
    return [("-", "--", "-.", ":")[i % 4] for i in range(count)]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` by ``height`` inches that needs no window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write ``figure`` at 150 dpi in the format of the suffix, whole or not at all; a PNG knows its title."""
    title = figure.get_suptitle()
    known = {"metadata": {"Title": title}} if title and os.fspath(path).endswith(".png") else {}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, **known)


def tidy(axes: Axes) -> Axes:
    """Return ``axes`` with faint lines and without a frame at the top and the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return axes
