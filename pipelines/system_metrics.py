"""Processor, memory, disk and network use in MLflow, through whatever happens to its server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

logger = logging.getLogger(__name__)
PREFIX = "system/"


class SystemMetrics(SystemMetricsMonitor):
    """MLflow's monitor with samples that are logged as the training's own metrics are.

    The original ends at the first request that fails, and its end waits until the last has been tried for minutes.

    Args:
        run_id: the MLflow run.
        tracking_uri: the store.
        next_step: gives the step after the last one that the store has; ``None`` while it is away.
        log: called with names, values and step, in a thread of its own.
    """

    def __init__(
        self,
        run_id: str,
        tracking_uri: str,
        next_step: Callable[[], int | None],
        log: Callable[[Mapping[str, float], int], None],
    ) -> None:
        super().__init__(run_id, tracking_uri=tracking_uri)
        self._next_step, self._log, self._logging_step = next_step, log, None

    def monitor(self) -> None:
        """Collect and log until the end."""
        while True:
            for _ in range(self.samples_before_logging):
                self.collect_metrics()
                if self._shutdown_event.wait(self.sampling_interval):
                    return
            try:
                self.publish_metrics(self.aggregate_metrics())
            except Exception:  # a training is worth more than a look at its machine
                logger.debug("The machine's use could not be logged.", exc_info=True)

    def publish_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log one sample; until it is known how they are to be numbered, they are dropped."""
        for monitor in self.monitors:
            monitor.clear_metrics()
        if self._logging_step is None:
            self._logging_step = self._next_step()
        if self._logging_step is not None:
            prefix = PREFIX + (f"{self.node_id}/" if self.node_id else "")
            self._log({prefix + name: value for name, value in metrics.items()}, self._logging_step)
            self._logging_step += 1
