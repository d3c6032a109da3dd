"""Charts of a classification: ROC, precision and recall, reliability, confusion matrices and the worst errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.evaluation import classification as scores
from pipelines.evaluation.figures import BLUE, GREY, ORANGE, SKY, new_figure, save_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MARKS = {"rule_out": "v", "balanced": "o", "rule_in": "^"}


def classification_figures(cases: pd.DataFrame, folder: Path) -> None:
    """Draw what a table of cases shows: ROC, precision and recall, reliability and confusion, in ``folder``."""
    roc_figure(cases, folder / "roc.png")
    precision_recall_figure(cases, folder / "precision_recall.png")
    reliability_figure(cases, folder / "reliability.png")
    confusion_figure(cases, folder / "confusion.png")


def roc_figure(cases: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw the ROC curve of the network and of the header alone, with the operating points.

    Args:
        cases: see :func:`pipelines.evaluation.classification_report.summarise`.
        path: where to write.
    """
    figure = new_figure(4.8, 4.8)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6)
    curves = {"probability": ("network", BLUE, "-"), "header_only": ("view, sex and age alone", ORANGE, "--")}
    for column, (name, colour, style) in curves.items():
        if column in cases:
            area = scores.auroc(cases["label"], cases[column])
            curve = scores.roc_curve(cases["label"], cases[column])
            axes.plot(*curve, style, color=colour, label=f"{name}: {area:.3f}")
    for point, marker in _MARKS.items():
        if f"decision_{point}" in cases:
            decisions = cases["label"], cases[f"decision_{point}"]
            at = 1 - scores.specificity(*decisions), scores.sensitivity(*decisions)
            axes.plot(*at, marker, color="black", label=point.replace("_", "-"), markersize=6)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _finish(axes, f"ROC, {len(cases)} cases", "lower right")
    save_figure(figure, path)


def precision_recall_figure(cases: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw precision against recall, with the share of positives, which is the precision of a guess."""
    figure = new_figure(4.8, 4.8)
    axes = figure.subplots()
    area = scores.average_precision(cases["label"], cases["probability"])
    curve = scores.precision_recall_curve(cases["label"], cases["probability"])
    axes.plot(*curve, color=BLUE, label=f"network: average precision {area:.3f}")
    share = cases["label"].mean()
    axes.axhline(share, color=GREY, linestyle="--", linewidth=0.8, label=f"share of positives {share:.3f}")
    axes.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _finish(axes, f"Precision and recall, {len(cases)} cases", "lower left")
    save_figure(figure, path)


def reliability_figure(cases: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw the share of positives against the mean probability of each bin, and how many cases there are."""
    figure = new_figure(4.8, 5.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.6)
    calibrated = "cross_fitted" if "cross_fitted" in cases else "probability"
    for column, name, colour, style in (
        ("uncalibrated", "network as it is", ORANGE, "s--"),
        (calibrated, "after temperature scaling", BLUE, "o-"),
    ):
        _, share, mean = scores.reliability(cases["label"], cases[column])
        error = scores.calibration_error(cases["label"], cases[column])
        upper.plot(mean, share, style, color=colour, label=f"{name}: error {error:.3f}", markersize=4)
        histogram = np.histogram(cases[column], bins=scores.BINS, range=(0, 1))
        lower.stairs(*histogram, color=colour, linestyle=style[1:])
    upper.set(ylabel="share of positives", ylim=(-0.02, 1.02))
    lower.set(xlabel="probability", ylabel="cases", xlim=(-0.02, 1.02))
    _finish(upper, f"Reliability, {len(cases)} cases", "upper left")
    save_figure(figure, path)


def confusion_figure(cases: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw the confusion matrix of each operating point; nothing where none were chosen."""
    points = [point for point in scores.OPERATING_POINTS if f"decision_{point}" in cases]
    if not points:
        return
    figure = new_figure(3.1 * len(points), 3.3)
    for axes, point in zip(figure.subplots(1, len(points), squeeze=False)[0], points, strict=True):
        counts = np.zeros((2, 2), dtype=int)
        np.add.at(counts, (cases["label"].astype(int), cases[f"decision_{point}"].astype(int)), 1)
        shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=2.2)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center")
        axes.set_xticks((0, 1), ("negative", "positive"))
        axes.set_yticks((0, 1), ("negative", "positive"))
        axes.set_ylabel("label")
        axes.set_title(point.replace("_", "-"), fontsize=10)
        axes.set_xlabel("decision")
    save_figure(figure, path)


def errors_figure(
    pictures: Sequence[np.ndarray], titles: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draw pictures, (rows, columns, 3) uint8 each, four a row with their titles; nothing where there is none."""
    if not pictures:
        return
    rows = -(-len(pictures) // 4)
    figure = new_figure(12, 3.4 * rows)
    grid = figure.subplots(rows, 4, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, picture, title in zip(grid, pictures, titles, strict=False):
        axes.imshow(picture)
        axes.set_title(title, fontsize=7, parse_math=False)
    save_figure(figure, path)


def case_figure(
    picture: np.ndarray,
    hot: np.ndarray,
    boxes: np.ndarray,
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Draw an X-ray, beside it the same under its heat map, and the reference's boxes in both.

    Args:
        picture: (rows, columns) uint8.
        hot: (rows, columns, 3) uint8.
        boxes: (N, 4) edges x0, y0, x1, y1 as fractions of the image.
        path: where to write.
        title: stands above.
    """
    from matplotlib.patches import Rectangle

    figure = new_figure(8.4, 4.8)
    rows, columns = picture.shape
    for axes, shown, name in zip(figure.subplots(1, 2), (picture, hot), ("X-ray", "heat map"), strict=True):
        axes.imshow(shown, cmap="gray")
        axes.set_title(name, fontsize=8)
        axes.set_axis_off()
        for x0, y0, x1, y1 in boxes * np.array([columns, rows] * 2):
            look = {"edgecolor": SKY, "linestyle": "--", "linewidth": 1.4, "fill": False}
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, label="reference", **look))
    if len(boxes):
        figure.legend(*(part[:1] for part in axes.get_legend_handles_labels()), loc="outside lower center")
    figure.suptitle(title, fontsize=10, parse_math=False)
    save_figure(figure, path)


def _finish(axes: Axes, title: str, place: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc=place)
    axes.set_title(title, loc="left", fontsize=11)
