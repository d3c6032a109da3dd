from __future__ import annotations

import errno
import gzip
import itertools
import os
import struct

import itk
import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations as nio

from pipelines.errors import UserError
from pipelines.readers import inputs
from pipelines.readers.geometry import check_affine, from_ras, spacing_mm
from pipelines.readers.volume import Volume, VolumeInput, find_inputs, read_volume, save_mask

# ITK loads as it is used, and SWIG's deprecation as an error would end the process, not the test.
swig_warns = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.5) * (0.6, 0.7, 2.5), (-20, 15, 30))


def voxels(shape=(4, 5, 6), dtype=np.int16):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def write_nifti(path, array=None, affine=OBLIQUE, **header):
    image = nib.Nifti1Image(voxels() if array is None else array, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def read(path):
    return read_volume(find_inputs([path])[0])


def error_of(path):
    with pytest.raises(UserError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


# -- which inputs there are


@pytest.mark.parametrize(
    ("name", "case", "kind"),
    [
        ("la_001.nii.gz", "la_001", "nifti"),
        ("1.2.840.nii.gz", "1.2.840", "nifti"),
        ("1.2.840.NII", "1.2.840", "nifti"),
        ("a.b.nrrd", "a.b", "nrrd"),
        ("a.nhdr", "a", "nrrd"),
        ("scan v1.2.mha", "scan v1.2", "metaimage"),
        ("a.mhd", "a", "metaimage"),
        ("1.2.3.zip", "1.2.3", "dicom"),
    ],
)
def test_case_is_the_name_less_a_known_suffix(tmp_path, name, case, kind):
    (tmp_path / name).touch()
    assert find_inputs([tmp_path / name]) == [VolumeInput(case, tmp_path / name, kind)]


def test_folder_gives_its_images_and_the_series_one_level_below(tmp_path):
    for name in (
        "b.nii.gz",
        "a.mha",
        "notes.txt",
        "._b.nii.gz",
        ".hidden.nii",
        "labels/b.nii.gz",
        "empty/x.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "1.2.3").mkdir()
    (tmp_path / "1.2.3" / "IM1").write_bytes(bytes(128) + b"DICM")
    assert [(item.case, item.kind) for item in find_inputs([tmp_path])] == [
        ("1.2.3", "dicom"),
        ("a", "metaimage"),
        ("b", "nifti"),
    ]


def test_what_cannot_be_read_in_a_folder_is_told_and_the_others_still_run(tmp_path, monkeypatch):
    write_nifti(tmp_path / "good.nii")
    (tmp_path / "gone.nii.gz").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.nii")  # opening it would wait for ever
    (tmp_path / "locked").mkdir()
    visible = inputs.visible_files

    def locked(folder):
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return visible(folder)

    monkeypatch.setattr(inputs, "visible_files", locked)
    found = {item.case: item.problem for item in find_inputs([tmp_path])}
    assert found.pop("good") is None
    assert found.pop("gone") == "no such file or folder; check the path"
    assert found.pop("pipe").startswith("expected a .nii")
    assert found == {"locked": "cannot be read (Permission denied)"}


def test_folder_is_named_by_itself_even_when_given_as_a_dot(tmp_path, monkeypatch):
    (tmp_path / "1.2.dcm").mkdir()
    (tmp_path / "1.2.dcm" / "IM1").write_bytes(bytes(128) + b"DICM")
    monkeypatch.chdir(tmp_path / "1.2.dcm")
    assert find_inputs(["."])[0].case == "1.2.dcm"


def test_same_path_twice_is_one_input(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz")
    assert len(find_inputs([path, tmp_path, tmp_path / ".." / tmp_path.name / "a.nii.gz"])) == 1


def test_second_input_of_one_name_is_refused_and_the_first_still_runs(tmp_path):
    for name in ("one/Lgemri.nrrd", "two/lgemri.nii.gz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    first, second = find_inputs([tmp_path / "one", tmp_path / "two"])
    assert first.problem is None
    with pytest.raises(UserError, match=r"would be called 'lgemri', as that of .*Lgemri\.nrrd; rename one"):
        read_volume(second)


@pytest.mark.parametrize(
    "name", ["...nii", ".nii.gz", "..nii.gz", "a\\b.nii", "a\nb.nii", "summary.csv.nii", "log.txt.nii"]
)
def test_name_that_is_no_folder_name_never_becomes_a_result_folder(tmp_path, name):
    (tmp_path / name).touch()
    write_nifti(tmp_path / "good.nii")
    bad = find_inputs([tmp_path / name, tmp_path / "good.nii"])[0]
    assert "gives no folder name" in bad.problem


def test_nothing_to_read_says_what_is_read(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds nothing to read; expected a \.nii, .*DICOM series"):
        find_inputs([tmp_path])
    with pytest.raises(UserError, match=r"notes\.txt: expected a \.nii"):
        find_inputs([tmp_path / "notes.txt"])
    with pytest.raises(UserError, match=r"no such file or folder; check the path \(and 1 more\)"):
        find_inputs([tmp_path / "gone.nii", tmp_path / "gone"])
    with pytest.raises(UserError, match=r"expected a \.nii"):
        find_inputs([])


def test_data_set_folder_names_the_folders_that_hold_images(tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "la_001.nii.gz").touch()
    with pytest.raises(UserError, match=r"nothing to read; name a folder below it \(imagesTr, labelsTr\)"):
        find_inputs([tmp_path])


def test_folder_of_studies_names_those_that_hold_series(tmp_path):
    series = tmp_path / "patient" / "study" / "series"
    series.mkdir(parents=True)
    (series / "IM1").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(UserError, match=r"nothing to read; name a folder below it \(study\)"):
        find_inputs([tmp_path / "patient"])
    assert [item.case for item in find_inputs([tmp_path / "patient" / "study"])] == ["series"]


# -- NIfTI


def test_nifti_keeps_voxels_affine_and_spacing(tmp_path):
    volume = read(write_nifti(tmp_path / "a.nii.gz"))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    assert volume.spacing == pytest.approx((0.6, 0.7, 2.5), abs=1e-5)
    assert volume.warnings == []


def test_nifti_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(voxels(), OBLIQUE)
    image.header.set_slope_inter(2.0, -10.0)
    nib.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[352:] = voxels().astype("<i2").tobytes(order="F")
    (tmp_path / "a.nii").write_bytes(raw)
    np.testing.assert_allclose(read(tmp_path / "a.nii").array, voxels() * 2.0 - 10.0)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000.0), ("meter", 0.001), ("mm", 1.0)])
def test_nifti_in_other_units_is_read_in_mm_and_answered_in_its_own(tmp_path, unit, factor):
    affine = np.diag([0.6 * factor, 0.7 * factor, 2.5 * factor, 1.0])
    image = nib.Nifti1Image(voxels(), affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    assert volume.spacing == pytest.approx((0.6, 0.7, 2.5), rel=1e-5)
    save_mask(tmp_path / "mask.nii.gz", volume.array > 50, volume)
    mask = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, nib.load(tmp_path / "a.nii").affine)
    assert mask.header.get_xyzt_units()[0] == unit


def test_trailing_axis_of_one_is_dropped_with_a_warning(tmp_path):
    volume = read(write_nifti(tmp_path / "a.nii", voxels((4, 5, 6, 1))))
    assert volume.array.shape == (4, 5, 6)
    assert "axes of length one" in volume.warnings[0]


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 6, 3)])
def test_what_is_no_single_volume_is_refused(tmp_path, shape):
    assert "expected one 3-D volume" in error_of(write_nifti(tmp_path / "a.nii", voxels(shape)))


