"""Send what a run records to MLflow, so that sending it twice is the same as sending it once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

from pipelines.tracking_journal import Entry
from pipelines.tracking_store import UPLOAD, patience

# of these a run has one value a step: an epoch that was repeated, or sent again, is not logged again
ONCE = ("train/", "val/")
# these say something of the run's weights, so they stand beside its model too
OF_MODEL = ("best/", "evaluation/")
BATCH = 500  # metrics a request; MLflow takes 1000


class Delivery:
    """Entries of a run on their way to its MLflow run.

    Args:
        client: of the store.
        run_id: the MLflow run.
        run_dir: the run folder, which the files of entries are relative to.
    """

    def __init__(self, client: MlflowClient, run_id: str, run_dir: Path) -> None:
        self.client, self.run_id, self.run_dir = client, run_id, run_dir
        self.forget()

    def forget(self) -> None:
        """Look up anew what the store has: a request may have been received though its answer was lost."""
        self._points: dict[str, set[tuple]] | None = None
        self._model: str | None = None

    def send(self, entries: Sequence[Entry]) -> None:
        """Send entries of one kind."""
        getattr(self, f"_send_{entries[0]['kind']}")(entries)

    def _send_metrics(self, entries: Iterable[Entry]) -> None:
        batch = []
        for entry in entries:
            for name, value in entry["values"].items():
                point = _identity(name, entry["step"], float(value), entry["time"])
                if point not in self._known(name):
                    self._known(name).add(point)
                    batch.append(self._metric(name, float(value), entry))
        if batch:
            try:
                self.client.log_batch(self.run_id, metrics=batch)
            except BaseException:
                self.forget()
                raise

    def next_step(self, prefix: str) -> int:
        """Return the step after the last one of all metrics whose names begin with ``prefix``."""
        run = self.client.get_run(self.run_id)
        # the only place where a run has the steps of its metrics without their histories, which may be long
        steps = [metric.step for metric in run.data._metric_objs if metric.key.startswith(prefix)]
        return max(steps, default=-1) + 1

    def _metric(self, name: str, value: float, entry: Entry) -> Metric:
        linked = {}
        if name.startswith(OF_MODEL) and (model := self._model_id()):
            name_and_digest = dict(
                zip(("dataset_name", "dataset_digest"), entry.get("dataset", ()), strict=False)
            )
            linked = {"model_id": model, **name_and_digest}
        return Metric(name, value, entry["time"], entry["step"], run_id=self.run_id, **linked)

    def _known(self, name: str) -> set[tuple]:
        """Return the points of a metric that the store has, each by what makes it the same one."""
        if self._points is None:
            self._stored, self._points = set(self.client.get_run(self.run_id).data.metrics), {}
        if name not in self._points:
            # a long history of the machine's use is not worth reading: a store drops the very same point by itself
            looked_up = name in self._stored and not name.startswith("system/")
            history = self.client.get_metric_history(self.run_id, name) if looked_up else ()
            self._points[name] = {_identity(name, p.step, p.value, p.timestamp) for p in history}
        return self._points[name]

    def _send_params(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            known = self.client.get_run(self.run_id).data.params
            values = entry["values"]
            changed = {k: f"from {known[k]} to {v}" for k, v in values.items() if known.get(k, v) != v}
            tags = [RunTag(f"changed.{name}", text) for name, text in changed.items()]
            new = [Param(name, text) for name, text in values.items() if name not in known]
            self.client.log_batch(self.run_id, params=new, tags=tags)

    def _send_tags(self, entries: Iterable[Entry]) -> None:
        tags = {name: text for entry in entries for name, text in entry["values"].items()}
        self.client.log_batch(self.run_id, tags=[RunTag(*tag) for tag in tags.items()])

    def _send_datasets(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            source = json.dumps({"uri": entry["source"]})
            inputs = [
                DatasetInput(
                    Dataset(entry["source"], digest, "local", source, profile=json.dumps({"num_rows": rows})),
                    [InputTag("mlflow.data.context", part)],
                )
                for part, (digest, rows) in entry["parts"].items()
            ]
            self.client.log_inputs(self.run_id, inputs)

    def _send_artifact(self, entries: Iterable[Entry]) -> None:
        for path, folder in dict.fromkeys((entry["file"], entry.get("folder")) for entry in entries):
            if (self.run_dir / path).is_file():
                with patience(UPLOAD):
                    self.client.log_artifact(self.run_id, str(self.run_dir / path), folder)

    def _send_model(self, entries: Sequence[Entry]) -> None:
        entry = entries[-1]
        if (model := self._model_id()) is None:
            experiment = self.client.get_run(self.run_id).info.experiment_id
            tags = {MLFLOW_MODEL_IS_EXTERNAL: "true"}
            made = self.client.create_logged_model(
                experiment, entry["name"], self.run_id, tags, model_type="weights"
            )
            model = self._model = made.model_id
        self.client.set_logged_model_tags(model, entry["tags"])
        with tempfile.TemporaryDirectory() as folder, patience(UPLOAD):
            Path(folder, "README.md").write_text(entry["text"], encoding="utf-8")
            self.client.log_model_artifacts(model, folder)
        outputs = self.client.get_run(self.run_id).outputs
        if model not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
            self.client.log_outputs(self.run_id, [LoggedModelOutput(model, entry["step"])])
        self.client.finalize_logged_model(model, "READY")

    def _model_id(self) -> str | None:
        if self._model is None:
            run = self.client.get_run(self.run_id)
            ours = f"source_run_id = '{self.run_id}'"
            found = self.client.search_logged_models([run.info.experiment_id], ours, max_results=1)
            self._model = found[0].model_id if found else None
        return self._model

    def _send_status(self, entries: Sequence[Entry]) -> None:
        entry = entries[-1]
        if entry["status"] == "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            self.client.set_terminated(self.run_id, entry["status"], entry["time"])


def _identity(name: str, step: int, value: float, time: int) -> tuple:
    """Return what two points of a metric that are the same share: its epoch, its value as a run's best, or its time."""
    if name.startswith(ONCE):
        return (step,)
    return (step, value) if name.startswith("best/") else (step, time)


def batches(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return the entries in order, neighbours of one kind together as far as a request may hold them."""
    found: list[list[Entry]] = []
    for entry in entries:
        last = found[-1] if found else None
        if last and last[0]["kind"] == entry["kind"] and _size(last) + _size([entry]) <= BATCH:
            last.append(entry)
        else:
            found.append([entry])
    return found


def _size(entries: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(entry.get("values", ())) for entry in entries)
