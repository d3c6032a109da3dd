"""A predicted mask over its image, so that a person can judge it at a glance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.evaluation.figures import ORANGE, SKY, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Excerpt(NamedTuple):
    """A few slices of a case, all an overlay needs.

    ``image``: (X, Y, N) uint8; ``prediction``: (X, Y, N) bool; ``reference``: the same or None; ``slices``: N
    indices along the volume's third axis.
    """

    image: np.ndarray
    prediction: np.ndarray
    reference: np.ndarray | None
    slices: list[int]


def overlay_figure(
    image: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray | None,
    spacing: Sequence[float],
    path: str | os.PathLike[str],
    title: str = "",
) -> None:
    """Draw a few slices of a case in a row, with the outlines of prediction and reference.

    Slices are taken across the third axis; the first axis points right and the second down, so an array
    oriented LPS appears in the radiological convention.

    Args:
        image: (X, Y, Z), any intensities.
        prediction: (X, Y, Z) bool.
        reference: (X, Y, Z) bool, or None where there is none.
        spacing: (3,) mm.
        path: where to write.
        title: stands above, such as the case and its Dice.
    """
    draw_excerpt(excerpt(image, prediction, reference, spacing), spacing, path, title)


def excerpt(
    image: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray | None,
    spacing: Sequence[float],
    count: int = 5,
    margin: float = 25.0,
) -> Excerpt:
    """Return what an overlay shows: ``count`` slices spread over the masks, cropped around them.

    Args:
        image: (X, Y, Z), any intensities; the 1st to 99th percentile of what is shown becomes 0 to 255.
        prediction: (X, Y, Z) bool.
        reference: (X, Y, Z) bool, or None.
        spacing: (3,) mm.
        count: number of slices at most.
        margin: mm kept around the masks. Where both are empty the whole volume is covered.
    """
    union = prediction if reference is None else prediction | reference
    inside = union if union.any() else np.ones_like(union)
    box = []
    for axis in range(3):
        found = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        room = round(margin / spacing[axis]) if axis < 2 else 0
        box.append((max(0, int(found[0]) - room), min(union.shape[axis], int(found[-1]) + 1 + room)))
    (left, right), (top, bottom), (low, high) = box
    inner = np.linspace(low, high - 1, count + 2)[1:-1].round().astype(int)
    slices = inner if high - low > count else np.arange(low, high)
    shown = np.ix_(range(left, right), range(top, bottom), slices)
    return Excerpt(
        _to_uint8(image[shown]),
        prediction[shown],
        None if reference is None else reference[shown],
        slices.tolist(),
    )


def draw_excerpt(
    shown: Excerpt, spacing: Sequence[float], path: str | os.PathLike[str], title: str = ""
) -> None:
    """Draw an ``excerpt``; the arguments are those of ``overlay_figure``."""
    from matplotlib.lines import Line2D

    outlines = [("prediction", shown.prediction, ORANGE, "-"), ("reference", shown.reference, SKY, "--")]
    outlines = [outline for outline in outlines if outline[1] is not None]
    columns, (width, height) = len(shown.slices), np.array(shown.image.shape[:2]) * spacing[:2]
    figure = new_figure(2.4 * columns, min(8.0, 2.4 * height / width) + 0.8)
    for column, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        axes.imshow(shown.image[..., column].T, cmap="gray", vmin=0, vmax=255, aspect=spacing[1] / spacing[0])
        for _, mask, colour, style in outlines:
            draw_outline(axes, mask[..., column], colour, style)
        axes.set_title(f"slice {shown.slices[column]}", fontsize=8)
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=colour, linestyle=style, label=name) for name, _, colour, style in outlines
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    image = np.nan_to_num(image.astype(np.float32))
    low, high = np.percentile(image, [1, 99])
    return ((image - low) / max(high - low, 1e-6) * 255).clip(0, 255).astype(np.uint8)


def draw_outline(axes: Axes, mask: np.ndarray, colour: str, style: str = "-") -> None:
    """Draw the outline of a (X, Y) mask over an image of its transpose, closed also where it meets the border."""
    padded = np.pad(mask.T, 1).astype(float)
    if padded.any():
        rows, columns = (np.arange(-1, size - 1) for size in padded.shape)
        axes.contour(columns, rows, padded, levels=[0.5], colors=colour, linestyles=style, linewidths=1.3)
