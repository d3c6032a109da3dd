from __future__ import annotations

import csv
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from monai.transforms import Compose, ScaleIntensityRanged
from PIL import Image

from pipelines import image_prediction
from pipelines.errors import UserError
from pipelines.image_prediction import ImagePrediction, image_items
from pipelines.readers.inputs import find_images

SOURCE = {"bundle": "test", "model_sha256": "0", "config_sha256": "1"}


class MeanTask:
    """The mean of what the network gives is the answer."""

    def __init__(self):
        self.batches, self.flying, self.most = [], 0, 0
        self.lock = threading.Lock()

    def infer(self, network, images):
        assert images.dtype == torch.float32
        self.batches.append(len(images))
        return network(images).mean(dim=(1, 2, 3)).tolist()

    def measure(self, outputs, xray):
        with self.lock:
            self.flying += 1
            self.most = max(self.most, self.flying)
        return {"mean": round(255 * outputs[0], 2)}, ["made up"]

    def draw(self, picture, outputs, result, case):
        with self.lock:
            self.flying -= 1
        return Image.fromarray(picture)


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures of a known mean each, wider than high."""
    (tmp_path / "in").mkdir()
    for index in range(20):
        pixels = np.full((40, 60), 10 * index, np.uint8)
        pixels[:, ::2] += 40  # not one value alone
        Image.fromarray(pixels).save(tmp_path / "in" / f"x{index:02d}.png")
    return tmp_path / "in"


def prediction(folder, network=None, task=None, **options):
    preprocessing = Compose([ScaleIntensityRanged("image", 0, 255, 0.0, 1.0)])
    return ImagePrediction(
        folder,
        folder.parent / "out",
        network or torch.nn.Identity(),
        preprocessing,
        "cpu",
        task or MeanTask(),
        SOURCE,
        size=32,
        **{"batch_size": 8, "shown": 90, **options},
    )


def results(folder):
    return {
        p.parent.name: json.loads(p.read_text())
        for p in sorted((folder.parent / "out").glob("*/result.json"))
    }


def rows(folder):
    with open(folder.parent / "out" / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_every_image_gets_its_own_answer_in_order_whatever_the_batches(folder, threads, batch_size):
    task = MeanTask()
    prediction(folder, task=task, threads=threads, batch_size=batch_size).run()
    found = results(folder)
    assert {name: record["result"]["mean"] for name, record in found.items()} == {
        f"x{index:02d}": pytest.approx(10 * index + 20, abs=1) for index in range(20)
    }
    assert [row["case"] for row in rows(folder)] == [f"x{index:02d}" for index in range(20)]
    assert task.batches == [min(batch_size, 20 - start) for start in range(0, 20, batch_size)]


def test_a_result_says_where_it_came_from_and_what_was_odd(folder):
    prediction(folder).run()
    record = results(folder)["x03"]
    assert record["bundle"] == "test"
    assert record["input"] == "x03.png"
    assert "the view (AP or PA) is unknown" in record["warnings"]
    assert record["warnings"][-1] == "made up"
    with Image.open(folder.parent / "out" / "x03" / "overlay.png") as overlay:
        assert overlay.size == (90, 60)  # of the file's own proportions


def test_bad_files_cost_themselves_alone(folder, capfd):
    (folder / "x05.png").write_bytes(b"<html>")
    (folder / "x06.png").write_bytes((folder / "x06.png").read_bytes()[:60])
    with pytest.raises(SystemExit) as ended:
        prediction(folder).run()
    assert ended.value.code == 1
    failed = {row["case"]: row["reason"] for row in rows(folder) if row["status"] == "failed"}
    assert set(failed) == {"x05", "x06"}
    assert "a web page" in failed["x05"]
    assert len(results(folder)) == 18


def test_a_batch_of_nothing_but_bad_files_needs_no_network(folder):
    for index in range(8):
        (folder / f"x{index:02d}.png").write_bytes(b"")
    task = MeanTask()
    with pytest.raises(SystemExit):
        prediction(folder, task=task).run()
    assert task.batches == [8, 4]


def test_a_network_that_fails_on_one_batch_fails_that_batch(folder):
    class Moody(torch.nn.Module):
        def forward(self, images):
            if len(images) == 4:
                raise RuntimeError("out of memory")
            return images

    with pytest.raises(SystemExit):
        prediction(folder, network=Moody()).run()
    failed = [row for row in rows(folder) if row["status"] == "failed"]
    assert [row["case"] for row in failed] == ["x16", "x17", "x18", "x19"]
    assert all("out of memory" in row["reason"] for row in failed)


def test_a_result_that_may_not_be_replaced_does_not_shift_the_others(folder):
    (folder.parent / "out" / "x02").mkdir(parents=True)
    with pytest.raises(SystemExit):
        prediction(folder).run()
    found = results(folder)
    assert len(found) == 19
    assert found["x03"]["result"]["mean"] == pytest.approx(50, abs=1)


def test_no_more_than_three_batches_are_held_however_many_files_there_are(folder, monkeypatch):
    read, taken = [], []
    original = image_prediction.read_xray_shown

    def counting(*arguments):
        read.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(image_prediction, "read_xray_shown", counting)
    items = find_images([folder])
    with ThreadPoolExecutor(2) as pool:
        for _, future in prediction(folder, batch_size=2).predicted(items, pool):
            future.result()
            taken.append(None)
            assert len(read) - len(taken) <= 6


@pytest.mark.parametrize("name", ["rows", "columns"])
def test_the_network_sees_rows_as_rows(tmp_path, name):
    """A bright upper third is bright above, and a bright left third on the left."""
    (tmp_path / "in").mkdir()
    pixels = np.full((90, 60), 20, np.uint8)
    pixels[(slice(0, 30), slice(None)) if name == "rows" else (slice(None), slice(0, 20))] = 220
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    seen = []

    class Keep(torch.nn.Module):
        def forward(self, images):
            seen.append(images[0, 0])
            return images

    prediction(tmp_path / "in", network=Keep()).run()
    above, left = seen[0][:8].mean(), seen[0][:, :8].mean()
    assert (above > 0.8 > left) if name == "rows" else (left > 0.8 > above)


def test_image_items_are_a_data_list(folder):
    items = image_items(folder)
    assert items[0] == {"case": "x00", "image": str(folder / "x00.png")}
    with pytest.raises(UserError, match="holds nothing to read"):
        image_items(folder.parent)
