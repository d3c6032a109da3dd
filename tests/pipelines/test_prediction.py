"""Prediction with the bundle's own transforms and a network that only tells bright from dark."""

from __future__ import annotations

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from nibabel import orientations as nio
from scipy.spatial import cKDTree

import pipelines.prediction
from pipelines.phantoms.atrium import make_case
from pipelines.prediction import VolumePrediction, nifti_items
from pipelines.readers.volume import Volume
from pipelines.tasks.atrium import atrium_result

SOURCE = {"bundle": "atrium", "model_sha256": "ab", "config_sha256": "cd"}
ALL_48 = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.5) * (2.5, 3.125, 4.0), (-20, 15, 30)
)


def bright(slices):
    """(N, C, H, W) in [0, 1] to logits (N, 1, H, W): above 0.5 is foreground."""
    middle = slices.shape[1] // 2
    return (slices[:, middle : middle + 1] - 0.5) * 20


def lopsided(slices):
    """As ``bright``, with a pull to one side of each slice and of each stack: no symmetry to hide behind."""
    return bright(slices) + 4 * (slices[:, :1].roll(2, -1) - slices[:, -1:].roll(-1, -2))


def prediction(inputs=(), out="", network=bright, **knobs):
    parser = ConfigParser()
    parser.read_config("bundles/atrium/inference.yaml")
    parser.update(knobs)
    parts = {name: parser.get_parsed_content(name) for name in ("preprocessing", "inferer", "postprocessing")}
    return VolumePrediction(
        inputs,
        out,
        network=network,
        device="cpu",
        measure=atrium_result,
        source=SOURCE,
        structure="left atrium",
        **parts,
    )


def blob(shape=(30, 25, 14)):
    """A bright lopsided body in dark noise, and a smaller one apart from it; both off the border."""
    x, y, z = np.indices(shape) / np.array(shape).reshape(3, 1, 1, 1)
    body = ((x - 0.4) / 0.2) ** 2 + ((y - 0.5) / 0.25) ** 2 + ((z - 0.45 - 0.3 * (x - 0.4)) / 0.22) ** 2 < 1
    other = ((x - 0.8) / 0.1) ** 2 + ((y - 0.75) / 0.1) ** 2 + ((z - 0.7) / 0.12) ** 2 < 1
    noise = np.random.default_rng(0).normal(100, 15, shape).clip(1)
    return (noise + 300 * body + 300 * other).astype(np.float32)


def stored(array, affine, axes, signs):
    """The same volume with its axes in another order and direction, its affine as a header holds it."""
    turn = np.array([axes, signs]).T
    turned = (affine @ nio.inv_ornt_aff(turn, array.shape)).astype(np.float32).astype(float)
    return nio.apply_orientation(array, turn), turned


def world(path):
    """Where the mask's voxels lie, (N, 3) mm."""
    image = nib.load(path)
    return nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))


CASES = {
    "upright": (blob(), np.diag([2.5, 2.5, 4.0, 1.0])),
    "oblique": (blob(), OBLIQUE),
    # 31 x 1.5 mm on a grid of 3 mm is half a voxel more than a whole number of them
    "tie": (blob((32, 30, 14)), OBLIQUE @ np.diag([0.6, 0.72, 0.9375, 1])),
    # halfway between two names for an axis
    "45 degrees": (
        blob((24, 20, 18)),
        nib.affines.from_matvec(nib.eulerangles.euler2mat(np.pi / 4) @ np.diag([3, 3, 3]), (5, 5, 5)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_all_48_ways_to_store_a_case_give_one_mask_in_world_space_and_one_volume(tmp_path, monkeypatch, case):
    monkeypatch.setattr(pipelines.prediction, "save_overlay", lambda *args: None)
    array, affine = CASES[case]
    (tmp_path / "in").mkdir()
    for number, way in enumerate(ALL_48):
        image = nib.Nifti1Image(*stored(array, affine, *way))
        if number % 2:  # the orientation as a quaternion alone: other rounding errors
            image.set_qform(image.affine, code="scanner")
            image.set_sform(None, code=0)
        nib.save(image, tmp_path / "in" / f"{number}.nii")
    prediction(tmp_path / "in", tmp_path / "out", lopsided, pixdim=3.0).run()
    wanted = world(tmp_path / "out" / "0" / "mask.nii.gz")
    assert 100 < len(wanted) < array.size / 4
    results = [json.loads((tmp_path / "out" / str(n) / "result.json").read_text()) for n in range(48)]
    assert len({result["result"]["left_atrium_volume_ml"] for result in results}) == 1
    assert len({json.dumps(result["result"]["review"]) for result in results}) == 1
    for number in range(48):
        mask = world(tmp_path / "out" / str(number) / "mask.nii.gz")
        distances, nearest = cKDTree(wanted).query(mask)
        assert distances.max() < 1e-3
        assert len(set(nearest)) == len(mask) == len(wanted)
        source = nib.load(tmp_path / "in" / f"{number}.nii")
        answer = nib.load(tmp_path / "out" / str(number) / "mask.nii.gz")
        assert answer.shape == source.shape
        np.testing.assert_array_equal(answer.affine, source.affine)


@pytest.mark.parametrize("index", [1, 2, 3])
def test_mask_comes_back_to_the_grid_of_oblique_and_permuted_volumes(index):
    # phantoms 1 to 3 are stored in three axis orders, tilted, with anisotropic voxels
    label = make_case(0, index, (40, 40, 18))[1]
    mask = np.asarray(label.dataobj) > 0
    volume = Volume(mask.astype(np.float32) + 0.01 * (np.indices(mask.shape).sum(0) % 2), label.affine)
    # there and back by linear interpolation, over a grid finer than the image's, thresholded at a half
    answer, *_ = prediction(pixdim=1.2, planes=[2], slice_offsets=[0]).segment(volume)
    assert answer.shape == mask.shape
    assert (answer != mask).sum() <= 0.02 * mask.sum()


def test_only_the_largest_part_is_the_answer_and_what_was_dropped_is_told():
    answer, unfiltered, *_ = prediction(pixdim=3.0).segment(Volume(blob(), OBLIQUE))
    assert not answer[24, 19, 10]
    assert unfiltered[24, 19, 10]
    assert answer[12, 12, 6]
    assert not (answer & ~unfiltered).any()


@pytest.mark.parametrize("offset", [-5000.0, 0.0, 5000.0])
@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_answer_does_not_depend_on_the_units_of_the_intensities(offset, factor):
    segment = prediction(pixdim=3.0).segment
    wanted, *_ = segment(Volume(blob(), OBLIQUE))
    answer, *_ = segment(Volume(np.float32(blob() * factor + offset * factor), OBLIQUE))
    # nothing but rounding: single precision keeps 5000 + noise to 4 digits
    assert (answer != wanted).sum() <= 2


def test_evaluator_over_nifti_files_lists_them_alone(tmp_path):
    for name in ("b.nii.gz", "a.nii", "c.mha", "notes.txt"):
        (tmp_path / name).touch()
    assert nifti_items(tmp_path) == [
        {"case": "a", "image": str(tmp_path / "a.nii")},
        {"case": "b", "image": str(tmp_path / "b.nii.gz")},
    ]
