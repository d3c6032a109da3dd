"""How fast a bundle trains, against its network alone and against a plain MONAI bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedTrainer

from pipelines.benchmarks.bundle import scratch, training
from pipelines.benchmarks.meter import PARTS, EpochMeter, epoch_seconds
from pipelines.benchmarks.plain import plain_trainer
from pipelines.benchmarks.report import Benchmark, Figure, median_ratio
from pipelines.registry import Bundle


def benchmark_train(
    bundle: Bundle, dataset_dir: Path | None = None, rounds: int = 3, images: int = 320, **overrides: Any
) -> Benchmark:
    """Compare three ways to train, in turns: an epoch of one, then of the next, so a busy machine hits all alike.

    - ``loop``: the bundle's ``train.yaml`` as it is, with augmentation, metrics, schedule, averaged weights,
      checkpoints and MLflow (a store of its own). Its validation is timed apart. What a step of it is made of is told,
      see :class:`~pipelines.benchmarks.meter.EpochMeter`: the parts add up to the loop.
    - ``network``: the same step on batches that are in memory, see :func:`~pipelines.benchmarks.meter.step_seconds`.
    - ``plain``: see :func:`~pipelines.benchmarks.plain.plain_trainer`, with its own network alone beside it.

    Args:
        bundle: what to train.
        dataset_dir: a data set in the bundle's layout; None takes a phantom.
        rounds: epochs that count; one more warms up.
        images: of an epoch, at most.
        **overrides: of ``train.yaml``.
    """
    with scratch() as folder:
        objects = training(bundle, folder, dataset_dir, images, **overrides, max_epochs=rounds + 1)
        run, trainer = objects.component("whole_run"), objects.component("train#trainer")
        evaluator = objects.component("validate#evaluator")
        rest = _Rest(plain_trainer(objects, images, folder))
        meter = EpochMeter(trainer, evaluator, images, lambda: rest.turn(meter))
        full_epoch, interval = len(trainer.data_loader), objects.component("val_interval")
        run.run()
    settings = {"rounds": rounds, "images": meter.images[-1], "device": str(trainer.state.device)}
    settings["data"] = "phantom" if dataset_dir is None else "given"
    settings["precision"] = "mixed" if trainer.amp else trainer.inferer.precision
    result = Benchmark("train", bundle.name, settings)
    result.figures += _figures(meter, rest)
    result.figures += part_figures(
        meter.parts_s, rest.network_s(meter), [shapes.total() for shapes in meter.shapes]
    )
    epoch_s = median(meter.loop_s) * full_epoch / trainer.state.epoch_length * interval
    share = meter.validation_s[-1] / (meter.validation_s[-1] + epoch_s)
    result.figures.append(Figure("validation's share of a training", share, "of the time"))
    return result


class _Rest:
    """What is measured between two epochs of the bundle: the network, the plain bundle and its network, the network."""

    def __init__(self, plain: SupervisedTrainer) -> None:
        self.before: list[dict] = []  # the network, before each epoch that counts
        self.after: list[dict] = []
        self.plain_network: list[dict] = []
        self.plain = EpochMeter(plain, None, None, lambda: self.plain_network.append(self.plain.alone()))
        plain.add_event_handler(Events.EPOCH_STARTED, self.plain.start)  # other things happened meanwhile

    def turn(self, meter: EpochMeter) -> None:
        if meter.loop_s:
            self.after.append(meter.alone())
        self.plain.trainer.state.max_epochs = meter.trainer.state.epoch
        self.plain.trainer.run()
        self.before.append(meter.alone())

    def network_s(self, meter: EpochMeter) -> list[float]:
        """Return the seconds of the bundle's network alone, one number an epoch."""
        return [epoch_seconds(*one) for one in zip(meter.shapes, self.before, self.after, strict=False)]

    def plain_network_s(self) -> list[float]:
        """Return the seconds of the plain bundle's network alone, one number an epoch, before and after it."""
        turns = pairwise(self.plain_network)
        return [epoch_seconds(one, *two) for one, two in zip(self.plain.shapes, turns, strict=True)]


def _figures(meter: EpochMeter, rest: _Rest) -> list[Figure]:
    plain = rest.plain
    speeds = {
        "loop": _speeds(meter.images, meter.loop_s),
        "network": _speeds(meter.images, rest.network_s(meter)),
        "plain": _speeds(plain.images, plain.loop_s),
        "plain network": _speeds(plain.images, rest.plain_network_s()),
    }
    return figures(speeds)


def _speeds(images: Sequence[int], seconds: Sequence[float]) -> list[float]:
    return [n / s for n, s in zip(images, seconds, strict=True)]


def figures(speeds: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Return what the images a second of each way, one number a round, mean."""
    ways = {
        "loop": ("loop", "network", "network alone", 0.95),
        "plain": ("plain MONAI bundle", "plain network", "its own network alone", None),
        "over plain": ("loop", "plain", "plain MONAI bundle", 1.35),
    }
    rows = [Figure("network alone", median(speeds["network"]), "images/s")]
    for way, (name, base, against, reach) in ways.items():
        speed = speeds["plain" if way == "plain" else "loop"]
        ratio = median_ratio(speed, speeds[base])
        rows.append(Figure(name, median(speed), "images/s", ratio, against, at_least=reach))
    return rows


def part_figures(
    parts: Sequence[Mapping[str, float]], network: Sequence[float], steps: Sequence[int]
) -> list[Figure]:
    """Return what a step of the loop is made of.

    Args:
        parts: seconds of each part of an epoch, one mapping a round.
        network: of the same epochs' network alone.
        steps: of each epoch.
    """
    figures = []
    for name in PARTS:
        seconds = [one.get(name, 0.0) for one in parts]
        each = median(1000 * s / count for s, count in zip(seconds, steps, strict=True))
        share = median_ratio(seconds, network)
        figures.append(Figure(f"of a step: {name}", each, "ms", share, "network alone"))
    return figures
