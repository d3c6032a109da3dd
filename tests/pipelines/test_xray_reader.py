from __future__ import annotations

import io
import logging
import os
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless, generate_uid
from skimage.transform import resize

from pipelines.errors import UserError
from pipelines.readers.decoders import check_decoder
from pipelines.readers.xray import ImageInput, find_images, read_xray, read_xray_reduced
from pipelines.readers.xray_header import parse_age

ROWS, COLUMNS = 60, 100


def picture(rows=ROWS, columns=COLUMNS, dtype=np.uint8, top=255):
    """Darker to the right, black at the bottom, a bright square at the upper left: no two of its eight turns agree."""
    row, column = np.mgrid[:rows, :columns] / [[[rows]], [[columns]]]
    grey = (0.2 + 0.5 * (1 - column)) * (row < 0.8) + 0.3 * ((row < 0.2) & (column < 0.2))
    return np.rint(top * grey).astype(dtype)


def write_xray(path, pixels=None, photometric="MONOCHROME2", jpeg=False, **attributes):
    """Write a chest X-ray whose header is full of names."""
    pixels = picture() if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.StudyDate = "Doe^Jane", "SECRET-7", "20240229"
    dataset.StudyDescription = "Jane Doe"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.PatientAge, dataset.PatientSex = "062Y", "F"
    dataset.set_pixel_data(pixels, photometric, attributes.pop("bits", 8 * pixels.itemsize))
    if jpeg:
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([jpeg_bytes(pixels)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some values below are wrong on purpose
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.save_as(path, enforce_file_format=True)
    return path


def jpeg_bytes(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def header_of(path):
    return read_xray(path).header


def error_of(path, size=None):
    with pytest.raises(UserError) as caught:
        read_xray(path) if size is None else read_xray_reduced(path, size)
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ")
    assert len(message.splitlines()) <= 3
    return message


# -- which images there are


def test_folder_gives_its_images_by_name_and_names_keep_their_dots(tmp_path):
    for name in ("1.2.156.112536.2.dcm", "a.b.PNG", "c.jpeg", "d.jpg", "e.dicom"):
        (tmp_path / name).touch()
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "table.csv").touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x.png").touch()
    found = [(item.case, item.path.name, item.problem) for item in find_images([tmp_path])]
    assert found == [
        ("1.2.156.112536.2", "1.2.156.112536.2.dcm", None),
        ("IM0001", "IM0001", None),
        ("a.b", "a.b.PNG", None),
        ("c", "c.jpeg", None),
        ("d", "d.jpg", None),
        ("e", "e.dicom", None),
    ]


def test_folders_and_files_are_taken_in_the_order_given_and_each_once(tmp_path):
    for name in ("b.png", "a.png"):
        (tmp_path / name).touch()
    items = find_images([tmp_path / "b.png", tmp_path, tmp_path / "." / "a.png"])
    assert [item.case for item in items] == ["b", "a"]


def test_image_whose_result_would_take_anothers_place_is_listed_with_its_problem(tmp_path):
    for name in ("A.dcm", "a.png", "gone"):
        (tmp_path / name).touch() if name != "gone" else None
    good, taken, gone = find_images([tmp_path / "A.dcm", tmp_path / "a.png", tmp_path / "gone.png"])
    assert good == ImageInput("A", tmp_path / "A.dcm")
    assert "would be called 'a', as that of" in taken.problem
    assert "no such file or folder" in gone.problem


def test_nothing_to_read_says_what_is_read_and_where_images_are(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt: expected a DICOM, PNG or JPEG file"):
        find_images([tmp_path / "notes.txt"])
    (tmp_path / "study.zip").write_bytes(b"PK")
    with pytest.raises(
        UserError, match=r"study\.zip: expected a DICOM, PNG or JPEG file, got a zip; unpack it"
    ):
        find_images([tmp_path / "study.zip"])
    with pytest.raises(UserError, match="holds nothing to read; expected a DICOM, PNG or JPEG file"):
        find_images([tmp_path])
    (tmp_path / "stage_2_train_images").mkdir()
    (tmp_path / "stage_2_train_images" / "a.dcm").touch()
    with pytest.raises(UserError, match=r"name a folder below it \(stage_2_train_images\)"):
        find_images([tmp_path])
    with pytest.raises(UserError, match="expected a DICOM, PNG or JPEG file"):
        find_images([])


# -- DICOM pixels


def test_rows_and_columns_are_never_swapped(tmp_path):
    expected = picture()
    for name, jpeg in (("raw.dcm", False), ("jpeg.dcm", True)):
        xray = read_xray(write_xray(tmp_path / name, jpeg=jpeg))
        assert xray.pixels.shape == (xray.header.rows, xray.header.columns) == (ROWS, COLUMNS)
        assert xray.pixels.dtype == np.uint8
        assert np.abs(xray.pixels.astype(int) - expected).mean() < (0.5 if jpeg else 1e-9)
    for name in ("p.png", "p.jpg"):
        Image.fromarray(expected).save(tmp_path / name, quality=95)
        assert np.abs(read_xray(tmp_path / name).pixels.astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize("jpeg", [False, True])
def test_reduced_pixels_are_those_of_an_anti_aliased_resize(tmp_path, jpeg):
    # 1003 x 701: no multiple of the reduced scale, so the last row and column of it are parts.
    tall = picture(1003, 701)
    path = write_xray(tmp_path / "x.dcm", tall, jpeg=jpeg)
    reduced = read_xray_reduced(path, 64)
    assert reduced.pixels.shape == (64, 64)
    assert (reduced.header.rows, reduced.header.columns) == (1003, 701)
    difference = np.abs(reduced.pixels - resize(tall / 255.0, (64, 64), anti_aliasing=True) * 255)
    assert difference.mean() < 1
    inside = difference[2:-2, 2:-2]
    assert np.median(inside) < 0.6


def test_jpeg_is_decoded_at_a_reduced_scale_of_at_least_twice_the_size(tmp_path, monkeypatch):
    from pipelines.readers import xray_dicom

    seen = []
    original = xray_dicom.Picture
    monkeypatch.setattr(xray_dicom, "Picture", lambda *args: seen.append(args) or original(*args))
    path = write_xray(tmp_path / "x.dcm", picture(1001, 801), jpeg=True)
    read_xray_reduced(path, 100)
    read_xray_reduced(path, 300)
    read_xray(path)
    assert [(image.size, box) for image, box, _ in seen] == [
        ((201, 251), (0, 0, 200.25, 250.25)),
        ((801, 1001), (0, 0, 801, 1001)),
        ((801, 1001), (0, 0, 801, 1001)),
    ]


def test_monochrome1_and_its_twin_give_the_same_pixels(tmp_path):
    twin = read_xray_reduced(write_xray(tmp_path / "2.dcm"), 32).pixels
    inverted = write_xray(tmp_path / "1.dcm", 255 - picture(), "MONOCHROME1")
    assert (read_xray_reduced(inverted, 32).pixels == twin).all()
    compressed = write_xray(tmp_path / "1j.dcm", 255 - picture(), "MONOCHROME1", jpeg=True)
    assert np.abs(read_xray_reduced(compressed, 32).pixels.astype(int) - twin).max() <= 2


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_window_turns_deep_pixels_into_8_bits(tmp_path, bits):
    top = 2**bits - 1
    deep = picture(dtype=np.uint16, top=top)
    path = write_xray(
        tmp_path / "x.dcm",
        deep,
        bits=bits,
        WindowCenter=top / 2,
        WindowWidth=top / 2,
        VOILUTFunction="LINEAR_EXACT",
    )
    xray = read_xray(path)
    # from a quarter to three quarters of the range; PS3.3 C.11.2.1.3.2
    expected = np.clip((deep / top - 0.25) / 0.5, 0, 1) * 255
    assert np.abs(xray.pixels - expected).max() <= 0.5 + 1e-6
    assert xray.header.warnings == ()


def test_rescale_comes_before_the_window_and_the_first_window_is_taken(tmp_path):
    deep = picture(dtype=np.uint16, top=1000)
    path = write_xray(
        tmp_path / "x.dcm",
        deep,
        bits=12,
        RescaleSlope=2,
        RescaleIntercept=-500,
        WindowCenter=[500, 0],
        WindowWidth=[1000, 1],
        VOILUTFunction="LINEAR_EXACT",
    )
    expected = np.clip((2.0 * deep - 500) / 1000, 0, 1) * 255
    assert np.abs(read_xray(path).pixels - expected).max() <= 0.5 + 1e-6


def test_negative_slope_inverts(tmp_path):
    path = write_xray(tmp_path / "x.dcm", RescaleSlope=-1, RescaleIntercept=255)
    assert (read_xray(path).pixels == 255 - picture()).all()


@pytest.mark.parametrize("depth", [8, 12])
def test_voi_lut_is_applied_and_preferred_to_a_window(tmp_path, depth):
    lut = Dataset()
    lut.LUTDescriptor = [1024, 0, depth]
    lut.LUTData = np.rint((np.arange(1024) / 1023) ** 2 * (2**depth - 1)).astype(int).tolist()
    lut["LUTData"].VR = "US"
    deep = picture(dtype=np.uint16, top=1023)
    path = write_xray(
        tmp_path / "x.dcm", deep, bits=10, VOILUTSequence=Sequence([lut]), WindowCenter=1, WindowWidth=1
    )
    assert np.abs(read_xray(path).pixels - (deep / 1023.0) ** 2 * 255).max() <= 1


def test_deep_pixels_without_a_window_are_stretched_with_a_warning(tmp_path):
    deep = picture(300, 200, dtype=np.uint16, top=3000) + np.uint16(500)
    deep[0, 0] = 65535  # one dead pixel, far less than 0.1%
    xray = read_xray(write_xray(tmp_path / "x.dcm", deep))
    assert (xray.pixels.min(), xray.pixels.max()) == (0, 255)
    assert xray.pixels[xray.pixels > 0].mean() > 100
    assert "names no grey-level window" in xray.header.warnings[0]


def test_signed_pixels_and_empty_window_tags_are_read(tmp_path):
    signed = picture(dtype=np.int16, top=2000) - np.int16(1000)
    path = write_xray(tmp_path / "x.dcm", signed, WindowCenter=None, WindowWidth=None, RescaleSlope=None)
    pixels = read_xray(path).pixels.astype(int)
    assert np.abs(pixels - (signed - signed.min()) / np.ptp(signed.astype(int)) * 255).max() <= 1


@pytest.mark.parametrize("width", [0, [0, 100], -5])
def test_a_window_without_a_width_is_none(tmp_path, width):
    deep = picture(dtype=np.uint16, top=4095)
    windowless = read_xray(write_xray(tmp_path / "none.dcm", deep, bits=12))
    odd = read_xray(write_xray(tmp_path / "odd.dcm", deep, bits=12, WindowCenter=[9, 9], WindowWidth=width))
    assert (odd.pixels == windowless.pixels).all()
    assert odd.header == windowless.header


def test_8_bit_pixels_stand_as_stored_even_when_they_use_few_levels(tmp_path):
    dull = 100 + picture() // 4
    assert (read_xray(write_xray(tmp_path / "x.dcm", dull)).pixels == dull).all()


def test_compressed_without_loss_gives_the_same_pixels(tmp_path):
    path = write_xray(tmp_path / "x.dcm")
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    assert (read_xray(tmp_path / "rle.dcm").pixels == picture()).all()


# -- DICOM headers


def test_header_gives_view_age_sex_and_spacing_as_rows_and_columns(tmp_path):
    header = header_of(write_xray(tmp_path / "x.dcm", PixelSpacing=[0.2, 0.3], ImagerPixelSpacing=[0.1, 0.1]))
    assert (header.view, header.age, header.sex) == ("PA", 62.0, "F")
    assert (header.spacing, header.spacing_tag) == ((0.2, 0.3), "PixelSpacing")
    assert header.warnings == ()


@pytest.mark.parametrize("tag", ["ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_spacing_of_the_detector_says_so(tmp_path, tag):
    header = header_of(write_xray(tmp_path / "x.dcm", PixelSpacing=[0, 0], **{tag: [0.2, 0.3]}))
    assert (header.spacing, header.spacing_tag) == ((0.2, 0.3), tag)


def test_spacing_that_is_none_is_unknown(tmp_path):
    header = header_of(write_xray(tmp_path / "x.dcm", PixelSpacing=None))
    assert (header.spacing, header.spacing_tag) == (None, None)


@pytest.mark.parametrize(
    ("attributes", "view", "warning"),
    [
        ({"ViewPosition": "AP"}, "AP", None),
        ({"ViewPosition": "pa "}, "PA", None),
        ({"ViewPosition": "", "PatientPosition": "AP"}, "AP", None),
        ({"ViewPosition": "LL"}, "LL", "not a frontal view (LL)"),
        ({"ViewPosition": "JANE DOE"}, None, "the view (AP or PA) is unknown"),
        ({"ViewPosition": "", "PatientPosition": "HFS"}, None, "the view (AP or PA) is unknown"),
        ({"BodyPartExamined": "KNEE"}, "PA", "by its header (BodyPartExamined) this is no chest X-ray"),
        ({"Modality": "OT"}, "PA", "the header does not say that this is an X-ray (Modality)"),
    ],
)
def test_view_and_warnings_follow_from_the_header(tmp_path, attributes, view, warning):
    header = header_of(write_xray(tmp_path / "x.dcm", **attributes))
    assert header.view == view
    assert header.warnings == ((warning,) if warning else ())


@pytest.mark.parametrize(
    ("text", "age"),
    [("062Y", 62), ("62", 62), ("018M", 1.5), ("003W", 21 / 365.25), ("000D", 0), ("120Y", 120)]
    + [(text, None) for text in ("121Y", "148", "", "Y", "-05Y", "12X", "JANE", "6 2")],
)
def test_age_is_in_years_and_an_impossible_one_is_unknown(text, age):
    assert parse_age(text) == (None if age is None else pytest.approx(age))


@given(st.text(alphabet="0123456789DWMYdx -", max_size=6))
def test_age_is_never_impossible(text):
    age = parse_age(text)
    assert age is None or 0 <= age <= 120


# -- PNG and JPEG


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_png_of_every_mode_is_read_as_grey(tmp_path, mode):
    Image.fromarray(picture()).convert(mode).save(tmp_path / "x.png")
    xray = read_xray(tmp_path / "x.png")
    expected = np.asarray(Image.fromarray(picture()).convert(mode).convert("L"))
    assert np.abs(xray.pixels.astype(int) - expected).max() <= 1
    assert "the view (AP or PA) is unknown" in xray.header.warnings


def test_16_bit_png_is_stretched_as_a_deep_dicom(tmp_path):
    deep = picture(dtype=np.uint16, top=3000)
    Image.fromarray(deep).save(tmp_path / "x.png")
    write_xray(tmp_path / "x.dcm", deep)
    png, dicom = read_xray(tmp_path / "x.png"), read_xray(tmp_path / "x.dcm")
    assert (png.pixels == dicom.pixels).all()
    assert any("names no grey-level window" in text for text in png.header.warnings)


def test_jpeg_file_gives_the_same_as_the_same_jpeg_in_dicom(tmp_path):
    large = picture(900, 700)
    (tmp_path / "x.jpg").write_bytes(jpeg_bytes(large))
    write_xray(tmp_path / "x.dcm", large, jpeg=True)
    for read in (read_xray, lambda path: read_xray_reduced(path, 64)):
        assert (read(tmp_path / "x.jpg").pixels == read(tmp_path / "x.dcm").pixels).all()


def test_jpeg_saved_in_colour_is_read_as_grey(tmp_path):
    large = picture(900, 700)
    (tmp_path / "x.jpg").write_bytes(jpeg_bytes(np.stack([large] * 3, axis=2)))
    (tmp_path / "grey.jpg").write_bytes(jpeg_bytes(large))
    colour, grey = read_xray_reduced(tmp_path / "x.jpg", 64), read_xray_reduced(tmp_path / "grey.jpg", 64)
    assert np.abs(colour.pixels.astype(int) - grey.pixels).max() <= 2
    assert colour.header.warnings == grey.header.warnings


def test_coloured_picture_is_read_with_a_warning(tmp_path):
    colours = np.stack([picture(), picture().T[:ROWS, :].repeat(2, 1)[:, :COLUMNS], picture()], axis=2)
    Image.fromarray(colours).save(tmp_path / "x.png")
    assert "the picture is coloured: a chest X-ray is grey" in header_of(tmp_path / "x.png").warnings


def test_picture_is_turned_as_its_exif_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row stands at the right: to be turned clockwise
    stored = np.rot90(picture())
    (tmp_path / "x.jpg").write_bytes(jpeg_bytes(np.ascontiguousarray(stored), exif=exif.tobytes()))
    xray = read_xray(tmp_path / "x.jpg")
    assert xray.pixels.shape == (xray.header.rows, xray.header.columns) == (ROWS, COLUMNS)
    assert np.abs(xray.pixels.astype(int) - picture()).mean() < 0.5
    assert any("EXIF" in text for text in xray.header.warnings)


# -- warnings from pixels


def test_pixels_that_nobody_can_judge_are_warned_of(tmp_path):
    flat = 100 + picture() // 16
    black_and_white = np.where(picture() > 100, 255, 0).astype(np.uint8)
    assert header_of(write_xray(tmp_path / "1.dcm", flat)).warnings == ("hardly any contrast",)
    assert header_of(write_xray(tmp_path / "2.dcm", black_and_white)).warnings == (
        "more than half of the pixels are black or white",
    )
    assert read_xray_reduced(write_xray(tmp_path / "3.dcm"), 64).header.warnings == (
        "upscaled: 60 rows x 100 columns became 64 x 64",
    )


# -- what is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file; download or export it again"),
        (b"\n<!DOCTYPE html><html>", "got a web page; download or export it again"),
        (b"patient,file\n", "expected a DICOM, PNG or JPEG file, got something else"),
        (bytes(128) + b"DICM", "expected a whole DICOM image, got a damaged one|DICOM file without pixels"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "expected a whole PNG or JPEG, got a damaged one"),
    ],
)
def test_file_that_is_no_image_is_refused_by_its_content(tmp_path, content, message):
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_xray(path)


def test_missing_file_is_a_user_error(tmp_path):
    assert "cannot be read (No such file" in error_of(tmp_path / "gone.dcm")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Modality": "CT"}, "expected an X-ray (Modality CR or DX), got CT"),
        ({"Modality": "DOE JANE"}, "expected an X-ray (Modality CR or DX), got another"),
        (
            {"PhotometricInterpretation": "PALETTE COLOR"},
            "expected a DICOM image in grey (MONOCHROME2), got colour",
        ),
        ({"NumberOfFrames": 2}, "expected one image in the file, got 2 frames"),
        ({"Rows": 0}, "expected an image of at most 67,108,864 pixels, got 0 rows x 100 columns"),
        ({"Rows": 65535, "Columns": 65535}, "got 65535 rows x 65535 columns"),
        ({"PixelData": bytes(10)}, "expected a whole DICOM image, got a damaged one"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "expected 8 to 16 bits a pixel, got 32"),
    ],
)
def test_dicom_that_is_no_chest_xray_is_refused(tmp_path, attributes, message):
    path = write_xray(tmp_path / "x.dcm", **attributes)
    assert message in error_of(path)
    assert message in error_of(path, size=32)


def test_colour_dicom_is_refused(tmp_path):
    path = write_xray(tmp_path / "x.dcm", np.stack([picture()] * 3, axis=2), "RGB")
    assert "in grey (MONOCHROME2), got colour; give the original X-ray" in error_of(path)


def test_dicom_without_pixels_is_refused(tmp_path):
    dataset = pydicom.dcmread(write_xray(tmp_path / "x.dcm"))
    del dataset.PixelData
    dataset.save_as(tmp_path / "report.dcm")
    assert "got a DICOM file without pixels" in error_of(tmp_path / "report.dcm")


def test_compression_without_a_decoder_names_it():
    # No plugin for it is among the requirements; were one installed, there would be nothing to refuse.
    from pydicom.pixels import get_decoder

    if get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("a decoder of JPEG Lossless is installed")
    with pytest.raises(
        UserError, match=r"no installed decoder reads the compression JPEG Lossless.*install one of"
    ):
        check_decoder(JPEGLosslessSV1)


def test_truncated_files_are_refused(tmp_path):
    for name, content in (
        ("x.dcm", write_xray(tmp_path / "whole.dcm", picture(300, 300), jpeg=True).read_bytes()),
        ("x.jpg", jpeg_bytes(picture(300, 300))),
    ):
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
        assert re.search("got a damaged one|without pixels", error_of(tmp_path / name))
        assert re.search("got a damaged one|without pixels", error_of(tmp_path / name, size=64))


def test_animation_is_refused(tmp_path):
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    assert "got an animation" in error_of(tmp_path / "x.png")


@pytest.mark.parametrize("side", [9000, 10_000, 20_000])
def test_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path, side):
    # 9,000 is above our own bound, 10,000 where Pillow warns, 20,000 where it raises
    path = tmp_path / "bomb.png"
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + bytes([0, 0, 0, 0]) + b"IDAT" + bytes(8))
    assert "expected an image" in error_of(path)


