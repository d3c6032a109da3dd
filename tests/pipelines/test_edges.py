from __future__ import annotations

import math

import pytest
import torch

from pipelines.edges import EdgeLoss, VariantsInferer, paired_iou
from pipelines.errors import UserError

NAN = math.nan


def test_iou_by_hand():
    one = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.2, 0.2], [0.1, 0.1, 0.3, 0.5]])
    other = torch.tensor([[0.25, 0.0, 0.75, 0.5], [0.5, 0.5, 1.0, 1.0], [0.1, 0.1, 0.3, 0.5]])
    # halves overlap: 1/8 of 3/8; nothing in common; the same
    torch.testing.assert_close(paired_iou(one, other), torch.tensor([[1 / 3], [0.0], [1.0]]))


def test_iou_takes_edges_in_any_order_and_leaves_the_range_out():
    one = torch.tensor([[0.5, 0.5, 0.0, 0.0, NAN, NAN]])
    assert paired_iou(one, torch.tensor([[0.25, 0.0, 0.75, 0.5, 0.1, 0.9]])).item() == pytest.approx(1 / 3)


def test_mse_counts_known_edges_alone():
    prediction = torch.tensor([[0.1, 0.2, 0.5, 0.6, 0.0, 1.0]])
    reference = torch.tensor([[0.2, 0.2, 0.5, 0.8, NAN, NAN]])
    assert EdgeLoss("mse")(prediction, reference).item() == pytest.approx((0.01 + 0.04) / 4)


def test_smooth_l1_and_giou_by_hand():
    prediction = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    reference = torch.tensor([[0.25, 0.0, 0.75, 0.5]])
    # two edges are off by 0.25, beyond the quadratic part: 0.25 - 0.01 each, over 4 edges.
    # The hull is 0.75 x 0.5 and all of it is covered: the generalised IoU is the IoU.
    expected = 5 * 2 * 0.24 / 4 + 2 * (1 - 1 / 3)
    assert EdgeLoss()(prediction, reference).item() == pytest.approx(expected, rel=1e-5)


def test_unknown_edges_get_no_gradient_and_spoil_none():
    prediction = torch.tensor([[0.1, 0.2, 0.5, 0.6, 0.3, 0.4]], requires_grad=True)
    EdgeLoss()(prediction, torch.tensor([[0.2, 0.2, 0.5, 0.8, NAN, NAN]])).backward()
    assert prediction.grad[0, 4:].tolist() == [0, 0]
    assert prediction.grad.isfinite().all()
    assert prediction.grad[0, 0] < 0 < -prediction.grad[0, 3]


@pytest.mark.parametrize("criterion", ["mse", "smooth_l1_giou"])
def test_exchanged_edges_cost_what_the_same_edges_in_order_cost(criterion):
    found, reference = (
        torch.tensor([[0.2, 0.15, 0.6, 0.7, 0.1, 0.8]]),
        torch.tensor([[0.3, 0.2, 0.7, 0.6, 0.1, 0.9]]),
    )
    loss = EdgeLoss(criterion)
    for order in ([2, 1, 0, 3, 4, 5], [0, 3, 2, 1, 4, 5], [0, 1, 2, 3, 5, 4]):
        assert loss(found[:, order], reference) == loss(found, reference)


def test_a_box_that_is_inside_out_can_still_learn():
    prediction = torch.tensor([[0.7, 0.6, 0.2, 0.1]], requires_grad=True)
    loss = EdgeLoss()(prediction, torch.tensor([[0.1, 0.0, 0.8, 0.7]]))
    loss.backward()
    # the greater one is its x1, to be moved to the right
    assert prediction.grad[0, 0] < 0 < prediction.grad[0, 2]


def bright_spot(images):
    """A "network": the box of what is brighter than half, as edges, with its x range behind them."""
    found = []
    for image in images:
        rows, columns = torch.nonzero(image[0] > 0.5).unbind(1)
        height, width = image.shape[1:]
        x0, x1 = columns.min() / width, (columns.max() + 1) / width
        found.append(torch.stack([x0, rows.min() / height, x1, (rows.max() + 1) / height, x0, x1]))
    return torch.stack(found)


def test_variants_are_moved_back_to_where_they_are_in_the_image():
    images = torch.zeros(2, 1, 100, 200)
    images[0, 0, 30:50, 80:140] = 1
    images[1, 0, 60:80, 40:60] = 1
    edges = torch.tensor([[0.4, 0.3, 0.7, 0.5, 0.4, 0.7], [0.2, 0.6, 0.3, 0.8, 0.2, 0.3]])
    inferer = VariantsInferer(
        [[1, 0, 0], [0.8, 0, 0], [1, 0.05, -0.1], [1.1, -0.04, 0.02], [-1, 0, 0], [-0.9, 0.05, 0]]
    )
    variants = inferer.variants(images, bright_spot)
    assert variants.shape == (6, 2, 6)
    torch.testing.assert_close(variants, edges.expand(6, 2, 6), atol=0.011, rtol=0)  # a pixel
    torch.testing.assert_close(inferer(images, bright_spot), variants.mean(0))
    assert torch.equal(variants[0], bright_spot(images))


def test_a_network_that_never_saw_mirrored_images_gets_no_mirrored_variant():
    images = torch.zeros(1, 1, 100, 200)
    images[0, 0, 30:50, 80:140] = 1
    variants = [[-1, 0, 0], [1, 0, 0], [-0.9, 0.05, 0], [0.9, 0.02, 0]]
    seen = VariantsInferer(variants, mirrored=False).variants(images, bright_spot)
    assert torch.equal(seen, VariantsInferer(variants[1::2]).variants(images, bright_spot))
    with pytest.raises(UserError, match=r"variants must hold one at least.*flip_prob above 0"):
        VariantsInferer(variants[:1], mirrored=False)


@pytest.mark.parametrize(
    "variants",
    [
        *(
            [[1, 0]],
            [1],
            [[0, 0, 0]],
            ["abc"],
            [["a", 0, 0]],
            [[1, "b", 0]],
            [[1, NAN, 0]],
            [[NAN, 0, 0]],
            [[1, 2, 0]],
        ),
        *(3, None, "abc"),
    ],
)
def test_unusable_variants_are_refused(variants):
    with pytest.raises(UserError, match=r"variants must be a list of \[scale"):
        VariantsInferer(variants)


def test_no_variants_at_all_are_refused():
    with pytest.raises(UserError, match=r"variants must hold one at least that can be used, got \[\]"):
        VariantsInferer([])
