"""The MLflow run of a cross-validation, to which the runs of its folds belong."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from pipelines.crossval.plan import Plan
from pipelines.errors import UserError
from pipelines.runs import CONFIG, CROSSVAL, LAST, read_tracking
from pipelines.settings import parameters
from pipelines.tracking import RunTracker, environment_tags

logger = logging.getLogger(__name__)


@contextmanager
def recorded(folder: Path, plan: Plan, config: Mapping[str, Any], threads: int) -> Iterator[RunTracker]:
    """Have the MLflow run of a cross-validation, which those of the folds belong to, open as long as the block lasts.

    Args:
        folder: of the cross-validation.
        plan: its folds.
        config: the training's settings.
        threads: that each fold computes with.

    Raises:
        UserError: the store cannot be used; where that is so at the end alone, the results are in the folder.
    """
    tags = {"bundle": plan.bundle, "kind": "crossval"}
    tracker = RunTracker(folder, config["experiment_name"], config["tracking_uri"], tags)
    tracker.open()
    try:
        of_folds = {"train_cases", "val_cases", "run_name"} - set(plan.overrides)
        settings = {name: value for name, value in parameters(config).items() if name not in of_folds}
        tracker.log_parameters({**settings, "folds": plan.folds, "fold_seed": plan.seed, "last": plan.last})
        hashes = {"split.hash": plan.hash, "dataset.hash": plan.dataset["hash"], "seed": config["seed"]}
        tracker.log_tags({**environment_tags(), "host.threads": threads, **hashes})
        tracker.log_files(folder / CONFIG, folder / CROSSVAL)
        yield tracker
        tracker.end("FINISHED")
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        if stopped:
            logger.warning("Stopped. The same command goes on from here, with --name %s.", plan.name)
        with suppress(MlflowException):  # it must not hide what ended the cross-validation
            tracker.end("KILLED" if stopped else "FAILED")
        if isinstance(error, MlflowException):
            text = f"MLflow cannot be used: {str(error).splitlines()[0][:300]}"
            raise UserError(
                f"{text}\nWhat is done is in {folder}: the same command goes on from there."
            ) from error
        raise


def forget_broken_off(run_dir: Path, tracker: RunTracker) -> None:
    """Delete the MLflow run of a fold that starts anew because it was stopped in its first epoch."""
    run_id = read_tracking(run_dir).get("run_id")
    if run_id and not (run_dir / LAST).is_file():
        with suppress(MlflowException):
            tracker.client.delete_run(run_id)
