"""Figures of an evaluation of boxes: a gallery from the worst to the best, and the error of each edge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.evaluation.boxes import EDGES, SIZES, ratio_cases
from pipelines.evaluation.figures import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    bland_altman_figure,
    new_figure,
    save_figure,
    tidy,
)
from pipelines.readers.xray import read_xray_shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Boxes = Sequence[tuple[Sequence[float], Sequence[float]]]
_SHOWN = 12
_NAMES = ("left edge", "upper edge", "right edge", "lower edge", "width", "height")


def box_figures(cases: pd.DataFrame, folder: Path) -> None:
    """Draw what a table of box scores shows: the errors and, where known, the ratio's agreement, in ``folder``."""
    error_figure(cases, folder / "error_by_edge.png")
    if "ratio" in cases and len(pairs := ratio_cases(cases)):
        columns, path = ("ratio", "reference_ratio"), folder / "bland_altman_ratio.png"
        note = "PA" if (pairs["view"] == "PA").all() else "view unknown"
        bland_altman_figure(pairs, path, columns, "cardiothoracic ratio", unit="", note=note)


def gallery_figure(
    cases: pd.DataFrame, images: Sequence[str], boxes: Boxes, path: str | os.PathLike[str]
) -> None:
    """Draw X-rays with both boxes, from the worst IoU to the best in even steps.

    Args:
        cases: columns ``case`` and ``iou``.
        images: the file of each case.
        boxes: prediction and reference of each case, edges as fractions of the image.
        path: where to write.
    """
    order = np.argsort(cases["iou"].to_numpy(), kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, _SHOWN).round().astype(int))]
    columns = min(4, len(chosen))
    figure = new_figure(2.6 * columns, 2.8 * -(-len(chosen) // columns) + 0.4)
    # the layout reserves too little for titles of two lines above images of a fixed shape
    figure.get_layout_engine().set(h_pad=0.1)
    grid = figure.subplots(-(-len(chosen) // columns), columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, row in zip(grid, chosen, strict=False):
        draw_boxes(axes, read_xray_shown(images[row], 16, 256)[1], *boxes[row])
        name = str(cases["case"].iloc[row])[-24:]
        axes.set_title(f"{name}\nIoU {cases['iou'].iloc[row]:.3f}", fontsize=8, parse_math=False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    save_figure(figure, path)


def box_figure(
    image: str,
    prediction: Sequence[float],
    reference: Sequence[float],
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Draw one X-ray with both boxes.

    Args:
        image: its file.
        prediction: edges as fractions of the image.
        reference: likewise.
        path: where to write.
        title: stands above.
    """
    figure = new_figure(5.2, 5.6)
    axes = figure.subplots()
    draw_boxes(axes, read_xray_shown(image, 16, 768)[1], prediction, reference)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10, parse_math=False)
    save_figure(figure, path)


def draw_boxes(
    axes: Axes, picture: np.ndarray, prediction: Sequence[float], reference: Sequence[float]
) -> None:
    """Draw a picture (rows, columns) with the predicted and the reference box and thorax, fractions of the picture."""
    from matplotlib.patches import Rectangle

    rows, columns = picture.shape
    axes.imshow(picture, cmap="gray", extent=(0, columns, rows, 0))
    for name, edges, colour, style in (
        ("prediction", prediction, ORANGE, "-"),
        ("reference", reference, SKY, "--"),
    ):
        x0, y0, x1, y1 = (v * side for v, side in zip(edges[:4], (columns, rows) * 2, strict=True))
        look = {"edgecolor": colour, "linestyle": style, "linewidth": 1.4, "fill": False, "label": name}
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **look))
        for x in edges[4:]:
            axes.axvline(x * columns, color=colour, linestyle=style, linewidth=0.9, alpha=0.7)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_axis_off()


def error_figure(cases: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw the error of each edge, of the width and of the height, beside those of the constant box.

    Args:
        cases: columns ``error_<edge>_px`` and so on, of a constant box ``baseline_error_<edge>_px``.
        path: where to write.
    """
    sets = [("network", "", BLUE)]
    if "baseline_iou" in cases:
        sets.append(("constant mean box", "baseline_", GREY))
    figure = new_figure(7.2, 4.2)
    axes = tidy(figure.subplots())
    for index, (name, prefix, colour) in enumerate(sets):
        errors = [cases[f"{prefix}error_{edge}_px"] for edge in (*EDGES, *SIZES)]
        places = np.arange(len(errors)) + 0.36 * (index - (len(sets) - 1) / 2)
        look = {"boxprops": {"facecolor": colour, "alpha": 0.5}, "medianprops": {"color": "black"}}
        flier = {"marker": ".", "markersize": 3, "markeredgecolor": colour}
        drawn = axes.boxplot(
            errors, positions=places, widths=0.3, patch_artist=True, flierprops=flier, **look
        )
        drawn["boxes"][0].set_label(name)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(range(len(_NAMES)), _NAMES)
    axes.set_ylabel("predicted - reference (pixels of the original)")
    axes.set_title(f"Error by edge, {len(cases)} case{'s' * (len(cases) != 1)}", loc="left")
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)