def test_image_of_one_value_is_refused(tmp_path):
    path = write_xray(tmp_path / "x.dcm", np.full((20, 30), 7, np.uint8))
    assert "got one value in every pixel" in error_of(path)


# -- privacy


def test_no_name_id_or_date_reaches_a_result_a_log_or_a_message(tmp_path, caplog):
    names = ("Modality", "BodyPartExamined", "ViewPosition", "PatientPosition", "PatientAge", "PatientSex")
    everywhere = dict.fromkeys(names, "DOE^JANE")
    one = write_xray(tmp_path / "1.dcm", **everywhere)
    two = write_xray(tmp_path / "2.dcm", **everywhere | {"Modality": "CR"})
    (tmp_path / "3.dcm").write_bytes(write_xray(tmp_path / "4.dcm", jpeg=True).read_bytes()[:-500])
    caplog.clear()  # of what pydicom has logged while it wrote them
    caplog.set_level(logging.DEBUG)
    told = [error_of(one), repr(header_of(two)), error_of(tmp_path / "3.dcm")]
    for text in [*told, caplog.text]:
        assert not any(part in text for part in ("DOE", "JANE", "Jane", "SECRET", "20240229"))


# -- real files


@pytest.fixture
def odd() -> Path:
    root = os.environ.get("REAL_DATA_DIR")
    if not root or not Path(root, "odd_dicom").is_dir():
        pytest.skip("REAL_DATA_DIR is not set: no real X-rays")
    return Path(root, "odd_dicom")


