from __future__ import annotations

import pytest

from pipelines.blocks import names_in, with_bases


def test_what_stands_beside_a_base_takes_the_place_of_its_part():
    config = {
        "network": {"_base_": {"_target_": "UNet", "channels": [4, 8], "strides": [2]}, "channels": [16, 32]},
        "transforms": {"_base_": ["load", "crop", "pad"], "1": "scale"},
        "lr": 0.1,
        "block": {"a": {"_base_": "is a root block's alone"}},
    }
    assert with_bases(config) == {
        "network": {"_target_": "UNet", "channels": [16, 32], "strides": [2]},
        "transforms": ["load", "scale", "pad"],
        "lr": 0.1,
        "block": {"a": {"_base_": "is a root block's alone"}},
    }


@pytest.mark.parametrize(
    ("block", "names"),
    [
        ({"a": 1, "b": 2}, {"a", "b"}),
        (["x", "y"], {"0", "1"}),
        (5, None),
        ({"_target_": "nowhere.to.be.Found", "a": 1}, None),  # building it will tell
        ({"_target_": "dict", "a": 1}, None),  # written in C
        ({"_target_": "monai.networks.nets.resnet18"}, None),  # takes **kwargs
    ],
)
def test_an_id_goes_on_with_what_the_block_holds(block, names):
    assert names_in(block) == (names and sorted(names))


def test_a_component_may_be_given_what_it_takes_beside_what_it_is_given():
    names = names_in({"_target_": "Flipd", "keys": "image", "spatial_axis": 1})
    assert {"keys", "spatial_axis", "allow_missing_keys", "_disabled_"} <= set(names)
    assert "size" not in names
