from __future__ import annotations

import math

import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose

from pipelines.session import checked_config
from transforms.boxes import RandAffineBatchd

IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def ellipse(height, width, x0, y0, x1, y1):
    """A (1, 1, height, width) picture of the ellipse whose box is given in fractions; pixels by their middle."""
    x = (torch.arange(width) + 0.5) / width
    y = (torch.arange(height) + 0.5) / height
    dx, dy = (x - (x0 + x1) / 2) / ((x1 - x0) / 2), (y - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return ((dx[None] ** 2 + dy[:, None] ** 2) <= 1).float()[None, None]


def extent(picture):
    """The box of what is brighter than half, in pixels from the left upper corner."""
    rows, columns = torch.nonzero(picture[0, 0] > 0.5).unbind(1)
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(96, 96), (80, 120), (120, 72)]),
    centre=st.tuples(st.floats(0.45, 0.55), st.floats(0.45, 0.55)),
    half=st.tuples(st.floats(0.1, 0.2), st.floats(0.1, 0.2)),
)
def test_the_box_of_an_ellipse_moves_with_it_to_the_pixel(seed, shape, centre, half):
    torch.manual_seed(seed)
    height, width = shape
    (cx, cy), (a, b) = centre, half
    box = (cx - a, cy - b, cx + a, cy + b)
    transform = RandAffineBatchd("image", "label", rotate=10, scale=(0.8, 1.2), shift=0.08)
    moved = transform({"image": ellipse(height, width, *box), "label": torch.tensor([box])})
    expected = moved["label"][0] * torch.tensor([width, height, width, height])
    # half a pixel at either side of an edge where the ellipse is cut into pixels, once before and once after
    assert extent(moved["image"]) == pytest.approx(expected.tolist(), abs=1.5)


