"""The phantom of the left atrium."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from pipelines.errors import UserError
from pipelines.phantoms.atrium import make_case, write_phantom

SMALL = (32, 32, 16)


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def millilitres(label):
    return int(np.asarray(label.dataobj).sum()) * abs(np.linalg.det(label.affine[:3, :3])) / 1000


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "Task02_Heart"
    write_phantom(folder, cases=3, seed=5, size=SMALL)
    return folder


@pytest.fixture(scope="module")
def patients():
    return [make_case(0, k) for k in range(1, 9)]


def test_the_tree_and_the_keys_are_those_of_the_decathlon(phantom):
    content = json.loads((phantom / "dataset.json").read_text())
    assert list(content) == [
        "name",
        "description",
        "reference",
        "licence",
        "release",
        "tensorImageSize",
        "modality",
        "labels",
        "numTraining",
        "numTest",
        "training",
        "test",
    ]
    assert content["modality"] == {"0": "MRI"}
    assert content["labels"] == {"0": "background", "1": "left atrium"}
    assert (content["numTraining"], content["numTest"], content["test"]) == (3, 0, [])
    assert content["training"][2] == {
        "image": "./imagesTr/la_003.nii.gz",
        "label": "./labelsTr/la_003.nii.gz",
    }
    names = [f"la_00{k}.nii.gz" for k in (1, 2, 3)]
    assert sorted(files_of(phantom)) == sorted(
        ["dataset.json", *(f"{d}/{n}" for d in ("imagesTr", "labelsTr") for n in names)]
    )


def test_monai_reads_the_datalist(phantom):
    from monai.data import load_decathlon_datalist

    items = load_decathlon_datalist(phantom / "dataset.json", is_segmentation=True)
    assert [nib.load(item["image"]).shape for item in items] == [
        nib.load(item["label"]).shape for item in items
    ]


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_cases(phantom, tmp_path):
    write_phantom(tmp_path / "two", cases=2, seed=5, size=SMALL)
    two, three = files_of(tmp_path / "two"), files_of(phantom)
    assert two.pop("dataset.json") != three["dataset.json"]
    assert all(three[name] == content for name, content in two.items())


def test_another_seed_gives_another_patient():
    assert not np.array_equal(make_case(0, 1, SMALL)[0].dataobj, make_case(1, 1, SMALL)[0].dataobj)


def test_images_look_like_mri_to_the_reader(patients):
    for image, label in patients:
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        assert image.shape == label.shape
        assert set(np.unique(label.dataobj)) == {0, 1}
        pixels = np.asarray(image.dataobj)
        assert pixels.min() >= 0
        assert 200 < pixels.max() < 6000


def test_affines_are_oblique_and_sform_equals_qform(patients):
    for image, label in patients:
        for form in (image.get_sform(), image.get_qform(), label.get_sform(), label.get_qform()):
            assert np.allclose(form, image.affine, atol=1e-3)
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        directions = image.affine[:3, :3] / image.header.get_zooms()
        assert np.allclose(directions @ directions.T, np.eye(3), atol=1e-5)  # no shear
        assert 0.9 < np.abs(directions).max(axis=0).min() < 0.9999  # a few degrees off the axes
        assert image.header.get_xyzt_units()[0] == "mm"


def test_spacings_are_anisotropic_and_spacings_and_orientations_vary(patients):
    spacings = [np.sort(image.header.get_zooms()) for image, _ in patients]
    for in_plane, also_in_plane, through_plane in spacings:
        assert in_plane == pytest.approx(also_in_plane)
        assert through_plane > 1.3 * in_plane
    assert len({tuple(spacing) for spacing in spacings}) == len(patients)
    assert len({nib.aff2axcodes(image.affine) for image, _ in patients}) > 3
    assert len({round(float(np.percentile(image.dataobj, 99)), -2) for image, _ in patients}) > 3


def test_the_atrium_is_one_piece_of_plausible_volume_inside_the_field_of_view(patients):
    for _, label in patients:
        mask = np.asarray(label.dataobj) > 0
        assert 30 < millilitres(label) < 150
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
        inner = np.zeros_like(mask)
        inner[1:-1, 1:-1, 1:-1] = True
        assert not (mask & ~inner).any()


def test_volume_does_not_depend_on_the_spacing():
    for index in (1, 2, 3):
        coarse = millilitres(make_case(3, index, (48, 48, 24))[1])
        assert coarse == pytest.approx(millilitres(make_case(3, index, (96, 96, 36))[1]), rel=0.03)


def test_brightness_alone_does_not_find_the_atrium(patients):
    for image, label in patients:
        pixels, mask = np.asarray(image.dataobj), np.asarray(label.dataobj) > 0
        bright = pixels > np.percentile(pixels[mask], 10)
        dice = 2 * (bright & mask).sum() / (bright.sum() + mask.sum())
        assert dice < 0.6
        rim = ndimage.binary_dilation(mask, iterations=2) & ~mask
        assert pixels[mask].mean() > 1.2 * pixels[rim].mean()  # but there is an edge to learn


def test_a_second_run_with_the_same_arguments_changes_nothing_and_says_so(phantom, capsys):
    before = {p: p.stat().st_mtime_ns for p in phantom.rglob("*")}
    write_phantom(phantom, cases=3, seed=5, size=SMALL)
    assert "already holds this phantom" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in phantom.rglob("*")}


def test_a_folder_with_anything_else_is_refused_and_kept(phantom, tmp_path):
    with pytest.raises(UserError, match=r"expected an empty folder .*Task02_Heart.*choose another"):
        write_phantom(phantom, cases=3, seed=6, size=SMALL)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="found other files"):
        write_phantom(tmp_path, cases=1, size=SMALL)
    assert files_of(tmp_path) == {"thesis.txt": b"mine"}


def test_a_phantom_that_lost_a_file_is_not_taken_for_whole(tmp_path):
    write_phantom(tmp_path / "p", cases=1, size=SMALL)
    (tmp_path / "p/labelsTr/la_001.nii.gz").unlink()
    with pytest.raises(UserError, match="found other files"):
        write_phantom(tmp_path / "p", cases=1, size=SMALL)


def test_a_run_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    import pipelines.phantoms.atrium as module

    def stop_at_two(seed, index, size):
        if index == 2:
            raise KeyboardInterrupt
        return make_case(seed, index, size)

    monkeypatch.setattr(module, "make_case", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "p", cases=2, size=SMALL)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled(tmp_path):
    write_phantom(tmp_path, cases=1, size=SMALL)
    assert (tmp_path / "dataset.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cases": 0}, "cases must be 1 to 999, got 0"),
        ({"seed": -1}, "seed must be zero or more, got -1"),
        ({"size": (32, 32)}, "three numbers of voxels"),
        ({"size": (32, 32, 2)}, "from 8 to 1024, got"),
    ],
)
def test_unusable_arguments_are_refused(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_phantom(tmp_path / "p", **arguments)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the phantom to .*file/p: .*; choose another"):
        write_phantom(tmp_path / "file" / "p", cases=1, size=SMALL)
