from __future__ import annotations

import tempfile

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandAffined, RandGaussianNoised
from torch.utils.data import DataLoader

from pipelines.datasets.slices import SliceBatches, SliceDataset, VolumeCache, draw_window
from pipelines.errors import UserError

SHAPES = {"a": (6, 5, 4), "b": (5, 7, 3)}


def load(item):
    """Voxel values tell the case and the place; the label is a box in the first volume and a voxel in the second."""
    shape = SHAPES[item["case"]]
    image = torch.arange(np.prod(shape)).reshape(1, *shape) / 1000 + (item["case"] == "b")
    label = torch.zeros(1, *shape)
    label[0, 1:3, 2, 1:3] = 1
    label[0] *= item["case"] == "a"
    label[0, 4, 6 if item["case"] == "b" else 2, 0] = item["case"] == "b"
    return {"image": MetaTensor(image), "label": MetaTensor(label), "other": "dropped"}


def volumes(**options):
    return VolumeCache([{"case": "a"}, {"case": "b"}], load, **options)


def noisy():
    return Compose([RandGaussianNoised(keys="image", prob=0.8)])


# -- volumes


def test_cache_holds_compact_plain_tensors_of_each_case():
    cache = volumes()
    assert [item["case"] for item in cache] == ["a", "b"]
    assert [set(item) for item in cache] == [{"case", "image", "label"}] * 2
    for item in cache:
        assert (type(item["image"]), type(item["label"])) == (torch.Tensor, torch.Tensor)
        assert (item["image"].dtype, item["label"].dtype) == (torch.float16, torch.uint8)
        loaded = load(item)
        torch.testing.assert_close(item["image"].float(), loaded["image"].as_tensor(), atol=1e-3, rtol=0)
        assert (item["label"] == loaded["label"].as_tensor()).all()


@pytest.mark.parametrize(("limit", "files"), [(0.0, 4), (300e-9, 3), (1e-6, 0)])
def test_volumes_beyond_the_limit_are_paged_from_disk_with_the_same_voxels(monkeypatch, limit, files):
    opened = []
    temporary = tempfile.TemporaryFile
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **how: opened.append(temporary(**how)) or opened[-1]
    )
    in_memory, paged = volumes(), volumes(memory_limit_gb=limit)
    # "a" takes 120 voxels of 2 bytes and 120 of 1, "b" 105
    assert len(opened) == files
    assert all(file.closed for file in opened)
    for one, other in zip(in_memory, paged, strict=True):
        assert (one["image"] == other["image"]).all()
        assert (one["label"] == other["label"]).all()
        other["image"] += 1  # allowed, and kept in memory


def test_full_disk_says_what_to_do(monkeypatch):
    def full(**how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(UserError, match=r"No space left on device. Raise memory_limit_gb, or set TMPDIR"):
        volumes(memory_limit_gb=0)


def test_transform_that_fails_says_which_case():
    def fail(item):
        raise RuntimeError("applying transform <object at 0x1>") from ValueError("no such axis")

    with pytest.raises(
        UserError, match="Case 'a' cannot be prepared: ValueError: no such axis\nCheck the data"
    ):
        VolumeCache([{"case": "a"}], fail)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda label: label * 0,
            "Case 'a' cannot be trained on: its label holds no voxel on the network's grid",
        ),
        (
            lambda label: label[..., :-1],
            r"its image has \(\d+, \d+, \d+\) voxels and its label \(\d+, \d+, \d+\)\.\nGive both the same affine",
        ),
    ],
)
def test_a_label_that_is_empty_or_does_not_lie_on_its_image_is_refused(change, message):
    def spoilt(item):
        sample = load(item)
        return {**sample, "label": change(sample["label"])}

    with pytest.raises(UserError, match=message):
        VolumeCache([{"case": "a"}], spoilt)


# -- slices


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image", float("nan"), "Case 'a' cannot be trained on: its image holds voxels that are no numbers"),
        ("label", 7, r"its label must hold 0 and 1 alone, got \[0.*7.*\]\.\nMap the other labels"),
    ],
)
def test_voxels_that_nothing_good_can_be_learnt_from_are_refused(key, value, message):
    def spoilt(item):
        sample = load(item)
        sample[key] = sample[key].clone()
        sample[key][0, 0, 0, 0] = value
        return sample

    with pytest.raises(UserError, match=message):
        VolumeCache([{"case": "a"}], spoilt)


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_every_slice_of_every_volume_is_there_once_with_its_own_label(plane):
    slices = SliceDataset(volumes(), planes=[plane])
    assert len(slices) == sum(shape[plane] for shape in SHAPES.values())
    wanted = [(case, k, load({"case": case})) for case, shape in SHAPES.items() for k in range(shape[plane])]
    for index, (_, k, whole) in enumerate(wanted):
        sample = slices[index]
        torch.testing.assert_close(
            sample["image"].float(), whole["image"].as_tensor().select(plane + 1, k), atol=1e-3, rtol=0
        )
        assert (sample["label"] == whole["label"].as_tensor().select(plane + 1, k)).all()
        assert (sample["image"].dtype, sample["label"].dtype) == (torch.float16, torch.uint8)
        assert slices.has_label[index] == bool(sample["label"].any())


