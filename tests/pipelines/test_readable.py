from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad
from torch.utils.data import DataLoader

from pipelines.errors import UserError
from pipelines.evaluation.readable import ReadableDataset, tell_left_out


def read(path):
    if path == "bad":
        raise UserError("bad.dcm: expected an X-ray,\ngot a web page")
    if path == "bug":
        raise KeyError("Doe^Jane")
    return MetaTensor(torch.ones(1, 4, 4))


def dataset(*paths):
    cases = [{"case": f"c{i}", "image": path, "label": i % 2} for i, path in enumerate(paths)]
    return ReadableDataset(cases, Compose([Lambdad("image", read)]), size=4)


def test_a_batch_stays_whole_where_a_file_cannot_be_read():
    [batch] = DataLoader(dataset("good", "bad", "good"), batch_size=3)
    assert batch["image"].mean((1, 2, 3)).tolist() == [1, 0, 1]
    assert batch["problem"] == ["", "bad.dcm: expected an X-ray, got a web page", ""]
    assert (batch["case"], batch["label"].tolist()) == (["c0", "c1", "c2"], [0, 1, 0])


def test_an_error_that_is_not_of_the_file_is_raised():
    with pytest.raises(RuntimeError):
        dataset("good", "bug")[1]


def test_ten_are_named_in_the_log_and_none_where_all_could_be_read(caplog):
    tell_left_out({}, 30)
    assert caplog.messages == []
    tell_left_out({f"c{i}": "cut short" for i in range(12)}, 30)
    [message] = caplog.messages
    assert message.startswith("12 of 30 X-rays cannot be read and are left out: c0, c1,")
    assert "c9, … (c0: cut short)" in message
    assert "c10" not in message
