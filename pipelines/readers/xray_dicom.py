"""A chest X-ray from DICOM, through pydicom: one grey frame of 8 to 16 bits."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, BinaryIO

import numpy as np

from pipelines.errors import UserError
from pipelines.readers.decoders import check_decoder, silent
from pipelines.readers.xray_header import HEADER_TAGS, header_of
from pipelines.readers.xray_pixels import NO_WINDOW, Picture, check_size, draft, outer_levels, to_8_bit, whole

# Grey levels may be given by these, and mean nothing when they are empty.
_GREY_TAGS = [
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
]
# Refused here where they do not fit.
_CHECKED_TAGS = ["PhotometricInterpretation", "NumberOfFrames", "BitsStored"]
# For pydicom's decoders.
_PIXEL_TAGS = [
    *(
        "SamplesPerPixel",
        "PlanarConfiguration",
        "BitsAllocated",
        "HighBit",
        "PixelRepresentation",
        "PixelData",
    ),
]


def read_dicom_xray(file: BinaryIO, size: int | None) -> Picture:
    """Read an X-ray; JPEG Baseline at a reduced scale that is enough for ``size``, or in full for None.

    Grey levels follow PS3.3 C.11: the modality LUT or rescale, then the VOI LUT or the first window, then the
    inversion of MONOCHROME1. Without a window, 8-bit values stand as they are stored, and of deeper images the
    darkest and brightest 0.1% become black and white.

    Raises:
        UserError: no X-ray by its modality, no image, colour, several frames, other than 8 to 16 bits, a
            compression that no installed decoder reads, a damaged file.
    """
    from pydicom.filereader import read_partial

    try:
        with silent():
            dataset = read_partial(file, specific_tags=_tags())
            values = _values(dataset)
            _check(values, "PixelData" in dataset)
            header = header_of(values)
            check_size(header.rows, header.columns)
            for tag in [tag for tag in _grey_tags() & dataset.keys() if _means_nothing(dataset[tag])]:
                del dataset[tag]
            return _reduced_jpeg(dataset, values, header, size) or _decoded(dataset, header)
    except UserError:
        raise
    except Exception as error:
        # The type alone: a message may quote the header.
        raise UserError(
            f"expected a whole DICOM image, got a damaged one ({type(error).__name__}); export it again"
        ) from error


def _means_nothing(element: Any) -> bool:
    """Tell whether a grey tag is empty, or a window without a width (PS3.3 C.11.2.1.2 asks for at least 1)."""
    if element.is_empty or element.keyword != "WindowWidth":
        return element.is_empty
    widths = [element.value] if element.VM == 1 else element.value
    return not all(width > 0 for width in widths)


@cache
def _tags() -> list[Any]:
    # As plain numbers: looking names up takes as long as reading the header.
    from pydicom.tag import Tag

    return [int(Tag(name)) for name in [*HEADER_TAGS, *_CHECKED_TAGS, *_GREY_TAGS, *_PIXEL_TAGS]]


@cache
def _header_tags() -> dict[str, Any]:
    from pydicom.tag import Tag

    return {name: Tag(name) for name in [*HEADER_TAGS, *_CHECKED_TAGS]}


@cache
def _grey_tags() -> frozenset[Any]:
    from pydicom.tag import Tag

    return frozenset(Tag(name) for name in _GREY_TAGS)


def _values(dataset: Any) -> dict[str, Any]:
    """Return the values of the header's elements that are there, by keyword."""
    from pydicom.dataelem import RawDataElement

    found = ((name, dataset.get_item(tag)) for name, tag in _header_tags().items())
    return {
        name: _converted(element._replace(value_tell=0))
        if isinstance(element, RawDataElement)
        else element.value
        for name, element in found
        if element is not None
    }


@lru_cache(maxsize=4096)
def _converted(element: Any) -> Any:
    # Few values fill the headers of thousands of files, and to convert them anew takes a twentieth of the time.
    from pydicom.dataelem import convert_raw_data_element

    return convert_raw_data_element(element).value


