"""One case of an atrium data set, an image and its left-atrium mask, examined by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checks import nifti
from pipelines.checks.report import Finding
from pipelines.datasets.datalist import missing_files
from pipelines.datasets.msd import SUFFIXES
from pipelines.errors import UserError
from pipelines.readers.geometry import corner_distance, is_one_grid, spacing_mm

if TYPE_CHECKING:
    import nibabel as nib
    import numpy as np

PLAUSIBLE_ML = (10, 300)  # a left atrium's volume; a healthy adult's is about 30 to 80 mL
SHOWN_VALUES = 5
ADD_FILE = "add the file, or take the case out of dataset.json"


@dataclass
class Examined:
    """What is known of one case; fields stay empty where its files do not tell.

    Args:
        name: the case's name.
        findings: what is wrong with it.
        spacing: the image's, in mm along the axes closest to left-right, back-front, foot-head.
        orientation: of the image's array axes, like ``RAS``.
        extent_mm: the volume's size along R, A and S.
        fingerprint: equal for equal images.
        label_ml: the mask's volume.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    extent_mm: tuple[float, float, float] | None = None
    fingerprint: Any = None
    label_ml: float | None = None


def examine(case: dict[str, str], quick: bool = False) -> Examined:
    """Examine one case: its headers, and its pixels unless ``quick``. No file makes it raise."""
    result = Examined(case["case"])
    try:
        headers = {
            kind: header for kind in ("image", "label") if (header := _examine_header(result, case, kind))
        }
        if len(headers) == 2:
            result.findings += _named(result.name, check_geometry(headers["image"], headers["label"]))
            result.findings += _named(result.name, _check_pairing(case))
        if "image" in headers:
            _describe(result, headers["image"])
        for kind, header in headers.items():
            if not quick or nifti.looks_truncated(case[kind], header):
                _examine_pixels(result, case, kind, header)
        if quick and "image" in headers:
            result.fingerprint = nifti.gzip_trailer(case["image"])
    except Exception as error:  # one broken case must not hide the others
        message = f"could not be examined ({type(error).__name__}: {error})"
        result.findings.append(Finding("error", "nifti", result.name, message, nifti.FRESH))
    return result


def check_geometry(image: nib.Nifti1Header, label: nib.Nifti1Header) -> Iterator[Finding]:
    """Yield a disagreement of shape or affine; under a tenth of a voxel at the corners is a warning."""
    shape, other = image.get_data_shape(), label.get_data_shape()
    if shape != other:
        message = f"image and label differ in shape: {shape} and {other}"
        yield Finding("error", "geometry", None, message, "resample the label onto the image's grid")
        return
    affines = nifti.affine_of(image), nifti.affine_of(label)
    distance = corner_distance(*affines, shape)
    if distance > nifti.AFFINE_TOLERANCE_MM:
        message = f"image and label differ in affine: their corners lie up to {distance:.4g} mm apart"
        remedy = "copy the image's header to the label if their voxels do match, else resample the label"
        yield Finding(
            "warning" if is_one_grid(*affines, shape) else "error", "geometry", None, message, remedy
        )


def check_image(pixels: np.ndarray) -> Iterator[Finding]:
    """Yield NaN, infinity, and an image of one or two values alone."""
    import numpy as np

    low, high = pixels.min(), pixels.max()
    if bad := int(np.count_nonzero(~np.isfinite(pixels))):
        yield Finding("error", "nan", None, f"image has {bad} voxels of NaN or infinity", "replace them by 0")
    elif low == high:
        yield Finding("error", "constant", None, f"image is constant: every voxel is {low:g}", nifti.FRESH)
    elif not ((pixels > low) & (pixels < high)).any():
        message = f"image holds {low:g} and {high:g} alone, as a mask does"
        yield Finding("error", "constant", None, message, "give the image that it was drawn on")


