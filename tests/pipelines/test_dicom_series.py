from __future__ import annotations

import zipfile

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from pipelines.errors import UserError
from pipelines.readers import dicom_files
from pipelines.readers.volume import find_inputs, read_volume, save_mask

swig_warns = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")
# (X, Y, Z): 5 columns, 4 rows, 6 slices.
VOXELS = np.arange(120, dtype=np.int16).reshape(5, 4, 6)
# An oblique stack in LPS: the columns of this rotation are the directions of X, Y and Z.
ROTATION = nib.eulerangles.euler2mat(0.2, -0.3, 0.4)
SPACING = (0.6, 0.7, 2.5)
ORIGIN = np.array([-20.0, 15.0, 30.0])


def write_slice(path, index=0, position=None, rotation=ROTATION, pixels=None, **attributes):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "SECRET-7"
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset.PixelSpacing = [SPACING[1], SPACING[0]]
    dataset.ImageOrientationPatient = [f"{value:.9f}" for value in rotation[:, :2].T.ravel()]
    where = ORIGIN + rotation[:, 2] * SPACING[2] * index if position is None else position
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in where]
    pixels = VOXELS[..., index].T if pixels is None else pixels
    dataset.set_pixel_data(np.ascontiguousarray(pixels), "MONOCHROME2", 8 * pixels.itemsize)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder, indices=range(6), **attributes):
    """File names run against the order of the slices."""
    for index in indices:
        write_slice(folder / f"IM{9 - index}", index, **attributes)
    return folder


def read(path):
    return read_volume(find_inputs([path])[0])


def error_of(path):
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    assert not any(secret in message for secret in ("Doe", "SECRET", "1.2.826"))
    return message


def lps_to_ras(points):
    return points * [-1, -1, 1]


@swig_warns
def test_oblique_series_has_the_world_coordinates_that_itk_gives_it(tmp_path):
    import itk

    volume = read(write_series(tmp_path / "1.2.3"))
    np.testing.assert_array_equal(volume.array, VOXELS)
    image = itk.imread([str(tmp_path / "1.2.3" / f"IM{9 - index}") for index in range(6)])
    for index in [(0, 0, 0), (4, 0, 0), (0, 3, 0), (0, 0, 5), (4, 3, 5)]:
        expected = lps_to_ras(np.array(image.TransformIndexToPhysicalPoint(index)))
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], expected, atol=1e-4)
    assert volume.spacing == pytest.approx(SPACING, abs=1e-5)
    assert volume.warnings == []


def test_world_coordinates_by_hand(tmp_path):
    volume = read(write_series(tmp_path / "a", rotation=np.eye(3)))
    # One column further is 0.6 mm to the left, one row 0.7 mm to the back, one slice 2.5 mm up.
    expected = [[-0.6, 0, 0, 20], [0, -0.7, 0, -15], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-6)


def test_slices_stand_in_the_order_of_the_normal_whichever_way_the_rows_run(tmp_path):
    turned = ROTATION * [-1, 1, -1]
    volume = read(write_series(tmp_path / "a", rotation=turned))
    np.testing.assert_array_equal(volume.array, VOXELS)
    np.testing.assert_allclose(lps_to_ras(volume.affine[:3, 2]), turned[:, 2] * 2.5, atol=1e-5)


def test_mask_of_a_series_is_nifti_in_world_space(tmp_path):
    volume = read(write_series(tmp_path / "a"))
    save_mask(tmp_path / "mask.nii.gz", volume.array > 60, volume)
    mask = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), VOXELS > 60)
    np.testing.assert_allclose(mask.affine @ [0, 0, 0, 1], [20, -15, 30, 1], atol=1e-4)


def test_values_are_rescaled_slice_by_slice(tmp_path):
    for index in range(6):
        write_slice(tmp_path / f"{index}", index, RescaleSlope=index + 1, RescaleIntercept=-3)
    np.testing.assert_allclose(read(tmp_path).array, VOXELS * np.arange(1.0, 7.0) - 3)


