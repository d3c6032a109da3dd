"""Slices in space: what one DICOM header says of its frames, and how the frames make one even stack.

Terms and geometry follow DICOM PS3.3, C.7.6.2 (Image Plane) and C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.errors import UserError

# The attributes that are read from a header. No other one is, so none that names the patient can leak.
# compared between the files of a series, and never shown
IDENTITY = ("PatientID", "PatientName", "StudyInstanceUID")
TAGS = [
    *("SOPClassUID", "SeriesInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("NumberOfFrames", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope"),
    *("RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *IDENTITY,
]
# A step between slices may differ from the usual one by 1% of it, or by 0.01 mm where that is more.
MAX_STEP_ERROR = (0.01, 0.01)


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame: ``file`` and ``frame`` (0-based) say where its pixels are, the rest where it lies.

    Attributes:
        position: (3,) LPS mm, the centre of the first pixel.
        axes: (2, 3) unit vectors in LPS: along a row (column index grows), along a column (row index grows).
        pixel_spacing: (2,) mm between rows, and between columns.
        size: rows, columns.
        rescale: slope and intercept from stored value to value.
    """

    file: int
    frame: int
    position: np.ndarray
    axes: np.ndarray
    pixel_spacing: np.ndarray
    size: tuple[int, int]
    rescale: tuple[float, float]


def slices_of(header: Any, file: int) -> Iterator[Slice]:
    """Yield the frames of one header: a classic single-frame image, or an enhanced one with functional
    groups.

    Raises:
        UserError: colour, or an attribute of the geometry is missing or no number.
    """
    size = int(header.Rows), int(header.Columns)
    photometric = header.get("PhotometricInterpretation")
    if header.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UserError(
            f"expected DICOM images in grey (MONOCHROME2), got {photometric}; give the original series"
        )
    frames = int(header.get("NumberOfFrames") or 1)
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    if (per_frame or frames > 1) and len(per_frame) != frames:
        raise UserError(
            f"expected a position for each of {frames} frames, got {len(per_frame)}; export the series as "
            "single-frame or enhanced DICOM"
        )
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    for frame in range(frames):
        sources = [per_frame[frame], shared] if per_frame else [header]
        yield _slice(sources, file, frame, size)


def stacked(slices: list[Slice]) -> tuple[list[Slice], np.ndarray]:
    """Sort slices along their normal and check that they are one even stack.

    Returns:
        The slices in the order of their positions, and the step (3,) in LPS mm from one to the next.

    Raises:
        UserError: fewer than two slices, slices that differ in size, pixel spacing or orientation, that share
            a position, or whose steps differ by more than ``MAX_STEP_ERROR``.
    """
    if len(slices) < 2:
        raise UserError(
            f"expected a series of at least 2 slices, got {len(slices)}; give the whole series' folder"
        )
    _check_alike(slices)
    normal = np.cross(*slices[0].axes)
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    _check_steps(np.diff([one.position @ normal for one in slices]))
    positions = np.array([one.position for one in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    drift = np.linalg.norm(positions - positions[0] - np.arange(len(slices))[:, None] * step, axis=1).max()
    # Positions are often written with one decimal, and the fit through first and last adds up rounding.
    if drift > 0.25 + MAX_STEP_ERROR[0] * np.linalg.norm(step):
        raise UserError(
            f"expected slices in one line, got one {drift:.1f} mm off it; export the whole series again"
        )
    return slices, step


def _slice(sources: list[Any], file: int, frame: int, size: tuple[int, int]) -> Slice:
    axes = _numbers(sources, "PlaneOrientationSequence", "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        raise UserError(
            "ImageOrientationPatient must be two unit vectors at a right angle; export the series again"
        )
    spacing = _numbers(sources, "PixelMeasuresSequence", "PixelSpacing", 2)
    position = _numbers(sources, "PlanePositionSequence", "ImagePositionPatient", 3)
    slope = _numbers(sources, "PixelValueTransformationSequence", "RescaleSlope", 1, default=1.0)
    intercept = _numbers(sources, "PixelValueTransformationSequence", "RescaleIntercept", 1, default=0.0)
    return Slice(file, frame, position, axes / lengths, spacing, size, (float(slope[0]), float(intercept[0])))


def _numbers(
    sources: list[Any], group: str, name: str, count: int, default: float | None = None
) -> np.ndarray:
    value = None
    for source in sources:
        inner = (source.get(group) or [source])[0]
        value = inner.get(name) if value is None else value
    if value is None and default is not None:
        return np.array([default])
    try:
        numbers = np.array(value, dtype=float).reshape(count)
    except (TypeError, ValueError):
        numbers = np.array([math.nan])
    if not np.isfinite(numbers).all():
        raise UserError(
            f"expected {name} ({count} numbers) in each slice, got a slice without; "
            "derived pictures have none: give the original series"
        )
    return numbers


def _check_alike(slices: list[Slice]) -> None:
    first = slices[0]
    if sizes := {one.size for one in slices if one.size != first.size}:
        shown = " and ".join(f"{rows} x {columns}" for rows, columns in [first.size, *sorted(sizes)][:4])
        raise UserError(f"expected slices of one size, got {shown}; put one stack in a folder of its own")
    for name, tolerance in {"axes": 1e-3, "pixel_spacing": 1e-3}.items():
        mixed = sum(
            not np.allclose(getattr(one, name), getattr(first, name), atol=tolerance) for one in slices
        )
        if mixed:
            what = {"axes": "orientation", "pixel_spacing": "pixel spacing"}[name]
            raise UserError(
                f"expected slices of one {what}, got {mixed} of {len(slices)} that differ from the first; "
                "put one stack in a folder of its own"
            )


def _check_steps(steps: np.ndarray) -> None:
    if (shared := int((steps < MAX_STEP_ERROR[1]).sum())) > 0:
        raise UserError(
            f"expected each slice at a position of its own, got {shared} of {len(steps) + 1} at another's "
            "(a time series, several echoes, or copies); put one stack in a folder of its own"
        )
    usual = statistics.median_low(steps.tolist())
    errors = np.abs(steps - usual)
    if errors.max() <= max(MAX_STEP_ERROR[0] * usual, MAX_STEP_ERROR[1]):
        return
    worst = int(errors.argmax())
    missing = steps[worst] / usual - 1
    guess = f" ({missing:.0f} missing?)" if missing > 0.5 and abs(missing - round(missing)) < 0.05 else ""
    raise UserError(
        f"expected evenly spaced slices, got a step of {steps[worst]:.2f} mm between slices {worst + 1} and "
        f"{worst + 2} of {len(steps) + 1} where {usual:.2f} mm is usual{guess}; the volume in mL would be "
        "wrong: export the whole series again"
    )
