"""Grey levels of images of bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRangePercentilesd

from transforms.levels import ScalePercentilesd


@settings(max_examples=50, deadline=None)
@given(
    image=arrays.arrays(np.uint8, st.tuples(st.just(1), st.integers(1, 20), st.integers(2, 20))),
    lower=st.floats(0, 49),
    upper=st.floats(51, 100),
)
@pytest.mark.filterwarnings("ignore:Divide by zero")  # MONAI's, of an image of one value
def test_it_is_monais_scaling_of_the_same_percentiles(image, lower, upper):
    theirs = ScaleIntensityRangePercentilesd("image", lower, upper, 0.0, 1.0, clip=True)
    expected = theirs({"image": torch.from_numpy(image).float()})["image"]
    # a step of the table is at least 1 / 255; torch's percentiles are float32
    ours = ScalePercentilesd("image", lower, upper)({"image": torch.from_numpy(image)})["image"]
    assert ours.dtype == torch.float32
    near = np.ptp(np.percentile(image, [lower, upper])) < 0.01  # then the last digit of a percentile decides
    assert near or torch.allclose(ours, torch.as_tensor(expected), atol=2e-3)


def test_numbers_worked_out_by_hand():
    image = torch.tensor([[0, 10, 20, 30, 40]], dtype=torch.uint8)
    # 25% and 75% of five pixels are the second and the fourth
    assert ScalePercentilesd("image", 25, 75)({"image": image})["image"].tolist() == [[0, 0, 0.5, 1, 1]]
    # 10% lies 0.4 of the way from the first pixel to the second: 4; 90% likewise at 36
    found = ScalePercentilesd("image", 10, 90)({"image": image})["image"]
    assert torch.allclose(found, torch.tensor([[0, 6 / 32, 0.5, 26 / 32, 1]]))


def test_metadata_stays_and_the_input_is_not_changed():
    image = MetaTensor(torch.arange(6, dtype=torch.uint8).view(1, 2, 3), meta={"filename_or_obj": "a.dcm"})
    found = ScalePercentilesd("image", 0, 100)({"image": image})["image"]
    assert found.meta["filename_or_obj"] == "a.dcm"
    assert image.dtype == torch.uint8


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="expected an image of bytes"):
        ScalePercentilesd("image", 1, 99)({"image": torch.zeros(1, 2, 2)})