def test_monochrome1_is_turned_so_that_more_is_brighter(tmp_path):
    volume = read(write_series(tmp_path / "a", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(volume.array, 119 - VOXELS)


def test_what_is_no_image_is_counted_and_passed_over(tmp_path):
    write_series(tmp_path)
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", generate_uid()
    report.save_as(tmp_path / "SR1", enforce_file_format=True)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_text("hello")
    volume = read(tmp_path)
    assert volume.array.shape == VOXELS.shape
    assert volume.warnings == ["2 files that are no DICOM images were passed over"]


def test_two_series_are_listed_without_a_word_about_the_patient(tmp_path):
    write_series(tmp_path, range(4))
    write_slice(tmp_path / "other1", 4, SeriesInstanceUID="1.2.826.9", PixelSpacing=[1.25, 1.25])
    message = error_of(tmp_path)
    assert "expected one series, got 2: series 1: 4 slices, 0.7 x 0.6 mm, such as IM6" in message
    assert "series 2: 1 slices, 1.25 x 1.25 mm, such as other1" in message
    assert "Put the one you want in a folder of its own" in message


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1, 2, 4, 5], r"5.00 mm between slices 3 and 4 of 5 where 2.50 mm is usual \(1 missing\?\)"),
        ([0, 3, 4, 5], r"7.50 mm between slices 1 and 2 of 4 where 2.50 mm is usual \(2 missing\?\)"),
        ([0, 1, 3], r"5.00 mm between slices 2 and 3 of 3 where 2.50 mm is usual"),
    ],
)
def test_missing_slice_is_refused_and_located(tmp_path, indices, message):
    write_series(tmp_path, indices)
    with pytest.raises(UserError, match=message + ".*volume in mL would be wrong"):
        read(tmp_path)


@pytest.mark.parametrize(("shift", "refused"), [(0.02, False), (0.04, True)])
def test_uneven_spacing_beyond_one_percent_is_refused(tmp_path, shift, refused):
    write_series(tmp_path, range(5))
    write_slice(tmp_path / "last", 5, position=ORIGIN + ROTATION[:, 2] * (12.5 + shift))
    if refused:
        assert "step of 2.54 mm between slices 5 and 6 of 6" in error_of(tmp_path)
    else:
        assert read(tmp_path).array.shape == VOXELS.shape


def test_stacks_that_do_not_fit_together_are_refused(tmp_path):
    cases = {
        "copy": {"index": 2},
        "turned": {"index": 5, "rotation": np.eye(3)},
        "large": {"index": 5, "pixels": np.ones((8, 8), np.int16)},
        "coarse": {"index": 5, "PixelSpacing": [2, 2]},
        "beside": {"index": 5, "position": ORIGIN + ROTATION @ [4, 0, 12.5]},
    }
    messages = {}
    for name, attributes in cases.items():
        write_series(tmp_path / name, range(5))
        write_slice(tmp_path / name / "odd", **attributes)
        messages[name] = error_of(tmp_path / name)
    assert "got 1 of 6 at another's" in messages["copy"]
    assert "slices of one orientation, got" in messages["turned"]
    assert "slices of one size, got 4 x 5 and 8 x 8" in messages["large"]
    assert "slices of one pixel spacing, got 1 of 6" in messages["coarse"]
    assert "slices in one line" in messages["beside"]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"ImagePositionPatient": None}, "expected ImagePositionPatient (3 numbers) in each slice"),
        ({"PixelSpacing": None}, "expected PixelSpacing (2 numbers)"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two unit vectors at a right angle"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "images in grey (MONOCHROME2), got PALETTE COLOR"),
        ({"NumberOfFrames": 3}, "a position for each of 3 frames, got 0"),
    ],
)
def test_slice_without_usable_geometry_is_refused(tmp_path, attributes, message):
    assert message in error_of(write_series(tmp_path / "a", **attributes))


def test_one_slice_is_no_volume(tmp_path):
    assert "at least 2 slices, got 1" in error_of(write_slice(tmp_path / "a.dcm"))


def test_sheared_stack_is_refused(tmp_path):
    for index in range(6):
        write_slice(tmp_path / f"{index}", index, position=ORIGIN + ROTATION @ [0, index, 2.5 * index])
    assert "sheared grid" in error_of(tmp_path)


def test_slice_cut_short_is_refused_by_name(tmp_path):
    write_series(tmp_path)
    (tmp_path / "IM7").write_bytes((tmp_path / "IM7").read_bytes()[:-11])
    assert "got a damaged one, IM7" in error_of(tmp_path)


def test_header_cut_short_is_no_reason_to_drop_a_slice(tmp_path):
    write_series(tmp_path)
    (tmp_path / "IM9").write_bytes((tmp_path / "IM9").read_bytes()[:500])
    assert "got a damaged one, IM9" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("syntax", "name", "advice"),
    [
        (pydicom.uid.JPEGLosslessSV1, "JPEG Lossless", "install one of: .*pylibjpeg"),
        (pydicom.uid.MPEG2MPML, "MPEG2 Main Profile", "export it uncompressed"),
    ],
)
def test_compression_without_a_decoder_is_named_with_its_plugin(tmp_path, monkeypatch, syntax, name, advice):
    write_series(tmp_path)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)
    # whichever plugins are installed
    decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(UserError, match=rf"reads the compression {name}.*; {advice}"):
        read(tmp_path)


