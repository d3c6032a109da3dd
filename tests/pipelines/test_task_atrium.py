from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nibabel import orientations as nio
from PIL import Image

from pipelines.errors import UserError
from pipelines.tasks.atrium import (
    atrium_result,
    disagreement,
    outside_largest,
    review_reasons,
    touches_border,
    variant_dice,
    volume_ml,
)
from pipelines.tasks.overlay import save_overlay

SPACING = (2.0, 2.5, 4.0)  # a voxel of 0.02 mL


def block(*sides, shape=(40, 40, 40), start=5):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, start + side) for side in sides)] = True
    return mask


def test_volume_by_hand():
    assert volume_ml(block(10, 10, 10), SPACING) == pytest.approx(20.0)
    assert volume_ml(np.zeros((3, 3, 3)), SPACING) == 0.0
    assert volume_ml(block(10, 10, 10) * np.uint8(255), SPACING) == pytest.approx(20.0)


@pytest.mark.parametrize("spacing", [(0.6, 0.0, 1.2), (1, 1, -1), (1, 1, np.nan), (1, 1)])
def test_impossible_spacing_is_refused(spacing):
    with pytest.raises(UserError, match="spacing must be three positive numbers in mm, got"):
        volume_ml(block(2, 2, 2), spacing)


@settings(max_examples=48, deadline=None)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_volume_and_review_do_not_depend_on_the_axes(axes, flips):
    mask = block(10, 8, 15)
    turned = np.flip(mask.transpose(axes), [axis for axis in range(3) if flips[axis]])
    spacing = [SPACING[axis] for axis in axes]
    assert atrium_result(turned, spacing)["left_atrium_volume_ml"] == pytest.approx(24.0)
    assert review_reasons(turned, spacing) == []


def test_components_are_counted_across_corners():
    mask = block(4, 4, 4)
    mask[9, 9, 9] = True  # shares a corner with the block
    assert outside_largest(mask) == (1, 0.0)
    mask[20:22, 20, 20] = True
    count, outside = outside_largest(mask)
    assert count == 2
    assert outside == pytest.approx(2 / 67)
    assert outside_largest(np.zeros((3, 3, 3))) == (0, 0.0)


def test_variant_dice_is_the_mean_over_pairs():
    one, other, empty = block(2, 2, 2), block(2, 2, 1), np.zeros((40, 40, 40), bool)
    # 2 * 4 / (8 + 4), and 0 twice
    assert variant_dice([one, other]) == pytest.approx(2 / 3)
    assert variant_dice([one, other, empty]) == pytest.approx(2 / 9)
    assert variant_dice([empty, empty]) == 1.0
    assert variant_dice([one]) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("index", "touches"), [(0, True), (-1, True), (1, False), (-2, False)])
def test_border_is_the_first_and_last_plane_of_each_axis(axis, index, touches):
    mask = np.zeros((5, 6, 7), dtype=bool)
    place = [2, 2, 2]
    place[axis] = index
    mask[tuple(place)] = True
    assert touches_border(mask) is touches


def test_reasons_for_a_review():
    good = block(10, 10, 10)
    assert review_reasons(good, SPACING, 3, 0.05, 0.85) == []
    assert review_reasons(np.zeros_like(good), SPACING) == ["empty: no left atrium was found"]
    assert "touches the border" in review_reasons(block(10, 10, 10, start=0), SPACING)[0]
    assert review_reasons(good, SPACING, 3, 0.2) == [
        "3 components: 20% of the voxels lay outside the largest one"
    ]
    assert review_reasons(block(7, 7, 7), SPACING) == ["volume of 6.9 mL outside 10 to 300 mL"]
    assert review_reasons(block(30, 30, 30), SPACING) == ["volume of 540.0 mL outside 10 to 300 mL"]
    assert "test-time disagreement: Dice 0.80" in review_reasons(good, SPACING, agreement=0.8)[0]


def test_volumes_at_the_limits_need_no_review():
    assert review_reasons(block(5, 10, 10), SPACING) == []  # 10 mL
    assert review_reasons(block(15, 25, 40, shape=(60, 60, 60)), SPACING) == []  # 300 mL


def test_result_of_a_case():
    mask = block(10, 10, 10)
    unfiltered = mask.copy()
    unfiltered[30:35, 30:35, 30:35] = True
    result = atrium_result(mask, SPACING, unfiltered, [mask, mask])
    assert result == {
        "left_atrium_volume_ml": 20.0,
        "spacing_mm": [2.0, 2.5, 4.0],
        "components": 2,
        "outside_largest": round(125 / 1125, 4),
        "test_time_dice": 1.0,
        "review": {
            "needed": True,
            "reasons": ["2 components: 11% of the voxels lay outside the largest one"],
        },
    }
    assert atrium_result(np.zeros_like(mask), SPACING)["test_time_dice"] is None