def test_colour_and_complex_voxels_are_refused(tmp_path):
    colour = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "expected one real number a voxel" in error_of(write_nifti(tmp_path / "a.nii", colour))
    assert "got complex64" in error_of(write_nifti(tmp_path / "b.nii", voxels(dtype=np.complex64)))


def test_nan_and_infinity_become_the_lowest_value_with_a_warning(tmp_path):
    array = voxels(dtype=np.float32) + 7
    array[1, 2, 3], array[0, 0, 0] = np.nan, -np.inf
    volume = read(write_nifti(tmp_path / "a.nii.gz", array))
    assert volume.array[1, 2, 3] == volume.array[0, 0, 0] == 8
    assert volume.warnings == ["2 voxels were NaN or infinite and were set to the lowest value"]


def test_mask_given_as_image_is_refused(tmp_path):
    mask = (voxels() > 50).astype(np.uint8)
    assert "got 0 and 1 alone, as in a mask" in error_of(write_nifti(tmp_path / "a.nii", mask))


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan, np.inf])
def test_constant_volume_is_refused(tmp_path, value):
    path = write_nifti(tmp_path / "a.nii", np.full((4, 5, 6), value, np.float32))
    assert "one value in every voxel" in error_of(path)


@pytest.mark.parametrize("kept", [0, 100, 0.5, -9])
def test_truncated_gzip_is_refused(tmp_path, kept):
    path = write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 900, (9, 9, 9), np.int16))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if kept == 0.5 else kept])
    assert "a.nii.gz: expected a whole NIfTI file, got one that is damaged" in error_of(path)


