from __future__ import annotations

from ignite.engine import Engine, Events

from pipelines.history import History


def test_metrics_are_kept_with_their_epoch():
    trainer, evaluator, history = Engine(lambda *_: None), Engine(lambda *_: None), History()
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(loss=1.0 / e.state.epoch)
    )
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(dice=0.5))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda: evaluator.run([0]))
    history.attach(trainer, evaluator)
    trainer.run([0, 0], max_epochs=2)
    assert history.values == {"train/loss": [[1, 1.0], [2, 0.5]], "val/dice": [[2, 0.5]]}


def test_a_state_is_a_copy_and_comes_back():
    history = History()
    history.values = {"train/loss": [[1, 0.5]]}
    state = history.state_dict()
    history.values["train/loss"].append([2, 0.4])
    assert state == {"train/loss": [[1, 0.5]]}
    history.load_state_dict(state)
    assert history.values == {"train/loss": [[1, 0.5]]}
    assert history.values is not state