def test_planes_follow_each_other_within_a_volume():
    slices = SliceDataset(volumes(), planes=[0, 2])
    assert len(slices) == 6 + 4 + 5 + 3
    assert [slices[i]["image"].shape for i in (0, 6, 10, 15)] == [(1, 5, 4), (1, 6, 5), (1, 7, 3), (1, 5, 7)]
    # "a": rows 1 and 2, slices 1 and 2; "b": row 4, slice 0
    assert np.flatnonzero(slices.has_label).tolist() == [1, 2, 7, 8, 14, 15]


def test_neighbours_become_channels_and_stay_within_their_volume():
    slices = SliceDataset(volumes(), planes=[2], slice_offsets=[-1, 0, 1])
    last_of_a, first_of_b = slices[3]["image"], slices[4]["image"]
    assert last_of_a.shape == (3, 6, 5)
    assert (last_of_a[1] == last_of_a[2]).all()
    assert last_of_a.max() < 1 <= first_of_b.min()
    assert slices[3]["label"].shape == (1, 6, 5)


def test_no_volumes_is_an_error():
    with pytest.raises(UserError, match=r"No volumes to train on.*Check train_cases"):
        SliceDataset([])


def test_image_and_label_are_deformed_together():
    volume = torch.zeros(1, 32, 32, 4)
    volume[:, 8:20, 12:26] = 1
    affine = RandAffined(
        keys=["image", "label"],
        prob=1,
        rotate_range=0.7,
        scale_range=[0.15, 0.15],
        translate_range=[4, 4],
        spatial_size=[36, 30],
        mode=["bilinear", "nearest"],
        padding_mode="zeros",
        cache_grid=True,
    )
    slices = SliceDataset([{"image": volume, "label": volume}], Compose([affine]))
    samples = [slices[index] for index in range(4)]
    for sample in samples:
        assert sample["image"].shape == sample["label"].shape == (1, 36, 30)
        assert 50 < sample["label"].sum() < 300
        assert ((sample["image"] > 0.5) != (sample["label"] > 0.5)).float().mean() < 0.01
        assert type(sample["image"]) is torch.Tensor
    assert not (samples[0]["label"] == samples[1]["label"]).all()


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    def sample(index, seed=0, epoch=0, before=()):
        slices = SliceDataset(volumes(), noisy(), seed=seed)
        slices.epoch = epoch
        for other in before:
            slices[other]
        return slices[index]["image"]

    first = sample(3)
    assert (sample(3, before=[0, 5, 1]) == first).all()
    draws = [first, sample(3, epoch=1), sample(3, epoch=2), sample(3, seed=1), sample(3, seed=2)]
    assert len({draw.numpy().tobytes() for draw in draws}) >= 4  # two may go without noise


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_order_do_not_change_samples(workers):
    slices = SliceDataset(volumes(), noisy(), seed=4)
    alone = [slices[index]["image"] for index in (6, 2, 0, 5)]
    slices.epoch = 0
    loader = DataLoader(slices, sampler=[6, 2, 0, 5], batch_size=None, num_workers=workers)
    for one, other in zip(alone, loader, strict=True):
        assert (one == other["image"]).all()


def test_slices_of_a_plane_have_one_size_cut_or_padded():
    slices = SliceDataset(volumes(), planes=[0, 1, 2], patch_size=[4, 6, 8])
    sizes = {0: (6, 8), 1: (4, 8), 2: (4, 6)}
    for index, plane in enumerate(slices.plane):
        assert slices[index]["image"].shape == slices[index]["label"].shape == (1, *sizes[plane])


def test_a_short_slice_is_padded_around_its_centre_and_a_long_one_cut_to_a_part_of_itself():
    whole = SliceDataset(volumes(), planes=[2])[0]["image"]  # 6 by 5
    cut = SliceDataset(volumes(), planes=[2], patch_size=[4, 7, 1])[0]["image"]
    assert any((cut[0, :, 1:6] == whole[0, start : start + 4]).all() for start in range(3))
    assert (cut[0, :, [0, 6]] == 0).all()


