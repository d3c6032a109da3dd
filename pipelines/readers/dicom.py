"""A DICOM series as one volume, through pydicom: sorted by position, never by file name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.decoders import check_decoder, silent
from pipelines.readers.dicom_files import SourceFile, source_files
from pipelines.readers.dicom_slices import IDENTITY, TAGS, Slice, slices_of, stacked
from pipelines.readers.geometry import affine_from_lps
from pipelines.readers.volume import Volume, check_size


def read_dicom(path: Path) -> Volume:
    """Read a series from a folder, a zip or one enhanced multi-frame file.

    Array axis X is the column index, Y the row index, Z the slice along the normal (row direction x column
    direction). Values are rescaled slice by slice; MONOCHROME1 is turned so that more is brighter. Files that
    are no DICOM images (reports, DICOMDIR, presentation states) are counted in ``warnings`` and passed over;
    files without DICOM's mark are never forced.

    Returns:
        The volume with its affine in RAS+ mm.

    Raises:
        UserError: no image, images of several series, no even stack of them (see ``dicom_slices.stacked``), a
            damaged file, a compression that no installed decoder reads, a zip that ``source_files`` refuses.
    """
    with source_files(path) as files, silent():
        headers = dict(_image_headers(files))
        _check_one_series(headers, files)
        slices, step = stacked([one for index, header in headers.items() for one in slices_of(header, index)])
        check_size((slices[0].size[1], slices[0].size[0], len(slices)))
        array = np.stack([values.T for values in _pixels(slices, files)], axis=2)
    if any(header.PhotometricInterpretation == "MONOCHROME1" for header in headers.values()):
        array = array.max() - array
    skipped = len(files) - len(headers)
    notes = [f"{skipped} files that are no DICOM images were passed over"] if skipped else []
    return Volume(array, _affine(slices[0], step), notes)


def _affine(first: Slice, step: np.ndarray) -> np.ndarray:
    thickness = np.linalg.norm(step)
    directions = np.column_stack([*first.axes, step / thickness])
    rows, columns = first.pixel_spacing
    return affine_from_lps(directions, np.array([columns, rows, thickness]), first.position)


def _image_headers(files: list[SourceFile]) -> Iterator[tuple[int, Any]]:
    found = 0
    for index, file in enumerate(files):
        header = _header(file)
        if header is not None:
            found += 1
            yield index, header
    if not found:
        raise UserError(f"expected a DICOM series, got {len(files)} files and no DICOM image among them")


def _header(file: SourceFile) -> Any:
    """Return what ``TAGS`` name of an image's header, or None where the file is no DICOM image."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with file.open() as stream:
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=TAGS)
        sop_class = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
        if sop_class is None or not sop_class.name.endswith("Image Storage"):
            return None
        # Read here, because pydicom converts a value only when it is asked for.
        return header if header.Rows > 0 and header.Columns > 0 and header.SeriesInstanceUID else None
    except InvalidDicomError:
        return None
    except Exception as error:
        raise _damaged(file, error) from error


def _check_one_series(headers: dict[int, Any], files: list[SourceFile]) -> None:
    series: dict[str, list[int]] = {}
    for index, header in headers.items():
        series.setdefault(header.SeriesInstanceUID, []).append(index)
    if len(series) > 1:
        # A UID identifies a patient's examination, so series are told apart by what anyone may see.
        shown = [
            _described(number, headers, files, indices) for number, indices in enumerate(series.values(), 1)
        ]
        more = f"; and {len(shown) - 4} more" if len(shown) > 4 else ""
        raise UserError(
            f"expected one series, got {len(series)}: {'; '.join(shown[:4])}{more}.\n"
            "Put the one you want in a folder of its own."
        )
    if len({tuple(str(header.get(tag, "")) for tag in IDENTITY) for header in headers.values()}) > 1:
        raise UserError(
            "expected the slices of one patient and examination, got a series whose files name several.\n"
            "Export it again, or put each patient's files in a folder of their own."
        )


def _described(number: int, headers: dict[int, Any], files: list[SourceFile], indices: list[int]) -> str:
    count = sum(int(headers[index].get("NumberOfFrames") or 1) for index in indices)
    spacing = headers[indices[0]].get("PixelSpacing") or []
    size = " x ".join(f"{float(value):.3g}" for value in spacing) + " mm" if spacing else "no pixel spacing"
    return f"series {number}: {count} slices, {size}, such as {files[indices[0]].name}"


def _pixels(slices: list[Slice], files: list[SourceFile]) -> Iterator[np.ndarray]:
    """Yield (rows, columns) float32 values, slice by slice."""
    import pydicom
    from pydicom.pixels import pixel_array

    # One file at a time: a classic series has one frame in each, an enhanced one all frames in one.
    @lru_cache(maxsize=1)
    def dataset(index: int) -> Any:
        with files[index].open() as stream:
            return pydicom.dcmread(stream)

    for one in slices:
        try:
            check_decoder(dataset(one.file).file_meta.TransferSyntaxUID)
            stored = pixel_array(dataset(one.file), index=one.frame)
        except UserError:
            raise
        except Exception as error:
            raise _damaged(files[one.file], error) from error
        slope, intercept = one.rescale
        yield stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _damaged(file: SourceFile, error: Exception) -> UserError:
    return UserError(
        f"expected whole DICOM files, got a damaged one, {file.name} ({type(error).__name__}); "
        "export the series again"
    )
