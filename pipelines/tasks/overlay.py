"""A segmented volume on one page, in radiological convention, for a person to judge at a glance."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.evaluation.overlays import draw_outline
from pipelines.files import atomic_path
from pipelines.readers.geometry import spacing_mm, volume_ml

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOUR = "#ffb000"  # orange stays apart from grey for colour-blind eyes as well
_AXIAL_SLICES = 8
_MARGIN_MM = 20.0
_TITLE_Y = (
    1.0  # where it is anyway; unless told, matplotlib measures every tick to find out, and none is drawn
)
_FOOTNOTE = "radiological convention: the patient's right is on the left; research use, not a medical device"
# Of an array whose axes run to the patient's left, back and feet: the axis looked along, its name, the
# letters at the picture's left, right, top and bottom.
_VIEWS = ((2, "axial", "RLAP"), (1, "coronal", "RLSI"), (0, "sagittal", "APSI"))


def save_overlay(
    image: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    path: str | os.PathLike[str],
    title: str,
    structure: str = "left atrium",
    review: Sequence[str] = (),
) -> None:
    """Draw three orthogonal views through the mask's centre, and a row of axial slices, with the mask's
    outline.

    Radiological convention: the patient's right is on the left, the front on top, the head on top. Views of
    an oblique scan run along its own axes, each named by the nearest anatomical one. Proportions are true to
    mm. An empty mask gives the middle slices and says so.

    Args:
        image: (X, Y, Z), any intensities; the 1st to 99.5th percentile is shown.
        mask: (X, Y, Z) bool.
        affine: (4, 4), voxel index to RAS+ mm.
        path: a ``.png`` file, written whole or not at all.
        title: stands above, before the volume in mL.
        structure: what the mask is of.
        review: why a person should look at it again, a line each below the title.
    """
    volume = volume_ml(mask, spacing_mm(affine))
    image, mask, spacing, numbers = _to_lpi(image, mask, affine)
    figure, upper, lower = _page(np.array(mask.shape) * spacing, len(review))
    answer = f"{structure} {volume:.1f} mL" if mask.any() else f"no {structure} found"
    figure.suptitle(f"{title}   {answer}", fontsize=14, color="white", parse_math=False)
    if review:
        lines = "\n".join(f"review: {reason}" for reason in review)
        upper[0].get_figure(root=False).suptitle(lines, fontsize=10, color=_COLOUR, parse_math=False)
    # of a million voxels or so, for a sort of all takes longer than the picture
    some = image[tuple(slice(None, None, math.ceil((image.size / 1e6) ** (1 / 3))) for _ in range(3))]
    limits = np.percentile(some[np.isfinite(some)], (1, 99.5))
    centre = _centre(mask)
    for axes, (axis, name, letters) in zip(upper, _VIEWS, strict=True):
        _draw_slice(axes, image, mask, spacing, axis, centre[axis], limits)
        number = f"slice {numbers[axis][centre[axis]]} of {mask.shape[axis]}"
        axes.set_title(f"{name}, {number}", fontsize=10, color="white", y=_TITLE_Y)
        _letters(axes, letters)
        _scale_bar(axes, np.delete(spacing, axis)[0])
    box = _around(mask, spacing)
    for axes, index in itertools.zip_longest(lower, _axial_slices(mask)):
        axes.set_axis_off()
        if index is not None:
            _draw_slice(axes, image[box], mask[box], spacing, 2, index, limits)
            axes.set_title(f"axial {numbers[2][index]}", fontsize=8, color="white", y=_TITLE_Y)
    with atomic_path(path) as temporary:
        # zlib at its default takes a third of the whole picture's time to save a tenth of the bytes
        figure.savefig(temporary, dpi=100, metadata={"Software": None}, pil_kwargs={"compress_level": 2})


def _page(size: np.ndarray, lines: int = 0) -> tuple[Figure, Sequence[Axes], Sequence[Axes]]:
    """Return a page, axes for three views of a volume of ``size`` (3,) mm at one scale, below ``lines``, and a row."""
    from matplotlib.figure import Figure

    widths, heights = size[[0, 0, 1]], size[[1, 2, 2]]
    tall = float(np.clip(11.6 * heights.max() / widths.sum(), 1.5, 12)) + 0.4 + 0.2 * lines
    figure = Figure(figsize=(12, tall + 2.3), facecolor="black", layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(tall, 1.7), facecolor="black")
    figure.supxlabel(_FOOTNOTE, fontsize=8, color="#aaaaaa")
    return figure, upper.subplots(1, 3, width_ratios=widths), lower.subplots(1, _AXIAL_SLICES)


def _to_lpi(
    image: np.ndarray, mask: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Turn axes to the patient's left, back and feet: a slice's transpose is then the picture itself.

    Returns:
        Image, mask, spacing (3,) in mm, and for each axis the slices' numbers in the file, counted from 1.
    """
    from nibabel import orientations as nio

    turn = nio.ornt_transform(nio.io_orientation(affine), nio.axcodes2ornt("LPI"))
    spacing, numbers = np.empty(3), [np.empty(0)] * 3
    for axis, (target, flip) in enumerate(turn.astype(int)):
        spacing[target] = spacing_mm(affine)[axis]
        numbers[target] = np.arange(1, image.shape[axis] + 1)[::flip]
    turned = (nio.apply_orientation(array, turn) for array in (image, mask.astype(bool)))
    return *turned, spacing, numbers