def test_models_that_disagree_are_told_by_their_worst_pair_and_the_spread_of_their_volumes():
    one, other = block(2, 2, 2), block(2, 2, 1)
    # Dice 1 between the equal ones, 2 * 4 / (8 + 4) with the other; 4, 4 and 2 mL have a standard deviation of 1.15
    assert disagreement([one, other, one], 0.5) == {"count": 3, "lowest_dice": 0.6667, "volume_sd_ml": 1.15}
    result = atrium_result(block(10, 10, 10), SPACING, models=[one, other], voxel_ml=0.5)
    assert result["models"] == {"count": 2, "lowest_dice": 0.6667, "volume_sd_ml": 1.41}
    assert result["review"]["reasons"] == ["disagreement of the 2 models: Dice 0.67 between two, below 0.85"]
    assert "models" not in atrium_result(one, SPACING, models=[one], voxel_ml=0.5)


# -- the picture


def orientations():
    """Yield a third of the 48 ways to store a volume, as nibabel orientations."""
    ways = itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    for axes, flips in itertools.islice(ways, 0, None, 3):
        yield np.array([axes, flips]).T


def drawn(monkeypatch, image, mask, affine, path):
    pictures = []
    imshow = Axes.imshow

    def spy(self, picture, **options):
        pictures.append((picture, options["aspect"]))
        return imshow(self, picture, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Axes, "imshow", spy)
        patch.setattr(Figure, "savefig", lambda *args, **kwargs: None)
        save_overlay(image, mask, affine, path, "case")
    return pictures


def test_views_are_radiological_and_true_to_scale_however_the_volume_is_stored(tmp_path, monkeypatch):
    # Stored in RAS+, one voxel is the centre, and three bright ones lie to its right, front and head.
    image, mask = np.zeros((7, 8, 9)), np.zeros((7, 8, 9), dtype=bool)
    mask[3, 4, 5] = True
    image[5, 4, 5], image[3, 7, 5], image[3, 4, 8] = 1, 2, 3
    affine = np.diag([2.0, 2.5, 4.0, 1.0])
    for turn in orientations():
        stored, stored_mask = nio.apply_orientation(image, turn), nio.apply_orientation(mask, turn)
        turned = affine @ nio.inv_ornt_aff(turn, image.shape)
        views = drawn(monkeypatch, stored, stored_mask, turned, tmp_path / "o.png")[:3]
        (axial, axial_aspect), (coronal, coronal_aspect), (sagittal, sagittal_aspect) = views
        # (row, column) from the top left; the centre of the axial picture is row 8-1-4, column 7-1-3.
        assert axial.shape == (8, 7)
        assert (axial[3, 1], axial[0, 3]) == (1, 2)  # right is on the left, front on top
        assert (coronal[3, 1], coronal[0, 3]) == (1, 3)  # right is on the left, head on top
        assert (sagittal[3, 0], sagittal[0, 3]) == (2, 3)  # front is on the left, head on top
        assert (axial_aspect, coronal_aspect, sagittal_aspect) == (1.25, 2.0, 1.6)


def test_slices_are_numbered_as_in_the_file(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, text, **options: titles.append(text))
    mask = np.zeros((7, 8, 9), dtype=bool)
    mask[2, 3, 4:7] = True
    drawn(monkeypatch, np.random.default_rng(0).random((7, 8, 9)), mask, np.eye(4), tmp_path / "o.png")
    assert titles == [
        "axial, slice 6 of 9",
        "coronal, slice 4 of 8",
        "sagittal, slice 3 of 7",
        "axial 7",
        "axial 6",
        "axial 5",
    ]


def test_reasons_for_a_review_stand_on_the_overlay(tmp_path):
    image = np.random.default_rng(0).normal(size=(30, 40, 20))
    heights, oranges = [], []
    for name, reasons in {
        "no.png": [],
        "yes.png": ["empty: no left atrium was found", "2 $ of [b]_{"],
    }.items():
        save_overlay(image, image > 9, np.eye(4), tmp_path / name, "case", review=reasons)
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        heights.append(len(pixels))
        oranges.append(((pixels[..., 0] > 200) & (pixels[..., 2] < 60)).sum())
    assert heights[1] > heights[0]
    assert oranges[0] == 0 < oranges[1]


@pytest.mark.parametrize("filled", [True, False])
def test_overlay_is_a_whole_picture_and_marks_the_outline(tmp_path, filled):
    image = np.random.default_rng(0).normal(size=(30, 40, 20))
    mask = block(10, 10, 10, shape=image.shape, start=0) & filled
    save_overlay(image, mask, np.diag([1, 1, 2.5, 1]), tmp_path / "o.png", "100 $ of [b]_{")
    assert [path.name for path in tmp_path.iterdir()] == ["o.png"]
    pixels = np.asarray(Image.open(tmp_path / "o.png").convert("RGB")).astype(int)
    orange = (pixels[..., 0] > 200) & (pixels[..., 2] < 60)
    assert pixels.shape[1] == 1200
    assert orange.any() == filled


def test_title_gives_the_volume_or_says_that_nothing_was_found(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **options: titles.append(text))
    image = np.random.default_rng(0).random((40, 40, 40))
    for mask in (block(10, 10, 10), np.zeros((40, 40, 40), dtype=bool)):
        drawn(monkeypatch, image, mask, np.diag([*SPACING, 1]), tmp_path / "o.png")
    assert titles == ["case   left atrium 20.0 mL", "case   no left atrium found"]
