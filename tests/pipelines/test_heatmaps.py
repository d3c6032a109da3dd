from __future__ import annotations

import pytest
import torch

from pipelines.heatmaps import EdgeResNet, edge_axes, ordered, soft_argmax


def peak(rows, columns, row, column, height=50.0):
    maps = torch.zeros(1, 1, rows, columns)
    maps[0, 0, row, column] = height
    return maps


def test_a_peak_is_found_along_the_axis_asked_for_and_never_the_other():
    maps = peak(12, 16, row=2, column=9).expand(1, 2, 12, 16)
    x, y = soft_argmax(maps, "xy")[0].tolist()
    assert (x, y) == pytest.approx((9.5 / 16, 2.5 / 12))
    y, x = soft_argmax(maps, "yx")[0].tolist()
    assert (x, y) == pytest.approx((9.5 / 16, 2.5 / 12))


def test_a_peak_between_two_cells_lies_between_them_and_a_flat_map_in_the_middle():
    maps = peak(8, 8, 3, 4) + peak(8, 8, 3, 5)
    assert soft_argmax(maps, "x").item() == pytest.approx(5 / 8)
    assert soft_argmax(torch.zeros(1, 2, 5, 9), "xy")[0].tolist() == pytest.approx([0.5, 0.5])


def test_positions_reach_the_border_itself():
    maps = torch.cat([peak(6, 7, 3, 0), peak(6, 7, 0, 2), peak(6, 7, 3, 6), peak(6, 7, 5, 2)], dim=1)
    assert soft_argmax(maps, "xyxy")[0].tolist() == pytest.approx([0, 0, 1, 1], abs=1e-5)


def test_edges_are_put_in_order_pair_by_pair():
    edges = torch.tensor([[0.9, 0.2, 0.1, 0.8, 0.7, 0.3], [0.1, 0.9, 0.2, 0.3, 0.0, 1.0]])
    wanted = torch.tensor([[0.1, 0.2, 0.9, 0.8, 0.3, 0.7], [0.1, 0.3, 0.2, 0.9, 0.0, 1.0]])
    assert torch.equal(ordered(edges), wanted)
    assert torch.equal(ordered(edges[:, :4]), wanted[:, :4])


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        ({}, (4, 6)),
        ({"no_max_pool": True}, (8, 12)),
        ({"stages": [2, 3, 4]}, (8, 12)),
        ({"stages": [4]}, (2, 3)),
    ],
)
def test_the_grid_follows_from_stages_stride_and_pooling(options, grid):
    network = EdgeResNet(edge_axes(thorax=True), widen_factor=0.125, **options).eval()
    images = torch.rand(2, 1, 64, 96)
    with torch.inference_mode():
        assert network.maps(images).shape == (2, 6, *grid)
        edges = network(images)
    assert edges.shape == (2, 6)
    assert 0 <= float(edges.min()) <= float(edges.max()) <= 1
    assert torch.equal(edges, ordered(edges))


def test_a_network_that_marks_the_bright_spot_tells_its_row_and_column():
    network = EdgeResNet("xy", stages=[1], widen_factor=0.125)
    network.maps = lambda images: 50 * torch.nn.functional.avg_pool2d(images, 8)
    network.train()
    image = torch.zeros(1, 2, 64, 96)
    image[..., 8:16, 72:80] = 1  # row 1 of 8, column 9 of 12
    assert network(image)[0].tolist() == pytest.approx([9.5 / 12, 1.5 / 8])