@pytest.fixture(scope="module")
def recipe():
    """The cardiac bundle's own random transforms, as train.yaml has them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(ROOT)
        return Compose(
            checked_config("bundles/cardiac/train.yaml", {}).get_parsed_content("batch_transforms")
        )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(96, 96), (80, 120), (120, 72)]),
    centre=st.tuples(st.floats(0.45, 0.55), st.floats(0.45, 0.55)),
    half=st.tuples(st.floats(0.1, 0.2), st.floats(0.1, 0.2)),
    thorax=st.floats(0.2, 0.3),
)
def test_all_six_edges_stay_with_the_image_under_everything_that_training_draws(
    recipe, seed, shape, centre, half, thorax
):
    """Mirrored, turned, enlarged, shifted, and changed in contrast, brightness and noise, all at once."""
    torch.manual_seed(seed)
    height, width = shape
    (cx, cy), (a, b) = centre, half
    box, high = (cx - a, cy - b, cx + a, cy + b), thorax * width / height
    # a picture each of the heart, and of the circle about its middle row that the thorax's range is taken for
    circle = ellipse(height, width, 0.5 - thorax, cy - high, 0.5 + thorax, cy + high)
    pictures = torch.cat([ellipse(height, width, *box), circle], dim=1).expand(4, -1, -1, -1)
    edges = torch.tensor([[*box, 0.5 - thorax, 0.5 + thorax]]).expand(4, -1)
    moved = recipe({"image": pictures, "label": edges})
    sides = torch.tensor([width, height] * 2 + [width] * 2)
    for image, found in zip(moved["image"], moved["label"] * sides, strict=True):
        left, _, right, _ = extent(halved(image[1:]))
        assert [*extent(halved(image[:1])), left, right] == pytest.approx(found.tolist(), abs=1.5)


def halved(image):
    """What is nearer to the brightest than to the darkest, whatever the contrast, as (1, 1, height, width)."""
    return (image > (image.min() + image.max()) / 2).float()[None]


@settings(max_examples=10, deadline=None)
@given(angle=st.floats(-30, 30), x0=st.floats(0.2, 0.4), x1=st.floats(0.6, 0.8))
def test_a_range_moves_like_the_circle_about_the_boxs_middle_row(angle, x0, x1):
    height, width = 120, 100
    half = (x1 - x0) * width / 2 / height  # as high as wide, in pixels
    circle = ellipse(height, width, x0, 0.5 - half, x1, 0.5 + half)
    transform = RandAffineBatchd("image")
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    matrix = torch.tensor([[[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]])
    edges = torch.tensor([[0.4, 0.45, 0.6, 0.55, x0, x1]])
    moved = transform.apply_to_edges(edges, matrix, width / height)[0, 4:]
    left, _, right, _ = extent(transform.apply(circle, matrix))
    assert (moved * width).tolist() == pytest.approx([left, right], abs=1.0)
    assert float(moved[1] - moved[0]) == pytest.approx(x1 - x0, abs=1e-5)


def test_numbers_worked_out_by_hand():
    edges = torch.tensor([[0.25, 0.5, 0.5, 0.75]])
    twice = torch.tensor(
        [[[2.0, 0, 0.5], [0, 2.0, 0]]]
    )  # twice as large, then a quarter of the width to the right
    assert RandAffineBatchd.apply_to_edges(edges, twice)[0].tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0])
    quarter_turn = torch.tensor(
        [[[0.0, -1, 0], [1, 0, 0]]]
    )  # what is right goes down, what is down goes left
    assert RandAffineBatchd.apply_to_edges(edges, quarter_turn)[0].tolist() == pytest.approx(
        [0.25, 0.25, 0.5, 0.5]
    )


def test_what_leaves_the_image_is_cut_off_and_what_is_unknown_stays_unknown():
    edges = torch.tensor([[0.6, 0.2, 0.9, 0.4, math.nan, math.nan]])
    right = torch.tensor([[[1.0, 0, 0.4], [0, 1, 0]]])
    moved = RandAffineBatchd.apply_to_edges(edges, right)[0]
    assert moved[:4].tolist() == pytest.approx([0.8, 0.2, 1.0, 0.4])
    assert moved[4:].isnan().all()


def test_nothing_drawn_changes_nothing():
    image, edges = torch.rand(2, 1, 9, 12), torch.rand(2, 4).sort().values[:, [0, 1, 2, 3]]
    moved = RandAffineBatchd("image", "label")({"image": image, "label": edges})
    torch.testing.assert_close(moved["image"], image)
    torch.testing.assert_close(moved["label"], edges)
    assert torch.equal(RandAffineBatchd("image").draw(1), IDENTITY)


def test_a_mirrored_image_has_its_box_on_the_other_side_and_half_of_the_samples_are_mirrored():
    torch.manual_seed(0)
    box = torch.tensor([[0.2, 0.3, 0.5, 0.7, 0.1, 0.9]]).expand(200, 6)
    picture = ellipse(40, 50, 0.2, 0.3, 0.5, 0.7).expand(200, 1, 40, 50)
    moved = RandAffineBatchd("image", "label", flip=0.5)({"image": picture, "label": box})
    mirrored = moved["label"][:, 0] > 0.4
    assert moved["label"][mirrored][0].tolist() == pytest.approx([0.5, 0.3, 0.8, 0.7, 0.1, 0.9], abs=1e-6)
    assert torch.allclose(moved["label"][~mirrored], box[~mirrored], atol=1e-6)
    assert torch.allclose(moved["image"][mirrored], picture[mirrored].flip(-1), atol=1e-4)
    assert 70 < int(mirrored.sum()) < 130


def test_images_without_boxes_move_as_those_with():
    image, edges = torch.rand(3, 2, 16, 16), torch.rand(3, 4)
    options = {"rotate": 10, "scale": (0.8, 1.2), "shift": 0.1, "prob": 0.7}
    torch.manual_seed(0)
    plain = RandAffineBatchd("image", **options)({"image": image, "label": 1})
    torch.manual_seed(0)
    boxed = RandAffineBatchd("image", "label", **options)({"image": image, "label": edges})
    assert torch.equal(plain["image"], boxed["image"])
    assert plain["label"] == 1


def test_each_sample_draws_its_own_parameters_within_its_ranges():
    torch.manual_seed(0)
    matrices = RandAffineBatchd("image", rotate=10, scale=(0.8, 1.2), shift=0.1).draw(500)
    factor = torch.linalg.det(matrices[:, :, :2]).sqrt()
    angle = torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    for values, low, high in ((factor, 0.8, 1.2), (angle, -10, 10), (matrices[:, :, 2], -0.2, 0.2)):
        assert low <= float(values.min()) < 0.9 * low + 0.1 * high
        assert 0.1 * low + 0.9 * high < float(values.max()) <= high
    assert not RandAffineBatchd("image", rotate=10, prob=0.0).draw(9).sub(IDENTITY).any()
