"""What the time of a prediction is spent on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from threading import Lock, local
from typing import Any
from unittest.mock import patch

from pipelines import prediction as volumes
from pipelines.benchmarks.report import Figure, median_ratio
from pipelines.image_prediction import ImagePrediction
from pipelines.predict import Prediction

NETWORK, REST = "network in the prediction", "files, bar, summary and the rest"


class PredictionParts:
    """Divides what a prediction takes among its parts, nothing left over, and the network alone beside it.

    X-rays are read and drawn by threads while the network computes, so their parts are of the processor's time; what
    no other part took, OpenMP's threads among it, is the network's. Of a volume everything happens one after the
    other, so its parts are of the clock.

    Args:
        prediction: the bundle's.
        predict: runs it.
        network: runs what its network has to do, alone.
    """

    def __init__(
        self, prediction: Prediction, predict: Callable[[], None], network: Callable[[], None]
    ) -> None:
        self.work = {"predict": predict, "network": network}
        if isinstance(prediction, ImagePrediction):
            self.unit, self.whole, clock = "ms of CPU a case", time.process_time, time.thread_time
            self.functions = _of_xrays(prediction)
        else:
            self.unit, self.whole, clock = "ms a case", time.perf_counter, time.perf_counter
            self.functions = _of_volumes(prediction)
        self.spent = OwnTime(clock)
        self.parts: list[dict[str, float]] = []
        self.alone: list[float] = []

    def predict(self) -> None:
        """Run the prediction and add its parts, in seconds, to ``parts``."""
        self.spent.seconds = Counter(dict.fromkeys([NETWORK, *self.functions, REST], 0.0))
        with ExitStack() as stack:
            for name, (owner, attribute) in self.functions.items():
                timed = self.spent.timed(name, getattr(owner, attribute))
                stack.enter_context(patch.object(owner, attribute, timed))
            started = self.whole()
            self.spent.timed(REST, self.work["predict"])()
            total = self.whole() - started
        seconds = self.spent.seconds
        seconds[NETWORK] = total - sum(seconds[name] for name in seconds if name != NETWORK)
        self.parts.append(dict(seconds))

    def network(self) -> None:
        """Run the network alone and add what it took to ``alone``."""
        started = self.whole()
        self.work["network"]()
        self.alone.append(self.whole() - started)

    def figures(self, cases: int) -> list[Figure]:
        """Return each part of a case, from the rounds after the first, which warmed up."""
        rounds, alone = self.parts[1:], self.alone[1:]
        figures = []
        for name in rounds[0]:
            seconds = [one[name] for one in rounds]
            each, share = 1000 * median(seconds) / cases, median_ratio(seconds, alone)
            figures.append(Figure(f"of a case: {name}", each, self.unit, share, "network alone"))
        return figures


class OwnTime:
    """The time that functions take on the threads that call them, each less that of the others inside it.

    Args:
        clock: of the calling thread, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds = clock, Counter[str]()
        self._thread, self._adding = local(), Lock()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and adds to ``seconds[name]`` what it took."""

        def run(*args: Any, **kwargs: Any) -> Any:
            outside, self._thread.inside = getattr(self._thread, "inside", 0.0), 0.0
            started = self.clock()
            try:
                return function(*args, **kwargs)
            finally:
                took = self.clock() - started
                with self._adding:
                    self.seconds[name] += took - self._thread.inside
                self._thread.inside = outside + took

        return run


def _of_xrays(prediction: ImagePrediction) -> dict[str, tuple[Any, str]]:
    return {
        "reading and preprocessing": (prediction, "read"),
        "measuring": (prediction.task, "measure"),
        "drawing": (prediction.task, "draw"),
        "PNG and record": (prediction, "finish"),
        NETWORK: (prediction, "infer"),
    }


def _of_volumes(prediction: Any) -> dict[str, tuple[Any, str]]:
    return {
        "reading": (volumes, "read_volume"),
        "preprocessing": (prediction, "preprocessing"),
        NETWORK: (prediction.inferer, "variants"),
        "postprocessing": (prediction, "postprocessing"),
        "measuring": (prediction, "measure"),
        "mask": (volumes, "save_mask"),
        "overlay": (volumes, "save_overlay"),
    }
