"""Send to MLflow what runs could not while its server was away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.runs import CONFIG, TRACKING, UNSENT, read_tracking


def sync(folder: str | Path, tracking_uri: str) -> int:
    """Send what a run folder, or one of those below it, keeps for MLflow, and return how much that was.

    Args:
        folder: a run folder, or one that holds them, e.g. ``runs/atrium``.
        tracking_uri: the store; ``MLFLOW_TRACKING_URI`` goes before it, and where the run names another, that does.

    Raises:
        UserError: when there is no such folder, or the store is away or does not take everything now.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no run folder {folder}. Name one, or a folder that holds some.")
    if not any(path.name in (UNSENT, TRACKING) for path in folder.rglob("*.json*")):
        raise UserError(f"{folder} is no run folder and holds none. Name one, or a folder that holds some.")
    return sum(_sync_run(path.parent, tracking_uri) for path in sorted(folder.rglob(UNSENT)))


def _sync_run(run_dir: Path, tracking_uri: str) -> int:
    from mlflow.entities import LifecycleStage

    from pipelines.tracking import RunTracker
    from pipelines.tracking_store import AWAY, PATIENT, patience, reason

    known = read_tracking(run_dir)
    if not (known.get("run_id") and known.get("experiment")):
        raise UserError(f"{run_dir} does not say which MLflow run it is: its {TRACKING} is gone or damaged.")
    tracker = RunTracker(run_dir, known["experiment"], _store_of(run_dir, tracking_uri))
    waiting = len(tracker.outbox.journal.read())
    try:
        with patience(
            PATIENT
        ):  # a run that this store does not have is in another one, and not made anew here
            run = tracker.client.get_run(known["run_id"])
    except AWAY as error:
        raise _unsent(run_dir, reason(error)) from error
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise UserError(
            f"The MLflow run of {run_dir} was deleted, so it can take nothing.\n"
            f"Bring it back with `mlflow runs restore --run-id {run.info.run_id}`, "
            f"or give up what waits for it: remove {run_dir / UNSENT}."
        )
    if not tracker.outbox.flush():
        raise _unsent(run_dir, "it went away")
    return waiting


def _unsent(run_dir: Path, why: str) -> UserError:
    return UserError(
        f"The MLflow store cannot take what {run_dir} keeps for it: {why}\n"
        "Nothing is lost: start the server, or name the one that has the run with MLFLOW_TRACKING_URI."
    )


def _store_of(run_dir: Path, tracking_uri: str) -> str:
    """Return the store that the run was recorded in; its config holds the address without a password."""
    import yaml

    from pipelines.redact import redacted

    path = run_dir / CONFIG
    try:
        config: Any = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}), so it cannot be told where {run_dir} was recorded.\n"
            "Bring it back, or remove it to use the store of mlflow.yaml."
        ) from error
    stored = str((config if isinstance(config, dict) else {}).get("tracking_uri") or tracking_uri)
    return tracking_uri if redacted(tracking_uri) == stored else stored