def _centre(mask: np.ndarray) -> list[int]:
    """Return the mask's voxel nearest to its centre of mass; of an empty mask the volume's middle."""
    found = np.argwhere(mask)
    if not len(found):
        return [size // 2 for size in mask.shape]
    return found[np.linalg.norm(found - found.mean(axis=0), axis=1).argmin()].tolist()


def _axial_slices(mask: np.ndarray) -> list[int]:
    """Return ``_AXIAL_SLICES`` indices at most, head to feet, over the mask or over all of an empty one."""
    found = np.flatnonzero(mask.any(axis=(0, 1)))
    low, high = (found[0], found[-1]) if len(found) else (0, mask.shape[2] - 1)
    return sorted(set(np.linspace(low, high, _AXIAL_SLICES).round().astype(int).tolist()))


def _around(mask: np.ndarray, spacing: np.ndarray) -> tuple[slice, slice]:
    """Return the part of the axial plane that holds the mask and a margin; of an empty mask, all of it."""
    box = []
    for axis in (0, 1):
        found = np.flatnonzero(mask.any(axis=(1 - axis, 2)))
        room = round(_MARGIN_MM / spacing[axis])
        box.append(slice(max(0, found[0] - room), found[-1] + room + 1) if len(found) else slice(None))
    return box[0], box[1]


def _draw_slice(
    axes: Axes, image: np.ndarray, mask: np.ndarray, spacing: np.ndarray, axis: int, index: int, limits: Any
) -> None:
    across, down = np.delete(spacing, axis)
    picture = np.moveaxis(image, axis, 0)[index].T
    axes.imshow(
        picture, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=down / across, interpolation="bilinear"
    )
    draw_outline(axes, np.moveaxis(mask, axis, 0)[index], _COLOUR)
    axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))
    axes.set_axis_off()


def _letters(axes: Axes, letters: str) -> None:
    places = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.95), (0.5, 0.05))
    for letter, (x, y) in zip(letters, places, strict=True):
        _write(axes, x, y, letter, transform=axes.transAxes, ha="center", va="center", fontsize=12)


def _scale_bar(axes: Axes, mm_across: float) -> None:
    """Draw a bar of a round length at the lower left, at most 0.4 of the picture's width."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    room = 0.4 * (right - left) * mm_across
    length = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= room), default=1)
    x, y = left + 0.04 * (right - left), bottom + 0.04 * (top - bottom)
    axes.plot([x, x + length / mm_across], [y, y], color="white", linewidth=2.5, solid_capstyle="butt")
    _write(axes, x, y + 0.02 * (top - bottom), f"{length} mm", va="bottom", fontsize=9)


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    from matplotlib.patheffects import withStroke

    # A dark rim keeps white letters legible on bright tissue.
    axes.text(
        x, y, text, color="white", path_effects=[withStroke(linewidth=2.5, foreground="black")], **style
    )