def test_a_window_is_drawn_from_seed_epoch_and_sample_alone_and_reaches_everywhere():
    slices = SliceDataset(volumes(), planes=[2], patch_size=[3, 5, 1])
    seen = set()
    for epoch in range(40):
        slices.epoch = epoch
        assert (slices[1]["image"] == slices[1]["image"]).all()
        seen.add(slices[1]["image"].numpy().tobytes())
    assert len(seen) == 4  # 3 of 6 rows can start at 0, 1, 2 and 3


def windows(label, size, draws=300):
    generator = np.random.default_rng(0)
    return [draw_window(label, size, generator) for _ in range(draws)]


def test_two_of_three_windows_hold_the_label_where_it_fits_and_the_others_lie_anywhere():
    label = np.zeros((40, 10), bool)
    label[30:34, 4:6] = (
        True  # a window of 8 rows holds it when it starts at 26 to 30, one in 6.6 of all starts
    )
    starts = np.array([rows.start for rows, _ in windows(label, (8, 10), 3000)])
    share = ((starts >= 26) & (starts <= 30)).mean()
    assert share == pytest.approx(2 / 3 + 5 / 33 / 3, abs=0.04)
    assert set(starts) == set(range(33))


def test_a_window_aimed_at_a_label_longer_than_itself_lies_within_it():
    label = np.zeros((40, 4), bool)
    label[10:30] = True  # windows of 8 rows within it start at 10 to 22
    starts = [rows.start for rows, _ in windows(label, (8, 4), 3000)]
    inside = np.mean([10 <= start <= 22 for start in starts])
    assert inside == pytest.approx(2 / 3 + 13 / 33 / 3, abs=0.04)


def test_a_window_of_a_slice_without_label_lies_anywhere():
    starts = {(rows.start, columns.start) for rows, columns in windows(np.zeros((5, 4), bool), (4, 2))}
    assert starts == {(row, column) for row in range(2) for column in range(3)}


# -- which slices an epoch visits


class Slices:
    has_label = np.array([True] * 10 + [False] * 30)
    plane = np.zeros(40, int)


class Planes:
    has_label = np.tile([True, False], 20)
    plane = np.repeat([0, 1, 2], [8, 20, 12])


def visited(batches):
    return [index for batch in batches for index in batch]


def test_shares_are_drawn_without_repeats():
    for labelled, empty, wanted in ((1.0, 1.0, (10, 30)), (0.5, 0.1, (5, 3)), (1.0, 0.0, (10, 0))):
        batches = SliceBatches(Slices(), 1, labelled, empty)
        indices = visited(batches)
        assert len(indices) == len(set(indices)) == len(batches) == sum(wanted)
        assert sum(Slices.has_label[indices]) == wanted[0]


def test_a_batch_holds_slices_of_one_plane_and_is_full():
    batches = list(SliceBatches(Planes(), 5))
    assert sorted(len(batch) for batch in batches) == [5] * (1 + 4 + 2)
    assert all(len(set(Planes.plane[batch])) == 1 for batch in batches)
    planes = [Planes.plane[batch[0]] for batch in batches]
    assert sorted(planes) == [0, 1, 1, 1, 1, 2, 2] != planes


def test_a_plane_with_fewer_slices_than_a_batch_gives_one_smaller_batch():
    assert sorted(len(batch) for batch in SliceBatches(Planes(), 16)) == [8, 12, 16]
    assert len(SliceBatches(Planes(), 16)) == 3


def test_epochs_differ_and_each_can_be_drawn_again():
    batches = SliceBatches(Slices(), 2, 0.5, 0.5, seed=3)
    first, again = list(batches), list(batches)
    assert first == again
    batches.epoch = 1
    assert list(batches) != first
    assert list(SliceBatches(Slices(), 2, 0.5, 0.5, seed=4)) != first
    assert visited(first) != sorted(visited(first))


def test_all_slices_come_in_time():
    batches, seen = SliceBatches(Slices(), 4, 0.5, 0.25), set()
    for batches.epoch in range(40):
        seen |= set(visited(batches))
    assert seen == set(range(40))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "half", None])
def test_impossible_share_is_refused(share):
    with pytest.raises(UserError, match="empty_share must be a number between 0 and 1, got"):
        SliceBatches(Slices(), 4, empty_share=share)


def test_nothing_to_visit_is_refused():
    class Empty:
        has_label = np.zeros(5, dtype=bool)
        plane = np.zeros(5, int)

    with pytest.raises(UserError, match="No slice to train on: the labels hold no voxel"):
        SliceBatches(Empty(), 4, empty_share=0.0)
    with pytest.raises(UserError, match="labelled_share and empty_share are too small"):
        SliceBatches(Slices(), 4, 0.01, 0.01)