def test_one_damaged_byte_is_caught_by_the_gzip_checksum(tmp_path):
    path = write_nifti(tmp_path / "a.nii")
    raw = bytearray(gzip.compress(path.read_bytes(), compresslevel=0))
    raw[-40] ^= 1
    (tmp_path / "b.nii.gz").write_bytes(raw)
    assert "damaged" in error_of(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\0" * 400])
def test_what_is_no_nifti_is_refused(tmp_path, content):
    (tmp_path / "a.nii").write_bytes(content)
    assert "no NIfTI" in error_of(tmp_path / "a.nii")


def test_header_without_orientation_is_warned_of(tmp_path):
    volume = read(write_nifti(tmp_path / "a.nii", affine=None))
    assert "gives no orientation" in volume.warnings[0]


def test_pixdim_that_disagrees_with_the_affine_is_warned_of(tmp_path):
    volume = read(write_nifti(tmp_path / "a.nii", pixdim=[1, 0.6, 0.7, 5.0, 0, 0, 0, 0]))
    assert "pixdim (0.6, 0.7, 5) mm disagrees with its affine (0.6, 0.7, 2.5) mm" in volume.warnings[0]


def test_sform_and_qform_that_disagree_are_warned_of(tmp_path):
    path, mirrored = tmp_path / "a.nii", np.diag([-1.0, 1, 1, 1]) @ OBLIQUE
    image = nib.Nifti1Image(voxels(), OBLIQUE)
    image.set_qform(mirrored, code=1)
    nib.save(image, path)
    volume = read(path)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    # the corner (0, 0, 0) moves from x = -20 to 20 mm, and the corner farthest to the left most
    corners = nib.affines.apply_affine(OBLIQUE, list(itertools.product((0, 3), (0, 4), (0, 5))))
    assert volume.warnings == [
        f"the header's sform and qform disagree by up to {2 * abs(corners[:, 0]).max():.3g} mm; the sform was used"
    ]


@pytest.mark.parametrize("spacing", [(0.0, 0.7, 2.5), (-0.6, 0.7, 2.5), (np.nan, 0.7, 2.5)])
@pytest.mark.parametrize("code", [0, 1])
def test_without_sform_a_spacing_that_is_no_positive_number_is_refused_instead_of_taken_as_1_mm(
    tmp_path, spacing, code
):
    path = tmp_path / "a.nii"
    image = nib.Nifti1Image(voxels(), OBLIQUE)
    image.set_sform(OBLIQUE, code=0)
    image.set_qform(OBLIQUE, code=code)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<3f", content, 80, *spacing)  # pixdim[1:4]
    path.write_bytes(content)
    assert f"three positive numbers in mm, got ({spacing[0]:g}, 0.7, 2.5); mend pixdim" in error_of(path)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([0.0006, 0.0007, 0.002, 1.0]), r"must be three numbers from 0.05 to 50 mm, got \(0.0006"),
        (np.diag([1.0, 0.0, 1.0, 1.0]), r"got \(1, 0, 1\)"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "NaN or infinity"),
        (np.eye(4) + np.outer([1, 0, 0, 0], [0, 0.1, 0, 0]), r"sheared grid \(off by 5.7 degrees\)"),
    ],
)
def test_grid_on_which_ml_would_be_wrong_is_refused(affine, message):
    with pytest.raises(UserError, match=message):
        check_affine(affine, (4, 5, 6))


def test_header_that_makes_a_scan_of_a_thousand_litres_is_refused_before_it_is_resampled(tmp_path):
    path = write_nifti(tmp_path / "a.nii", voxels((20, 25, 30)), np.diag([50.0, 50, 50, 1]))
    assert "at most 250 litres, got 1000 x 1250 x 1500 mm, which are 1875" in error_of(path)


def test_spacing_does_not_depend_on_rotation():
    assert spacing_mm(OBLIQUE) == pytest.approx((0.6, 0.7, 2.5))


# -- NRRD and MetaImage