def _check(values: dict[str, Any], has_pixels: bool) -> None:
    if not has_pixels or "Rows" not in values or "Columns" not in values:
        raise UserError(
            "expected a DICOM image, got a DICOM file without pixels (no image, or cut short); "
            "give the X-ray's own file"
        )
    photometric = str(values.get("PhotometricInterpretation", "none"))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UserError(
            f"expected a DICOM image in grey (MONOCHROME2), got {'colour' if photometric != 'none' else 'none'}; "
            "give the original X-ray, no screen capture"
        )
    if (frames := int(values.get("NumberOfFrames") or 1)) != 1:
        raise UserError(f"expected one image in the file, got {frames} frames; give a single X-ray")
    if not 1 <= int(values["BitsStored"]) <= 16:
        raise UserError(f"expected 8 to 16 bits a pixel, got {int(values['BitsStored'])}; export it again")


def _reduced_jpeg(dataset: Any, values: dict[str, Any], header: Any, size: int | None) -> Picture | None:
    """Decode JPEG Baseline here, where pydicom knows no reduced scale; None for anything else."""
    from PIL import Image
    from pydicom.encaps import get_frame
    from pydicom.uid import JPEGBaseline8Bit

    if dataset.file_meta.TransferSyntaxUID != JPEGBaseline8Bit:
        return None
    image = Image.open(io.BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1)), formats=["JPEG"])
    if image.mode != "L" or image.size != (header.columns, header.rows):
        return None
    box = draft(image, size)
    if not _stands_as_stored(dataset, values):
        table, _ = _grey_table(dataset, np.arange(256), _byte_ends(dataset))
        image = image.point(table.tolist())
    image.load()
    return Picture(image, box, header)


def _stands_as_stored(dataset: Any, values: dict[str, Any]) -> bool:
    """Tell whether 8-bit values need no table, as in most files."""
    plain = values["PhotometricInterpretation"] == "MONOCHROME2" and values["BitsStored"] == 8
    return plain and not _grey_tags() & dataset.keys()


def _decoded(dataset: Any, header: Any) -> Picture:
    from PIL import Image
    from pydicom.pixels import pixel_array

    check_decoder(dataset.file_meta.TransferSyntaxUID)
    stored = pixel_array(dataset)
    if stored.dtype == np.uint8:
        levels, ends = np.arange(256), _byte_ends(dataset)
    else:
        levels, ends = np.arange(int(stored.min()), int(stored.max()) + 1), outer_levels(stored)
    table, windowed = _grey_table(dataset, levels, ends)
    if not windowed and stored.dtype != np.uint8:
        header = replace(header, warnings=(*header.warnings, NO_WINDOW))
    return whole(Image.fromarray(table[stored.astype(np.int32) - int(levels[0])]), header)


def _byte_ends(dataset: Any) -> tuple[int, int]:
    return 0, 2 ** min(int(dataset.BitsStored), 8) - 1


def _grey_table(dataset: Any, levels: np.ndarray, ends: tuple[float, float]) -> tuple[np.ndarray, bool]:
    """Return the grey level (uint8) of each stored value of ``levels``, and whether the file names a window.

    Args:
        dataset: the LUTs and windows.
        levels: (N,) stored values.
        ends: the stored values that become black and white if there is no window.
    """
    from pydicom.pixels import apply_modality_lut

    values = apply_modality_lut(levels, dataset)
    window = _window(values, dataset)
    if window is None:
        black, white = sorted(apply_modality_lut(np.array(ends).astype(int), dataset).tolist())
    else:
        values, black, white = window
    table = to_8_bit(values, black, white)
    return (255 - table if dataset.PhotometricInterpretation == "MONOCHROME1" else table), window is not None


def _window(values: np.ndarray, dataset: Any) -> tuple[np.ndarray, float, float] | None:
    """Return windowed values and the lowest and highest value the window gives; None where there is none."""
    from pydicom.pixels import apply_voi, apply_windowing

    if dataset.get("VOILUTSequence"):
        lut = dataset.VOILUTSequence[0]
        entries, first, bits = lut.LUTDescriptor
        # pydicom 3.0 counts the entries of an 8-bit LUT in 8 bits and wraps around after 256 of them.
        lut.LUTDescriptor = [entries, first, 16]
        return apply_voi(np.rint(values).astype(int), dataset), 0, 2**bits - 1
    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        black, white = apply_windowing(np.array([-1e12, 1e12]), dataset).tolist()
        return apply_windowing(values, dataset), black, white
    return None
