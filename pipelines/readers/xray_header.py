"""What a chest X-ray's header says that matters here: view, age, sex, spacing. Nothing that names the patient."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UserError

# The attributes that these functions read; no other one is, so none that names the patient can leak.
HEADER_TAGS = [
    *("Modality", "BodyPartExamined", "ViewPosition", "PatientPosition", "PatientAge", "PatientSex"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "Rows", "Columns"),
]
# PS3.3 C.8.11.1 names CR, DX and RG; DR and XR are no defined terms but found in exports.
_MODALITIES = {"CR", "DX", "RG", "DR", "XR"}
# Digitised film and secondary captures, where only a person can tell.
_UNCLEAR_MODALITIES = {"", "OT", "SC", "HC"}
_FRONTAL = {"AP", "PA"}
# PS3.3 C.8.11.5 and CID 4010; LATERAL and LAT are no defined terms but found in exports.
_OTHER_VIEWS = {"LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "LATERAL", "LAT"}
_CHEST = ("CHEST", "THORAX", "LUNG", "HEART")
# The longest life on record is 122 years; the real table's impossible ages are 148 and more.
_MAX_AGE = 120
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}
# The first that is given is used: PixelSpacing may be calibrated to the body, the others lie in the detector.
_SPACING_TAGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True)
class XrayHeader:
    """What is known of an X-ray beside its pixels.

    Attributes:
        rows: rows of the file's own image.
        columns: columns of the file's own image.
        view: "AP", "PA", or another code of the standard such as "LL"; None where unknown.
        age: years; None where unknown or impossible.
        sex: "F", "M" or None.
        spacing: mm between rows, and between columns; None where unknown.
        spacing_tag: the DICOM attribute that ``spacing`` came from. ImagerPixelSpacing and
            NominalScannedPixelSpacing lie in the plane of the detector or film, where the body is magnified.
        warnings: what a person should know about the file; never text from its header.
    """

    rows: int
    columns: int
    view: str | None = None
    age: float | None = None
    sex: str | None = None
    spacing: tuple[float, float] | None = None
    spacing_tag: str | None = None
    warnings: tuple[str, ...] = ()


def header_of(dataset: Any) -> XrayHeader:
    """Return what a DICOM data set says of its X-ray.

    Args:
        dataset: a pydicom data set, or a dictionary of its values by keyword; with Rows and Columns.

    Raises:
        UserError: the modality is none of an X-ray's.
    """
    view, sex = _view(dataset), _text(dataset, "PatientSex")
    tag, spacing = next(
        ((tag, value) for tag in _SPACING_TAGS if (value := _spacing(dataset.get(tag)))), (None, None)
    )
    warnings = [*_modality_warnings(_text(dataset, "Modality")), *view_warnings(view)]
    part = _text(dataset, "BodyPartExamined")
    if part and not any(name in part for name in _CHEST):
        warnings.append("by its header (BodyPartExamined) this is no chest X-ray")
    return XrayHeader(
        rows=int(dataset.get("Rows")),
        columns=int(dataset.get("Columns")),
        view=view,
        age=parse_age(_text(dataset, "PatientAge")),
        sex=sex if sex in ("F", "M") else None,
        spacing=spacing,
        spacing_tag=tag,
        warnings=tuple(warnings),
    )


def parse_age(text: str) -> float | None:
    """Return an age in years: DICOM's ``"045Y"``, ``"018M"``, ``"003W"`` or ``"010D"``, or a bare number of years.

    Returns:
        None for an empty, unreadable or impossible age (above 120 years).
    """
    match = re.fullmatch(r"(\d{1,4})([DWMY]?)", text.strip().upper())
    age = int(match[1]) * _YEARS[match[2]] if match else math.inf
    return age if age <= _MAX_AGE else None


def view_warnings(view: str | None) -> list[str]:
    """Return what to say of a view that is not the frontal one the networks were trained on."""
    if view in _FRONTAL:
        return []
    return [f"not a frontal view ({view})" if view else "the view (AP or PA) is unknown"]


def _view(dataset: Any) -> str | None:
    view = _text(dataset, "ViewPosition")
    if view in _FRONTAL | _OTHER_VIEWS:
        return view
    # NIH's files hold the view here, where the standard has the patient's position in the machine (HFS...).
    position = _text(dataset, "PatientPosition")
    return position if position in _FRONTAL else None


def _modality_warnings(modality: str) -> list[str]:
    if modality in _MODALITIES:
        return []
    if modality in _UNCLEAR_MODALITIES:
        return ["the header does not say that this is an X-ray (Modality)"]
    shown = modality if re.fullmatch("[A-Z]{2}", modality) else "another"
    raise UserError(f"expected an X-ray (Modality CR or DX), got {shown}; give the chest X-ray's own file")


def _spacing(value: Any) -> tuple[float, float] | None:
    try:
        rows, columns = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return (rows, columns) if 0 < rows < math.inf and 0 < columns < math.inf else None


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    return str(value).strip().upper() if isinstance(value, str) else ""
