"""One run folder is one MLflow run: training, validation and later evaluations land in it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking.context import registry as context
from monai.handlers import MLFlowHandler

from pipelines.datasets.datalist import dataset_hash
from pipelines.environment import environment_tags
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.redact import redacted
from pipelines.runs import TRACKING, read_tracking
from pipelines.system_metrics import PREFIX as SYSTEM
from pipelines.system_metrics import SystemMetrics
from pipelines.tracking_delivery import Delivery
from pipelines.tracking_outbox import Outbox
from pipelines.tracking_store import effective_uri, is_server, prepare_store

__all__ = ["RunTracker", "environment_tags", "prepare_store"]

logger = logging.getLogger(__name__)
PARAM_LENGTH = 500  # what the MLflow UI shows of a parameter at a glance; the whole config is an artifact


class RunTracker(MLFlowHandler):
    """MONAI's ``MLFlowHandler`` for one run folder, whose run it makes once and rejoins ever after.

    Args:
        run_dir: the run folder; its name becomes the run's name, and ``mlflow.json`` in it remembers the run.
        experiment_name: the MLflow experiment.
        tracking_uri: e.g. ``sqlite:///mlflow.db``; ``MLFLOW_TRACKING_URI`` goes before it.
        tags: what tells runs apart, e.g. ``{"bundle": "atrium"}``.

    Unlike its base it never adopts a run by name or state, logs the epoch's mean loss and the learning rate once an
    epoch (logging each iteration costs more than a small network's step), and ends a broken run as FAILED or KILLED.

    A store that goes away costs no training: what it does not take is kept in ``unsent.jsonl`` in the run folder and
    sent when it answers again, each metric of each epoch once. Only a new run needs the store at its start.

    Raises:
        UserError: when the store of a new run cannot be used.
    """

    def __init__(
        self,
        run_dir: str | Path,
        experiment_name: str,
        tracking_uri: str,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_dir = Path(run_dir)
        self._run_id: str | None = read_tracking(self.run_dir).get("run_id")
        try:
            prepare_store(tracking_uri)
        except UserError:
            if not self._may_be_away(effective_uri(tracking_uri)):
                raise
        super().__init__(tracking_uri=tracking_uri, experiment_name=experiment_name, iteration_log=False)
        self.tags = dict(tags or {})
        self.outbox = Outbox(self.run_dir, self._connect)
        self._monitor: SystemMetrics | None = None

    @property
    def run_id(self) -> str:
        """The id of the MLflow run, which :meth:`open` makes."""
        return str(self._run_id)

    def open(self) -> None:
        """Make the run of the folder, or rejoin it, and mark it as RUNNING.

        Raises:
            UserError: when the experiment was deleted, or the store of a new run cannot be used.
        """
        self.outbox.connect(needed=not self._may_be_away())
        self._set_status("RUNNING")

    def _may_be_away(self, uri: str | None = None) -> bool:
        """Whether the run was made before, in a store whose client can be made without it."""
        return bool(self._run_id) and is_server(uri or self.client.tracking_uri)

    def _connect(self) -> Delivery:
        """Find the run of the folder in the store, or make it."""
        try:
            self._set_experiment()
        except ValueError as error:
            raise UserError(
                f"{error}.\nRestore it with `mlflow experiments restore`, or choose another."
            ) from error
        self.cur_run = self._rejoined()
        if self.cur_run is None:
            tags = {**context.resolve_tags(), **self.tags}
            self.cur_run = self.client.create_run(
                self.experiment.experiment_id, run_name=self.run_dir.name, tags=tags
            )
        if self._run_id not in (None, self.cur_run.info.run_id):
            known = read_tracking(self.run_dir)
            write_json(self.run_dir / TRACKING, {**known, "run_id": self.cur_run.info.run_id})
        self._run_id = self.cur_run.info.run_id
        return Delivery(self.client, self._run_id, self.run_dir)

    def _rejoined(self) -> Run | None:
        run = None
        try:
            run = self.client.get_run(self._run_id) if self._run_id else None
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
        if self._run_id and (run is None or run.info.lifecycle_stage != LifecycleStage.ACTIVE):
            logger.warning(
                "The MLflow run of %s is gone from the store; a new one is made.", self.run_dir.name
            )
            return None
        return run

    def attach_training(self, trainer: Engine, evaluator: Engine, optimizer: torch.optim.Optimizer) -> None:
        """Log losses, learning rate and validation metrics once an epoch, under ``train/`` and ``val/``.

        An epoch that a resumed training repeats is not logged again.
        """

        def log_epoch() -> None:
            values = {f"train/{k}": v for k, v in trainer.state.metrics.items()}
            values["train/learning_rate"] = optimizer.param_groups[0]["lr"]
            self.log_metrics(values, trainer.state.epoch)

        def log_validation() -> None:
            values = {f"val/{k}": v for k, v in evaluator.state.metrics.items()}
            self.log_metrics(values, trainer.state.epoch)

        trainer.add_event_handler(Events.EPOCH_COMPLETED, log_epoch)
        evaluator.add_event_handler(Events.COMPLETED, log_validation)

    def watch_system(self) -> None:
        """Log processor, memory, disk and network use until :meth:`end`."""
        uri, next_step = self.client.tracking_uri, partial(self.outbox.next_step, SYSTEM)
        self._monitor = SystemMetrics(self.run_id, uri, next_step, self.log_metrics)
        self._monitor.start()

    def log_metrics(
        self, metrics: Mapping[str, float], step: int = 0, dataset: tuple[str, str] | None = None
    ) -> None:
        """Log metrics in one call.

        Args:
            metrics: name to value; ``None`` is left out.
            step: the epoch, or 0. Of ``train/`` and ``val/`` a run has one value a step.
            dataset: name and digest of the data set that a score was measured on.
        """
        values = {name: float(value) for name, value in metrics.items() if value is not None}
        extra = {} if dataset is None else {"dataset": list(dataset)}
        self.outbox.record("metrics", values=values, step=step, **extra)

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters; MLflow never changes one, so what a resumed run has anew becomes a tag."""
        texts = {name: redacted(str(value))[:PARAM_LENGTH] for name, value in values.items()}
        self.outbox.record("params", values=texts)

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self.outbox.record("tags", values={name: redacted(str(value)) for name, value in tags.items()})

    def log_datasets(self, parts: Mapping[str, Sequence[dict]], source: str) -> dict[str, tuple[str, str]]:
        """Log what a training or an evaluation uses as MLflow data sets: numbers and hashes, no pixels.

        Args:
            parts: "train", "val", "test", … to its cases.
            source: where the data came from; its last folder's name is the data sets' name.

        Returns:
            part to the name and the digest of its data set.
        """
        name = Path(source).absolute().name
        digests = {part: (dataset_hash(cases)[:8], len(cases)) for part, cases in parts.items()}
        self.outbox.record(
            "datasets", source=name, parts={part: list(found) for part, found in digests.items()}
        )
        return {part: (name, digest) for part, (digest, _) in digests.items()}

    def log_model(self, name: str, step: int, tags: Mapping[str, Any], text: str) -> None:
        """Let the run's best weights be a model in MLflow, without a copy of them: they are an artifact of the run.

        Args:
            name: of the model.
            step: the epoch that the weights are of.
            tags: what to know of them at a glance.
            text: Markdown that says how to use them.
        """
        texts = {key: str(value) for key, value in tags.items()}
        self.outbox.record("model", name=name, step=step, tags=texts, text=text)

    def log_files(self, *paths: Path, folder: str | None = None) -> None:
        """Log files as artifacts; one that does not exist is passed over."""
        for path in filter(Path.is_file, paths):
            self.outbox.record("artifact", folder=folder, file=str(path.absolute()))

    def log_text(self, text: str, name: str) -> None:
        """Log a text as an artifact called ``name``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_text(redacted(text), encoding="utf-8")
            self.log_files(path)

    @contextmanager
    def rejoined(self) -> Iterator[RunTracker]:
        """Open the run of the folder for as long as the block lasts, and leave it in the state it had.

        The folder keeps that state meanwhile: an evaluation that is killed, or two at once, must not make a finished
        training an unfinished one. The run keeps the time when it ended, so that its duration stays the training's.
        """
        status = read_tracking(self.run_dir).get("status", "FINISHED")
        self.outbox.connect(needed=not self._may_be_away())
        ended = self.cur_run.info.end_time if self.cur_run is not None else None
        self.outbox.record("status", status="RUNNING")
        try:
            yield self
        finally:
            self.end(status, ended)

    def end(self, status: str, ended: int | None = None) -> None:
        """Mark the run as FINISHED, FAILED or KILLED and stop watching the system.

        Args:
            status: how it ended.
            ended: when, in ms since 1970; None is now.
        """
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        self._set_status(status, ended)
        if self.outbox.journal.pending and not self.outbox.flush():
            command = f"python -m pipelines sync {self.run_dir}"
            logger.warning("MLflow does not have all of this run. When it answers again: %s", command)
        self._dispose_sqlite_store()

    def _set_status(self, status: str, ended: int | None = None) -> None:
        # the run folder first: it must know how its run ended even when the store does not answer
        content = {"run_id": self.run_id, "experiment": self.experiment_name, "status": status}
        write_json(self.run_dir / TRACKING, content)
        self.outbox.record("status", status=status, **({"time": ended} if ended else {}))
