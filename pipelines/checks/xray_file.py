"""One chest X-ray file of a data set, examined by its header and its encoded pixels; nothing is decoded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipelines.checks.report import Finding
from pipelines.errors import UserError

if TYPE_CHECKING:
    from pipelines.readers.xray_header import XrayHeader

NEW_COPY = "get a fresh copy of the file, or take its rows out of the tables"
SEQUENCE_END = b"\xfe\xff\xdd\xe0"  # PS3.5 A.4: closes encapsulated pixels, little endian
SMALLEST = 64  # pixels a side, below which no chest can be judged
_TAGS = (
    *("PatientID", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)


@dataclass
class Examined:
    """What is known of one file; fields stay empty where it does not tell.

    Args:
        name: the case's name.
        findings: what is wrong with it.
        header: view, age, sex, size and spacing.
        missing: the tags that it lacks, or whose value means nothing.
        kind: photometric interpretation and bits, like ``MONOCHROME2 8 bit``.
        person: equal for files of one PatientID, which stays out of every message.
        fingerprint: equal for files of one size whose stored pixels are the same bytes, whatever their headers say. A
            copy that was encoded anew, inverted or resized has others: to find it, every file would have to be decoded,
            which takes ten times as long, and compared up to the loss of JPEG.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    header: XrayHeader | None = None
    missing: list[str] = field(default_factory=list)
    kind: str | None = None
    person: str | None = None
    fingerprint: str | None = None


def examine(case: dict[str, Any], quick: bool = False) -> Examined:
    """Examine one file: its header, and its encoded pixels unless ``quick``. No file makes it raise."""
    result = Examined(case["case"])
    try:
        with open(case["image"], "rb") as file:
            _examine(result, file, quick)
    except UserError as error:
        message, _, remedy = str(error).partition("; ")
        result.findings.append(Finding("error", "file", result.name, message, remedy or NEW_COPY))
    except OSError as error:
        message = f"its image cannot be opened: {error.strerror}"
        result.findings.append(Finding("error", "file", result.name, message, "check the file's permissions"))
    except Exception as error:  # whatever pydicom raises of a damaged file; the message may quote the header
        message = f"expected a whole DICOM file, got a damaged one ({type(error).__name__})"
        result.findings.append(Finding("error", "file", result.name, message, NEW_COPY))
    return result


def _examine(result: Examined, file: BinaryIO, quick: bool) -> None:
    import pydicom

    from pipelines.readers.decoders import check_decoder
    from pipelines.readers.xray_header import header_of

    _check_dicom(file)
    logging.getLogger("pydicom").addFilter(_refuse)  # what it finds odd quotes the header
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_tags())
    pixels = b"" if quick else file.read()
    if not dataset.get("Rows") or not dataset.get("Columns") or not (quick or pixels):
        raise UserError("expected a DICOM image, got a DICOM file without pixels; " + NEW_COPY)
    result.header = header_of(dataset)
    check_decoder(dataset.file_meta.TransferSyntaxUID)
    result.findings += _check_pixels(result, dataset)
    result.findings += _check_header(result, dataset)
    person = str(dataset.get("PatientID", "") or "")
    result.person = hashlib.sha256(person.encode()).hexdigest() if person else None
    if pixels:
        result.findings += _check_whole(result.name, dataset, pixels)
        digest = hashlib.sha256(repr((dataset.Rows, dataset.Columns)).encode())
        digest.update(pixels)
        result.fingerprint = digest.hexdigest()


def _check_dicom(file: BinaryIO) -> None:
    start = file.read(132)
    file.seek(0)
    if start[128:] != b"DICM":
        looks = (
            "a web page" if start.lstrip()[:1] == b"<" else "an empty file" if not start else "other content"
        )
        raise UserError(f"expected a DICOM file, got {looks} under that name; {NEW_COPY}")


def _check_pixels(result: Examined, dataset: Any) -> Iterator[Finding]:
    photometric = str(dataset.get("PhotometricInterpretation", "") or "none")
    bits = int(dataset.get("BitsStored", 0) or 0)
    result.kind = f"{photometric} {bits} bit"
    if int(dataset.get("SamplesPerPixel", 1) or 1) != 1 or not photometric.startswith("MONOCHROME"):
        came = "colour" if photometric != "none" else "no PhotometricInterpretation"
        yield Finding("error", "pixels", result.name, f"expected an image in grey, got {came}", NEW_COPY)
    if (frames := int(dataset.get("NumberOfFrames") or 1)) != 1:
        yield Finding("error", "pixels", result.name, f"expected one image, got {frames} frames", NEW_COPY)
    if bits != 8:
        severity = "info" if 8 < bits <= 16 else "error"
        message = f"{bits} bits a pixel, not 8 as in the challenge" + (
            ": read through its window" if severity == "info" else ""
        )
        yield Finding(severity, "pixels", result.name, message)
    if min(dataset.Rows, dataset.Columns) < SMALLEST:
        message = f"only {dataset.Columns} x {dataset.Rows} pixels: too few to judge a chest by"
        one = dataset.Rows * dataset.Columns == 1  # an image of one value is not read
        severity = "error" if one else "warning"
        yield Finding(severity, "pixels", result.name, message, NEW_COPY)


def _check_header(result: Examined, dataset: Any) -> Iterator[Finding]:
    header = result.header
    known = {"view": "ViewPosition", "age": "PatientAge", "sex": "PatientSex", "spacing": "PixelSpacing"}
    result.missing = [tag for field_, tag in known.items() if getattr(header, field_) is None]
    if header.age is None and dataset.get("PatientAge"):
        result.missing.remove("PatientAge")
        remedy = "it counts as unknown: mend the header where age matters"
        yield Finding("warning", "age", result.name, "PatientAge is not a possible age", remedy)
    for warning in header.warnings:
        if "is unknown" not in warning:  # counted for the whole set as a missing tag
            yield Finding("warning", "header", result.name, warning, "look at it: another image may do harm")


def _check_whole(name: str, dataset: Any, pixels: bytes) -> Iterator[Finding]:
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        whole = pixels.rfind(SEQUENCE_END) > 0
    else:
        samples = int(dataset.get("SamplesPerPixel", 1) or 1) * int(dataset.get("NumberOfFrames") or 1)
        whole = len(pixels) >= dataset.Rows * dataset.Columns * samples * dataset.BitsAllocated // 8
    if not whole:
        yield Finding("error", "file", name, "the file ends before its pixels do", NEW_COPY)


@cache
def _tags() -> list[Any]:
    # as numbers: looking names up takes as long as reading the header
    from pydicom.tag import Tag

    from pipelines.readers.xray_header import HEADER_TAGS

    return [Tag(name) for name in (*HEADER_TAGS, *_TAGS)]


def _refuse(_: logging.LogRecord) -> bool:
    return False


def missing_file(case: dict[str, Any]) -> Finding | None:
    """Return an error where a case's image is not there."""
    if Path(case["image"]).is_file():
        return None
    remedy = "add the file, or take its rows out of the tables"
    return Finding("error", "files", case["case"], f"its image is missing, expected {case['image']}", remedy)