def test_file_without_the_dicom_mark_is_never_forced(tmp_path):
    write_series(tmp_path)
    (tmp_path / "IM4").write_bytes((tmp_path / "IM4").read_bytes()[132:])
    volume = read(tmp_path)
    assert volume.array.shape == (5, 4, 5)
    assert volume.warnings == ["1 files that are no DICOM images were passed over"]


# -- enhanced multi-frame


def write_enhanced(path, frames=range(6), shared_orientation=True):
    write_slice(path)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    orientation, measures, value = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
    measures.PixelSpacing = dataset.PixelSpacing
    value.RescaleSlope, value.RescaleIntercept = 2, 1
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    groups = []
    for index in frames:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [f"{x:.6f}" for x in ORIGIN + ROTATION[:, 2] * 2.5 * index]
        group.PlanePositionSequence = [position]
        group.PixelValueTransformationSequence = [value]
        (shared if shared_orientation else group).PlaneOrientationSequence = [orientation]
        groups.append(group)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = len(groups)
    dataset.PixelData = np.ascontiguousarray(VOXELS.T[list(frames)]).tobytes()
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("shared", [True, False])
def test_enhanced_file_is_the_same_volume_as_the_classic_series(tmp_path, shared):
    classic = read(write_series(tmp_path / "classic"))
    enhanced = read(write_enhanced(tmp_path / "1.2.840.dcm", [3, 0, 5, 1, 4, 2], shared))
    np.testing.assert_array_equal(enhanced.array, classic.array * 2 + 1)
    np.testing.assert_allclose(enhanced.affine, classic.affine, atol=1e-6)


def test_enhanced_time_series_is_refused(tmp_path):
    assert "got 3 of 6 at another's (a time series" in error_of(
        write_enhanced(tmp_path / "a.dcm", [0, 1, 2] * 2)
    )


# -- zip


def zipped(path, folder, prefix="study/series/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


def test_zip_is_read_as_its_folder_and_writes_nothing(tmp_path):
    folder = write_series(tmp_path / "series")
    path = zipped(tmp_path / "1.2.3.zip", folder, "../../outside/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._IM9", b"\0" * 128 + b"DICM")
        link = zipfile.ZipInfo("IM0")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    before = sorted(tmp_path.parent.rglob("*"))
    volume = read(path)
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert volume.warnings == []
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_zip_beyond_its_bounds_is_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", write_series(tmp_path / "a"))
    monkeypatch.setattr(dicom_files, "MAX_ZIP_FILES", 5)
    assert "at most 5 files and 4 GB unpacked, got 6 files" in error_of(path)
    monkeypatch.setattr(dicom_files, "MAX_ZIP_FILES", 6)
    monkeypatch.setattr(dicom_files, "MAX_ZIP_BYTES", 1000)
    assert "unpack it and give the folder" in error_of(path)


def test_bad_zips_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", write_series(tmp_path / "a"))
    data = bytearray(path.read_bytes())
    (tmp_path / "cut.zip").write_bytes(data[:-40])
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.nii", b"no dicom")
    assert "expected a zip, got a damaged one" in error_of(tmp_path / "cut.zip")
    assert "without a password" in error_of(tmp_path / "locked.zip")
    assert "got 1 files and no DICOM image among them" in error_of(tmp_path / "other.zip")


def test_zip_with_a_damaged_member_is_refused_by_name(tmp_path):
    path = zipped(tmp_path / "a.zip", write_series(tmp_path / "a"))
    data = bytearray(path.read_bytes())
    data[data.index(b"study/series/IM7") + 60] ^= 255
    path.write_bytes(data)
    assert "got a damaged one, IM7" in error_of(path)


@pytest.mark.parametrize("tag", ["PatientID", "PatientName", "StudyInstanceUID"])
def test_slices_of_two_patients_are_refused_without_naming_either(tmp_path, tag):
    write_series(tmp_path)
    write_slice(tmp_path / "IM9", 0, **{tag: "SECRET-8" if tag != "StudyInstanceUID" else "1.2.826.1"})
    assert "slices of one patient and examination" in error_of(tmp_path)
