"""The MLflow store: made once, asked with patience that fits, and called by no password."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from pipelines.errors import UserError
from pipelines.redact import redacted

# what a store raises that is away for a while, or for good; requests' own errors are an OSError, and a database whose
# driver is not installed gives an ImportError
AWAY = (MlflowException, SQLAlchemyError, OSError, ImportError)
# seconds that a server may take to answer: while a network trains, when nothing waits, and to store a file
BRIEF, PATIENT, UPLOAD = 10, 30, 120


def effective_uri(tracking_uri: str) -> str:
    """Return the address of the store: ``MLFLOW_TRACKING_URI`` goes before the argument."""
    return os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri


def is_server(uri: str) -> bool:
    """Whether a store is reached over HTTP, so that its client can be made while it is away."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def patience(seconds: int) -> Iterator[None]:
    """Let each request inside wait ``seconds`` for its answer, once; what the user has set goes before that.

    MLflow's own way is to wait two minutes, eight times, and to print the server's address with its password.
    """
    ours = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update({name: value for name, value in ours.items() if before[name] is None})
    try:
        yield
    finally:
        for name in ours:
            if before[name] is None:
                os.environ.pop(name, None)


def prepare_store(tracking_uri: str) -> None:
    """Create an SQLite store once, under a lock, so that two trainings that start together do not collide.

    Raises:
        UserError: when the store cannot be reached or written.
    """
    uri = effective_uri(tracking_uri)
    try:
        if not uri.startswith("sqlite:///"):
            with patience(PATIENT):
                mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
            return
        path = Path(uri.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_name(path.name + ".lock"), "w") as lock:
            _lock(lock)
            mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except AWAY as error:
        raise UserError(
            f"The MLflow store {redacted(uri)} cannot be used: {reason(error)}\n"
            "Mend tracking_uri in mlflow.yaml or the variable MLFLOW_TRACKING_URI."
        ) from error


def reason(error: BaseException) -> str:
    """Return the first line of what a store says, short and without a password; of no connection, what broke it."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    broken = re.search(r"\[Errno -?\d+\] ([\w ]+)|(Read timed out)", text)
    return (broken[1] or broken[2]) if broken else redacted(text)[:200]


def is_refusal(error: BaseException) -> bool:
    """Whether a store that answers will never take this: sending it again is of no use."""
    refused = ErrorCode.Name(INVALID_PARAMETER_VALUE)
    status = getattr(getattr(error, "response", None), "status_code", None)
    return getattr(error, "error_code", None) == refused or status in (400, 405, 413)


def _lock(file: Any) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: go on without the lock
        return
    fcntl.flock(file, fcntl.LOCK_EX)
