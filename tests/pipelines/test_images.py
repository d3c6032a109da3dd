"""Prepared X-rays as samples, the loader of X-rays, and draws that follow from (seed, epoch, sample)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandSpatialCropd, ScaleIntensityRanged
from PIL import Image

from pipelines.datasets.draws import EpochSampler, transformed
from pipelines.datasets.images import ImageDataset, prepare_cases, prepare_split
from pipelines.errors import UserError
from pipelines.readers.xray import read_xray_reduced, read_xray_shown
from pipelines.readers.xray_monai import LoadXrayd


@pytest.fixture
def cases(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    random = np.random.default_rng(0)
    names = ["b", "a", "c"]
    for name in names:
        Image.fromarray(random.integers(0, 256, (40, 60), np.uint8)).save(folder / f"{name}.png")
    return [{"case": n, "image": str(folder / f"{n}.png"), "label": i % 2} for i, n in enumerate(names)]


def test_samples_hold_the_pixels_that_prediction_reads_and_the_fields_of_their_case(cases, tmp_path):
    dataset = ImageDataset(cases, prepare_cases(cases, tmp_path / "cache", 16, workers=1))
    assert [dataset[i]["case"] for i in range(3)] == ["b", "a", "c"]
    assert [float(dataset[i]["label"]) for i in range(3)] == [0, 1, 0]
    for i, case in enumerate(cases):
        assert dataset[i]["image"].dtype == torch.uint8
        assert np.array_equal(dataset[i]["image"][0], read_xray_reduced(case["image"], 16).pixels)


def test_the_loader_of_the_bundles_reads_rows_and_columns_as_the_prepared_set_holds_them(cases, tmp_path):
    load = LoadXrayd("image", 16)
    prepared = prepare_cases(cases, tmp_path / "cache", 16, workers=1)
    for case in cases:
        loaded = load({"image": case["image"]})["image"]
        assert loaded.shape == (1, 16, 16)
        assert np.array_equal(loaded[0].numpy(), prepared[prepared.index[case["case"]]])


def test_every_split_of_a_data_set_shares_one_cache(cases, tmp_path):
    whole = prepare_cases(cases, tmp_path / "cache", 16, workers=1)
    split = {"train": cases[2:], "val": cases[:1], "test": cases[1:2]}
    assert prepare_split(split, tmp_path / "cache", 16, tmp_path / "set").folder == whole.folder


def test_an_xray_that_cannot_be_read_is_told_and_left_out(cases, tmp_path, caplog):
    (tmp_path / "set" / "a.png").write_text("<html>")
    split = {"train": cases[:2], "val": cases[2:], "test": []}
    prepared = prepare_split(split, tmp_path / "cache", 16, tmp_path / "set")
    assert [case["case"] for case in ImageDataset(split["train"], prepared).cases] == ["b"]
    assert "1 X-rays cannot be read and are left out, the first is a (" in caplog.text


def test_a_side_without_any_readable_xray_is_refused(cases, tmp_path):
    (tmp_path / "set" / "a.png").write_text("<html>")
    split = {"train": cases[::2], "val": cases[1:2], "test": []}
    with pytest.raises(UserError, match="None of the 1 X-rays of the part 'val' can be read"):
        prepare_split(split, tmp_path / "cache", 16, tmp_path / "set")


def test_draws_follow_from_seed_epoch_and_sample_alone(cases, tmp_path):
    prepared = prepare_cases(cases, tmp_path / "cache", 16, workers=1)
    flip = Compose([RandFlipd("image", prob=0.5, spatial_axis=1)])

    def drawn(seed, epoch, order):
        dataset = ImageDataset(cases, prepared, flip, seed=seed)
        dataset.epoch = epoch
        return {i: dataset[i]["image"].numpy().tobytes() for i in order}

    assert drawn(0, 1, [0, 1, 2]) == drawn(0, 1, [2, 1, 0])
    assert len({str(drawn(0, epoch, [0, 1, 2])) for epoch in range(8)}) > 1
    assert len({str(drawn(seed, 0, [0, 1, 2])) for seed in range(8)}) > 1


@pytest.mark.parametrize(
    ("transform", "seeded"),
    [
        (RandFlipd("image", prob=0.0), False),
        (RandFlipd("image", prob=0.1), True),
        (RandSpatialCropd("image", 2, random_size=False), True),  # acts always, and has no `prob`
    ],
)
def test_what_never_acts_is_not_seeded_and_all_else_is(transform, seeded):
    both = Compose([ScaleIntensityRanged("image", 0, 255, 0.0, 1.0), transform])
    both.set_random_state(seed=0)
    before = both.R
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 4, 4)
    for index in range(2):
        found = transformed(both, {"image": pixels}, 0, 0, index)["image"]
    assert (both.R is not before) == seeded
    if not seeded:
        assert torch.equal(found, pixels / 255)


def test_an_epoch_visits_each_sample_once_in_an_order_of_its_own():
    sampler = EpochSampler(range(50), seed=3)
    orders = []
    for epoch in (1, 2, 1):
        sampler.epoch = epoch
        orders.append(list(sampler))
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]


def test_the_picture_for_people_keeps_the_aspect_and_comes_from_the_same_reading(cases):
    xray, picture = read_xray_shown(cases[0]["image"], 16, 30)
    assert picture.shape == (20, 30)  # of 40 x 60
    assert np.array_equal(xray.pixels, read_xray_reduced(cases[0]["image"], 16).pixels)
    _, same = read_xray_shown(cases[0]["image"], 16, 60)
    with Image.open(cases[0]["image"]) as image:
        assert np.array_equal(same, np.asarray(image))
