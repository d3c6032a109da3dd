from __future__ import annotations

import logging
import sys

import pytest
from ignite.engine import Engine, Events

from pipelines.progress import EpochProgress, readable_time, track


def test_a_bar_writes_nothing_where_output_goes_to_a_file(capsys):
    assert list(track([1, 2, 3], "Working")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_bar_goes_to_stderr_and_yields_every_item(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track(iter([1, 2]), "Working")) == [1, 2]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (5400, "90 min")]
)
def test_durations_are_readable(seconds, text):
    assert readable_time(seconds) == text


def engines(epochs_between_validations=2):
    trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
    evaluator.state.best_metric = evaluator.state.key_metric_name = None

    def validate(engine):
        evaluator.state.epoch, evaluator.state.metrics = engine.state.epoch, {"dice": 0.25}
        evaluator.state.best_metric, evaluator.state.key_metric_name = 0.75, "dice"

    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(loss=0.5))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=epochs_between_validations), validate)
    return trainer, evaluator


def test_each_epoch_is_a_line_with_its_loss_and_where_it_was_validated_its_score(caplog):
    trainer, evaluator = engines()
    EpochProgress().attach(trainer, evaluator)
    with caplog.at_level(logging.INFO, "pipelines.progress"):
        trainer.run([0, 0, 0], max_epochs=2)
    first, second = caplog.messages
    assert first.startswith("Epoch   1/2  loss 0.5000  ")
    assert "val" not in first
    assert second.startswith("Epoch   2/2  loss 0.5000  val dice 0.2500 (best 0.7500)  ")
    assert second.endswith("0 s left")


def test_a_bar_is_taken_away_when_an_epoch_breaks_off():
    progress = EpochProgress()
    progress.close()  # before any bar
    trainer, evaluator = engines()
    progress.attach(trainer, evaluator)
    progress._bar = (number for number in range(3))
    next(progress._bar)
    progress.close()
    assert list(progress._bar) == []
