"""One run folder is one MLflow run: training, validation and later evaluations land in it."""

from __future__ import annotations

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
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context import registry as context
from monai.handlers import MLFlowHandler

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
        params: the knobs of the run.
        tags: what else tells runs apart, e.g. ``{"bundle": "atrium"}``.

    Unlike its base it never adopts a run by name or state, logs the epoch's mean loss and the learning rate once an
    epoch (logging each iteration costs more than a small network's step), and ends a broken run as FAILED or KILLED.
    """

    def __init__(
        self,
        run_dir: str | Path,
        experiment_name: str,
        tracking_uri: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_dir = Path(run_dir)
        prepare_store(tracking_uri)
        super().__init__(tracking_uri=tracking_uri, experiment_name=experiment_name, iteration_log=False)
        self.params, self.tags = dict(params or {}), dict(tags or {})
        self._monitor: SystemMetricsMonitor | None = None

    @property
    def run_id(self) -> str:
        """The id of the MLflow run, which :meth:`open` makes."""
        return self.cur_run.info.run_id

    def open(self) -> None:
        """Make the run of the folder, or rejoin it, and mark it as RUNNING."""
        self._set_experiment()
        known = read_tracking(self.run_dir).get("run_id")
        try:
            self.cur_run = self.client.get_run(known) if known else None
        except MlflowException:
            logger.warning(
                "The MLflow run of %s is gone from the store; a new one is made.", self.run_dir.name
            )
        if self.cur_run is None:
            tags = {**context.resolve_tags(), **self.tags}
            self.cur_run = self.client.create_run(
                self.experiment.experiment_id, run_name=self.run_dir.name, tags=tags
            )
            params = [Param(k, str(v)[:PARAM_LENGTH]) for k, v in self.params.items()]
            self.client.log_batch(self.run_id, params=params)
        self._set_status("RUNNING")

    def watch_system(self) -> None:
        """Log processor, memory, disk and network use until :meth:`close`."""
        uri = self.client.tracking_uri
        self._monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=uri)
        self._monitor.start()

    def attach_training(self, trainer: Engine, evaluator: Engine, optimizer: torch.optim.Optimizer) -> None:
        """Log losses, learning rate and validation metrics once an epoch, under ``train/`` and ``val/``."""

        def log_epoch() -> None:
            values = {f"train/{k}": v for k, v in trainer.state.metrics.items()}
            values["train/learning_rate"] = optimizer.param_groups[0]["lr"]
            self.log_metrics(values, trainer.state.epoch)

        def log_validation() -> None:
            self.log_metrics({f"val/{k}": v for k, v in evaluator.state.metrics.items()}, trainer.state.epoch)

        trainer.add_event_handler(Events.EPOCH_COMPLETED, log_epoch)
        evaluator.add_event_handler(Events.COMPLETED, log_validation)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log finite metrics in one call."""
        now = mlflow.utils.time.get_current_time_millis()
        batch = [Metric(k, float(v), now, step) for k, v in metrics.items() if v is not None]
        self.client.log_batch(self.run_id, metrics=batch)

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self.client.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def log_datalist(self, split: Mapping[str, Sequence[dict]], digest: str, source: str) -> None:
        """Log each part of the split as an MLflow data set: the cases' names and the hash, no pixels.

        Args:
            split: part ("train", "val", …) to its cases.
            digest: the hash of the data list.
            source: where the data came from; only its last folder is logged.
        """
        import pandas as pd

        inputs = []
        for part, cases in split.items():
            if part == "test" or not cases:
                continue
            table = pd.DataFrame({"case": [case["case"] for case in cases]})
            dataset = mlflow.data.from_pandas(table, source=Path(source).name, name=part, digest=digest[:8])
            tags = [mlflow.entities.InputTag("mlflow.data.context", part)]
            inputs.append(mlflow.entities.DatasetInput(dataset._to_mlflow_entity(), tags))
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
        if status == "RUNNING":
            self.client.update_run(self.run_id, status=status)
        else:
            self.client.set_terminated(self.run_id, RunStatus.to_string(RunStatus.from_string(status)))
        write_json(
            self.run_dir / TRACKING,
            {"run_id": self.run_id, "experiment": self.experiment_name, "status": status},
        )


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
    except (OSError, MlflowException) as error:
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
