"""One run folder is one MLflow run: training, validation and later evaluations land in it."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import torch
from ignite.engine import Engine, Events
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context import registry as context
from monai.handlers import MLFlowHandler
from sqlalchemy.exc import SQLAlchemyError

from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.runs import TRACKING, read_tracking

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

    Raises:
        UserError: when the store cannot be used.
    """

    def __init__(
        self,
        run_dir: str | Path,
        experiment_name: str,
        tracking_uri: str,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_dir = Path(run_dir)
        prepare_store(tracking_uri)
        super().__init__(tracking_uri=tracking_uri, experiment_name=experiment_name, iteration_log=False)
        self.tags = dict(tags or {})
        self._known: set[tuple[str, int]] = set()
        self._monitor: SystemMetricsMonitor | None = None

    @property
    def run_id(self) -> str:
        """The id of the MLflow run, which :meth:`open` makes."""
        return self.cur_run.info.run_id

    def open(self) -> None:
        """Make the run of the folder, or rejoin it, and mark it as RUNNING.

        Raises:
            UserError: when the experiment was deleted.
        """
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
        self._set_status("RUNNING")

    def _rejoined(self) -> Run | None:
        known = read_tracking(self.run_dir).get("run_id")
        try:
            run = self.client.get_run(known) if known else None
        except MlflowException:
            run = None
        if known and (run is None or run.info.lifecycle_stage != LifecycleStage.ACTIVE):
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
            log_new(values)

        def log_new(values: Mapping[str, float]) -> None:
            step = trainer.state.epoch
            self.log_metrics({k: v for k, v in values.items() if (k, step) not in self._known}, step)

        trainer.add_event_handler(Events.STARTED, self._look_up_steps)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, log_epoch)
        evaluator.add_event_handler(
            Events.COMPLETED, lambda: log_new({f"val/{k}": v for k, v in evaluator.state.metrics.items()})
        )

    def _look_up_steps(self) -> None:
        names = [
            name
            for name in self.client.get_run(self.run_id).data.metrics
            if name.startswith(("train/", "val/"))
        ]
        histories = {name: self.client.get_metric_history(self.run_id, name) for name in names}
        self._known = {(name, metric.step) for name, history in histories.items() for metric in history}

    def watch_system(self) -> None:
        """Log processor, memory, disk and network use until :meth:`end`."""
        uri = self.client.tracking_uri
        self._monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=uri)
        self._monitor.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics in one call."""
        now = mlflow.utils.time.get_current_time_millis()
        batch = [Metric(k, float(v), now, step) for k, v in metrics.items() if v is not None]
        self.client.log_batch(self.run_id, metrics=batch)

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters; MLflow never changes one, so what a resumed run has anew becomes a tag."""
        known = self.client.get_run(self.run_id).data.params
        texts = {name: str(value)[:PARAM_LENGTH] for name, value in values.items()}
        changed = {name: text for name, text in texts.items() if known.get(name, text) != text}
        self.log_tags({f"changed.{name}": f"from {known[name]} to {text}" for name, text in changed.items()})
        new = [Param(name, text) for name, text in texts.items() if name not in known]
        self.client.log_batch(self.run_id, params=new)

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self.client.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def log_datalist(self, split: Mapping[str, Sequence[dict]], digest: str, source: str) -> None:
        """Log the parts of the split that a training uses as MLflow data sets: numbers and the hash, no pixels.

        Args:
            split: part ("train", "val", …) to its cases.
            digest: the hash of the data list.
            source: where the data came from; only its last folder is logged.
        """
        where = json.dumps({"uri": Path(source).name})
        inputs = []
        for part in ("train", "val"):
            profile = json.dumps({"num_rows": len(split[part])})
            dataset = Dataset(part, digest[:8], source_type="local", source=where, profile=profile)
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", part)]))
        self.client.log_inputs(self.run_id, inputs)

    def log_files(self, *paths: Path, folder: str | None = None) -> None:
        """Log files as artifacts; one that does not exist is passed over."""
        for path in paths:
            if path.is_file():
                self.client.log_artifact(self.run_id, str(path), folder)

    @contextmanager
    def rejoined(self) -> Iterator[None]:
        """Open the run of the folder for as long as the block lasts, and leave it in the state it had."""
        status = read_tracking(self.run_dir).get("status", "FINISHED")
        self.open()
        try:
            yield
        finally:
            self.end(status)

    def end(self, status: str) -> None:
        """Mark the run as FINISHED, FAILED or KILLED and stop watching the system."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        self._set_status(status)
        self._dispose_sqlite_store()

    def _set_status(self, status: str) -> None:
        # the run folder first: it must know how its run ended even when the store does not answer
        content = {"run_id": self.run_id, "experiment": self.experiment_name, "status": status}
        write_json(self.run_dir / TRACKING, content)
        if status == "RUNNING":
            self.client.update_run(self.run_id, status=status)
        else:
            self.client.set_terminated(self.run_id, status)


def prepare_store(tracking_uri: str) -> None:
    """Create an SQLite store once, under a lock, so that two trainings that start together do not collide.

    Raises:
        UserError: when the store cannot be reached or written.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
    try:
        if not uri.startswith("sqlite:///"):
            mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
            return
        path = Path(uri.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_name(path.name + ".lock"), "w") as lock:
            _lock(lock)
            mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (OSError, MlflowException, SQLAlchemyError) as error:
        raise UserError(
            f"The MLflow store {uri} cannot be used: {str(error).splitlines()[0][:200]}\n"
            "Mend tracking_uri in mlflow.yaml or the variable MLFLOW_TRACKING_URI."
        ) from error


def _lock(file: Any) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: go on without the lock
        return
    fcntl.flock(file, fcntl.LOCK_EX)


def environment_tags() -> dict[str, str]:
    """Return what a result depends on besides its config: code, versions and kind of machine (no host name)."""
    packages = ("monai", "torch", "numpy", "pytorch-ignite", "mlflow")
    commit = _git("rev-parse", "HEAD")
    tags = {f"version.{name}": version(name) for name in packages}
    tags["version.python"] = platform.python_version()
    tags["git.commit"] = commit or "unknown"
    tags["git.dirty"] = str(bool(_git("status", "--porcelain"))).lower() if commit else "unknown"
    tags["host.kind"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    tags["host.gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    tags["host.threads"] = str(torch.get_num_threads())
    return tags


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(Path(__file__).parent), *arguments],  # noqa: S607 - git is where the user has it
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