def test_real_odd_files_are_read_or_refused_as_expected(odd):
    assert "got a web page" in error_of(odd / "html_page_named.dcm")
    assert "got CT" in error_of(odd / "nih_modality_ct.dcm")
    headers = {
        path.stem: header_of(path)
        for path in odd.glob("*.dcm")
        if path.stem.startswith(("nih_", "rsna_")) and path.stem != "nih_modality_ct"
    }
    nih = headers["nih_no_pixel_spacing"]
    assert (nih.view, nih.age, nih.sex, nih.spacing, nih.warnings) == ("PA", 81.0, "M", None, ())
    assert headers["nih_unknown_position"].view is None
    assert headers["nih_unknown_position"].warnings == ("the view (AP or PA) is unknown",)
    assert "no chest X-ray" in headers["nih_wrong_body_part"].warnings[0]
    rsna = headers["rsna_format_real"]
    assert (rsna.rows, rsna.columns, rsna.spacing, rsna.spacing_tag) == (
        1024,
        1024,
        (0.168, 0.168),
        "PixelSpacing",
    )
    assert (rsna.view, rsna.age, rsna.sex, rsna.warnings) == ("PA", 62.0, "M", ())
    assert len(headers) == 5


def test_real_file_marked_monochrome1_is_the_other_ones_negative(odd):
    # both files hold the same stored values, so the mark alone turns black and white
    marked = read_xray_reduced(odd / "rsna_format_monochrome1.dcm", 224).pixels
    plain = read_xray_reduced(odd / "rsna_format_real.dcm", 224).pixels
    assert np.abs(marked.astype(int) - (255 - plain.astype(int))).max() <= 1


def test_reduced_decoding_of_real_files_stays_within_the_bound_that_is_stated():
    folder = Path(os.environ.get("REAL_DATA_DIR", ""), "pneumonia", "stage_2_train_images")
    if not folder.is_dir():
        pytest.skip("REAL_DATA_DIR is not set: no real X-rays")
    paths = sorted(folder.glob("*.dcm"))[::80]
    assert len(paths) >= 5
    differences = []
    for path in paths:
        full = Image.fromarray(read_xray(path).pixels).resize((224, 224), Image.Resampling.BILINEAR)
        reduced = read_xray_reduced(path, 224).pixels
        differences.append(np.abs(reduced.astype(int) - np.asarray(full).astype(int)))
    means = [difference.mean() for difference in differences]
    # of 160 files the mean was 0.19, of the worst 0.23, and 0.2% of all pixels were off by more than 3
    assert 0.1 < np.mean(means) < 0.21
    assert max(means) < 0.25
    assert np.max(differences) <= 11
    assert np.mean(np.array(differences) > 3) < 0.004
