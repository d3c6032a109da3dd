from __future__ import annotations

import os
import pickle

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from pipelines import checkpoints
from pipelines.errors import UserError


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (self.target,))


def test_what_is_saved_comes_back(tmp_path):
    content = {"a": torch.arange(3), "b": [1, 2.5, "text"], "c": {"d": None}}
    checkpoints.save(content, tmp_path / "a.pt")
    loaded = checkpoints.load(tmp_path / "a.pt")
    assert torch.equal(loaded.pop("a"), content.pop("a"))
    assert loaded == content


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickled_object_is_refused_and_not_executed(tmp_path, writer):
    target = tmp_path / "executed"
    if writer == "torch":
        torch.save({"model": Payload(str(target))}, tmp_path / "evil.pt")
    else:
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload(str(target))))
    with pytest.raises(
        UserError, match=r"evil\.pt is not a readable checkpoint: it is damaged, or holds more"
    ):
        checkpoints.load(tmp_path / "evil.pt")
    assert not target.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, -100, -1])
def test_a_checkpoint_cut_short_is_refused(tmp_path, keep):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[:keep])
    with pytest.raises(UserError, match="is not a readable checkpoint") as refused:
        checkpoints.load(tmp_path / "a.pt")
    assert len(str(refused.value).splitlines()) <= 3


def test_a_missing_checkpoint_names_the_nearest(tmp_path):
    (tmp_path / "model.pt").write_text("")
    with pytest.raises(UserError, match=r"There is no checkpoint .*; did you mean '.*/model\.pt'"):
        checkpoints.load(tmp_path / "modl.pt")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")
def test_torch_tells_of_a_full_disk_when_it_writes_to_an_open_file():
    with pytest.raises(OSError, match="No space left on device"), open("/dev/full", "wb") as file:
        torch.save({"a": torch.zeros(1000)}, file)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoints.save({"epoch": 1}, path)

    def half(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(UserError, match=r"Cannot write .*last\.pt: No space left on device") as refused:
        checkpoints.save({"epoch": 2}, path)
    assert len(str(refused.value).splitlines()) <= 3
    assert checkpoints.load(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    "wrap", [lambda w: w, lambda w: {"model": w}, lambda w: {"best_from": w, "epoch": 3}]
)
def test_weights_are_found_in_each_kind_of_checkpoint(tmp_path, wrap):
    network = nn.Linear(2, 3)
    checkpoints.save(wrap(network.state_dict()), tmp_path / "a.pt")
    other = checkpoints.load_weights(nn.Linear(2, 3), tmp_path / "a.pt")
    assert torch.equal(other.weight, network.weight)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Linear(4, 3),
            r"1 have another shape.*\n.*'weight': the network expects \(3, 4\), the file holds \(3, 2\)",
        ),
        (nn.Linear(2, 3, bias=False), r"1 are unknown"),
        (nn.Sequential(nn.Linear(2, 3)), r"2 tensors are missing, 2 are unknown"),
    ],
)
def test_weights_of_another_architecture_are_refused_in_three_lines(tmp_path, network, message):
    checkpoints.save(nn.Linear(2, 3).state_dict(), tmp_path / "a.pt")
    with pytest.raises(UserError, match=message) as refused:
        checkpoints.load_weights(network, tmp_path / "a.pt")
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"model": "text"}, torch.zeros(2)])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no network weights"):
        checkpoints.load_weights(nn.Linear(2, 3), tmp_path / "a.pt")


def test_the_last_checkpoint_says_at_which_epoch_it_stands(tmp_path):
    checkpoints.save({"epoch": 3}, tmp_path / "last.pt")
    assert checkpoints.load_last(tmp_path, max_epochs=4) == {"epoch": 3}
    with pytest.raises(
        UserError, match=r"has done 3 epochs, and max_epochs is 3\.\n.*raise --max_epochs above 3"
    ):
        checkpoints.load_last(tmp_path, max_epochs=3)


@pytest.mark.parametrize("best", [None, b"cut short"])
def test_a_resumed_run_without_readable_best_weights_looks_for_the_best_anew(tmp_path, best, caplog):
    network = nn.Linear(2, 1)
    handler = checkpoints.RunCheckpoints(tmp_path, {"network": network}, network)
    checkpoints.save({"network": network.state_dict(), "epoch": 3, "best": [0.9, 2]}, tmp_path / "last.pt")
    if best:
        (tmp_path / "model.pt").write_bytes(best)
    trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
    trainer.state.max_epochs, trainer.state.epoch_length = 5, 10
    handler.restore(trainer, evaluator)
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (-1, -1)
    assert "model.pt is gone or damaged" in caplog.text


@pytest.mark.parametrize(("kept", "expected"), [({"scaler": {}}, 64.0), ({}, 64.0), (None, 8.0)])
def test_an_object_that_is_made_after_the_restoring_goes_on_from_its_state(tmp_path, kept, expected):
    network, before, after = (
        nn.Linear(2, 1),
        *(torch.amp.GradScaler("cpu", init_scale=n) for n in (8.0, 64.0)),
    )
    before.scale(torch.ones(1))  # without a use it has no scale to keep
    state = {"network": network.state_dict(), "epoch": 3, "best": [0.9, 2]}
    state |= {"scaler": before.state_dict()} if kept is None else kept
    checkpoints.save(state, tmp_path / "last.pt")
    handler = checkpoints.RunCheckpoints(tmp_path, {"network": network}, network)
    trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
    trainer.state.max_epochs, trainer.state.epoch_length = 5, 10
    handler.restore(trainer, evaluator)
    handler.keep("scaler", after)
    assert after.get_scale() == expected
    handler.attach(trainer, evaluator)
    trainer.fire_event(Events.EPOCH_COMPLETED)
    assert checkpoints.load(tmp_path / "last.pt")["scaler"]["scale"] == expected