@swig_warns
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("flip", [1, -1])
def test_itk_formats_give_the_same_grid_as_nifti(tmp_path, suffix, flip):
    affine = OBLIQUE @ np.diag([flip, 1, 1, 1])
    image = nib.Nifti1Image(voxels(), affine)
    image.set_qform(affine, code="scanner")
    nib.save(image, tmp_path / "a.nii.gz")
    itk.imwrite(itk.imread(str(tmp_path / "a.nii.gz")), str(tmp_path / f"b{suffix}"))
    volume = read(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


def test_nrrd_in_ras_is_read_in_ras(tmp_path):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 4 5 6\nendian: little\n"
        "space directions: (0.6,0,0) (0,0.7,0) (0,0,2.5)\nspace origin: (1,2,3)\nencoding: raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + voxels().astype("<i2").tobytes(order="F"))
    volume = read(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, [[0.6, 0, 0, 1], [0, 0.7, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]])


@swig_warns
def test_damaged_and_unsuitable_itk_files_are_refused(tmp_path):
    itk.imwrite(itk.image_from_array(voxels()), str(tmp_path / "a.nrrd"))
    itk.imwrite(itk.image_from_array(voxels()), str(tmp_path / "a.mhd"))
    (tmp_path / "cut.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes()[:-30])
    (tmp_path / "a.raw").unlink()
    itk.imwrite(itk.image_from_array(voxels((4, 5))), str(tmp_path / "flat.mha"))
    itk.imwrite(itk.image_from_array(voxels((2, 4, 5, 6))), str(tmp_path / "cine.mha"))
    colour = itk.image_from_array(voxels((4, 5, 6, 3), np.uint8), is_vector=True)
    itk.imwrite(colour, str(tmp_path / "rgb.mha"))
    assert "damaged, cut short or without its data file" in error_of(tmp_path / "cut.nrrd")
    assert "without its data file" in error_of(tmp_path / "a.mhd")
    assert "got the shape (5, 4)" in error_of(tmp_path / "flat.mha")
    assert "got the shape (6, 5, 4, 2)" in error_of(tmp_path / "cine.mha")
    assert "expected one number a voxel, got 3" in error_of(tmp_path / "rgb.mha")


@swig_warns
def test_itk_file_with_a_fourth_axis_of_one_is_one_volume(tmp_path):
    itk.imwrite(itk.image_from_array(voxels((1, 6, 5, 4))), str(tmp_path / "a.mha"))
    volume = read(tmp_path / "a.mha")
    np.testing.assert_array_equal(volume.array, voxels((6, 5, 4)).T)
    assert "last axis" in volume.warnings[0]


# -- the answer


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_mask_has_the_inputs_grid_and_codes_but_none_of_its_text(tmp_path, image_class):
    image = image_class(voxels(), OBLIQUE)
    image.set_sform(OBLIQUE, code="mni")
    image.set_qform(OBLIQUE, code="scanner")
    image.header["descrip"] = b"Jane Doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read(tmp_path / "a.nii.gz")
    save_mask(tmp_path / "mask.nii.gz", volume.array > 60, volume)
    mask, source = nib.load(tmp_path / "mask.nii.gz"), nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), voxels() > 60)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, source.affine)
    np.testing.assert_array_equal(mask.get_qform(), source.get_qform())
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (4, 1)
    assert b"Jane" not in gzip.decompress((tmp_path / "mask.nii.gz").read_bytes())


def test_mask_of_another_format_stands_in_world_space(tmp_path):
    volume = Volume(voxels(dtype=np.float32), OBLIQUE)
    save_mask(tmp_path / "mask.nii.gz", volume.array > 60, volume)
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii.gz").affine, OBLIQUE, atol=1e-5)
    with pytest.raises(ValueError, match="mask must have the volume's shape"):
        save_mask(tmp_path / "mask.nii.gz", np.zeros((2, 2, 2)), volume)


def test_image_in_ras_is_what_monais_transforms_make_of_the_file(tmp_path):
    from monai.data import MetaTensor, NibabelReader
    from monai.transforms import Compose, EnsureChannelFirst, Orientation

    path = write_nifti(tmp_path / "a.nii.gz")
    ours, _ = read(path).in_ras()
    reader = NibabelReader()
    array, meta = reader.get_data(reader.read(path))
    theirs = Compose([EnsureChannelFirst(), Orientation("RAS", labels=None)])(MetaTensor(array, meta=meta))
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_allclose(ours.affine.numpy(), theirs.affine.numpy(), atol=1e-5)


ROTATIONS = [(0, 0, 0), (10, 20, 30), (45, 0, 0), (0, 45, 45), (45, 45, 45), (54.7356, 45, 0), (80, -35, 120)]


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_volume_stored_in_any_of_48_ways_is_one_array_in_ras_and_turns_back(degrees):
    rotation = nib.eulerangles.euler2mat(*np.radians(degrees)) * (0.6, 0.78125, 2.5)
    affine = nib.affines.from_matvec(rotation, (-20, 15, 30))
    wanted, _ = Volume(voxels(dtype=np.float32), affine).in_ras()
    for axes, signs in itertools.product(
        itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    ):
        turn = np.array([axes, signs]).T
        array = nio.apply_orientation(voxels(dtype=np.float32), turn)
        # as a file's header holds it, in single precision
        stored = (affine @ nio.inv_ornt_aff(turn, voxels().shape)).astype(np.float32).astype(float)
        image, back = Volume(array, stored).in_ras()
        np.testing.assert_array_equal(image.numpy(), wanted.numpy())
        np.testing.assert_allclose(image.affine.numpy(), wanted.affine.numpy(), atol=1e-5)
        np.testing.assert_array_equal(from_ras(image[0].numpy(), back), array)