def check_label(pixels: np.ndarray, volume_ml: float) -> Iterator[Finding]:
    """Yield values other than 0 and 1, an empty mask, and a volume outside ``PLAUSIBLE_ML``."""
    import numpy as np

    others = pixels[(pixels != 0) & (pixels != 1)]
    if others.size:
        values, counts = np.unique(others, return_counts=True)
        pairs = list(zip(values, counts, strict=True))[:SHOWN_VALUES]
        shown = ", ".join(f"{value:g} in {count} voxels" for value, count in pairs)
        more = f" and {len(values) - SHOWN_VALUES} more values" if len(values) > SHOWN_VALUES else ""
        message = f"label must hold 0 and 1 alone, it has {shown}{more}"
        yield Finding("error", "label-values", None, message, "make it 1 where the atrium is and 0 elsewhere")
    elif volume_ml == 0:
        yield Finding(
            "error", "label-empty", None, "label is empty: no voxel is 1", "outline it, or leave it out"
        )
    elif not PLAUSIBLE_ML[0] <= volume_ml <= PLAUSIBLE_ML[1]:
        low, high = PLAUSIBLE_ML
        message = f"label's volume is {volume_ml:.4g} mL, a left atrium has {low} to {high} mL"
        yield Finding("warning", "label-volume", None, message, "check the outline and the header's spacing")


def _examine_header(result: Examined, case: dict[str, str], kind: str) -> nib.Nifti1Header | None:
    """Note what is wrong with a file's header; return it where it is fit for use."""
    if not Path(case[kind]).is_file():
        message = next(text for text in missing_files(case) if f"its {kind} " in text)
        result.findings.append(Finding("error", "files", result.name, message.partition(": ")[2], ADD_FILE))
        return None
    try:
        header = nifti.read_header(case[kind])
        findings = [replace(found, message=f"{kind} {found.message}") for found in nifti.check_header(header)]
    except UserError as error:
        header, findings = None, [Finding("error", "nifti", None, f"{kind} {error}", nifti.FRESH)]
    result.findings += _named(result.name, findings)
    return None if any(found.severity == "error" for found in findings) else header


def _examine_pixels(result: Examined, case: dict[str, str], kind: str, header: nib.Nifti1Header) -> None:
    import numpy as np

    try:
        pixels = nifti.read_pixels(case[kind], header)
    except UserError as error:
        result.findings.append(Finding("error", "nifti", result.name, f"{kind} {error}", nifti.FRESH))
        return
    if kind == "image":
        with np.errstate(over="ignore"):  # too large a number becomes infinity, and is told as that
            content = np.asfortranarray(pixels, dtype=np.float32)
        result.findings += _named(result.name, check_image(content))
        result.fingerprint = (pixels.shape, hashlib.sha256(content.T.data).hexdigest())
    else:
        voxel_mm3 = abs(np.linalg.det(nifti.affine_of(header)[:3, :3]))
        volume_ml = float(np.count_nonzero(pixels == 1) * voxel_mm3 / 1000)
        result.findings += _named(result.name, check_label(pixels, volume_ml))
        result.label_ml = volume_ml


def _check_pairing(case: dict[str, str]) -> Iterator[Finding]:
    image, label = (Path(case[kind]).name for kind in ("image", "label"))
    if label not in {case["case"] + suffix for suffix in SUFFIXES}:
        yield Finding(
            "warning", "files", None, f"image '{image}' is paired with label '{label}'", "check dataset.json"
        )


def _describe(result: Examined, header: nib.Nifti1Header) -> None:
    """Fill in spacing, orientation and extent from an image's header."""
    import nibabel as nib
    import numpy as np

    affine, shape = nifti.affine_of(header), header.get_data_shape()
    order = np.argsort(nib.io_orientation(affine)[:, 0])
    edges = spacing_mm(affine)
    result.spacing = tuple(edges[axis] for axis in order)
    result.orientation = "".join(nib.aff2axcodes(affine))
    result.extent_mm = tuple(float(edges[axis] * shape[axis]) for axis in order)


def _named(name: str, findings: Any) -> list[Finding]:
    return [replace(finding, case=name) for finding in findings]
