from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from pipelines.averaging import WarmAverage


def averaged(values, momentum):
    """Average a weight that has ``values`` after each step; return the average after each."""
    model = torch.nn.BatchNorm1d(1)
    with torch.no_grad():
        model.weight.fill_(0)

    def step(engine, value):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(value)

    handler, found = WarmAverage(model, momentum), []
    trainer = Engine(step)
    handler.attach(trainer)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: found.append(float(handler.ema_model.weight))
    )
    trainer.run(values)
    assert float(handler.ema_model.running_mean) == values[-1]  # buffers are the newest
    return found


def test_the_first_steps_count_more_and_later_ones_the_momentum():
    first = 10 / 11 * 1  # of the 0 at the start, 1 / 11 is left
    second = first * (1 - 10 / 12) + 10 / 12 * 2
    assert averaged([1.0, 2.0], momentum=0.01) == pytest.approx([first, second])
    assert averaged([1.0], momentum=0.95) == pytest.approx([0.95])


def test_a_hundred_equal_steps_leave_nothing_of_the_start():
    assert averaged([1.0] * 100, momentum=0.001)[-1] == pytest.approx(1.0, abs=1e-6)
