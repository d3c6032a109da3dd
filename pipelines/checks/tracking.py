"""Whether the MLflow store can be written to or answers; asked without MLflow, which is slow to import."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pipelines.checks.report import Finding

TIMEOUT_SECONDS = 3
REMEDY = "set tracking_uri in mlflow.yaml or MLFLOW_TRACKING_URI, for example to sqlite:///mlflow.db"


def check_tracking(uri: str) -> list[Finding]:
    """Return an error where a training could not log to ``uri``, an empty list where it could.

    Args:
        uri: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``http(s)://host``. A database that is
            not there yet is fine where it can be made. Other stores (PostgreSQL, …) are not checked.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme == "sqlite":
        return list(_check_sqlite(uri))
    if scheme in ("http", "https"):
        return list(_check_server(uri))
    if scheme in ("", "file") and uri != "databricks":
        message = (
            f"expected a database or a server as MLflow store, got the folder '{uri}', which MLflow 3 refuses"
        )
        return [Finding("error", "tracking", None, message, REMEDY)]
    return [Finding("info", "tracking", None, f"an MLflow store of kind '{scheme or uri}' is not checked")]


def _check_sqlite(uri: str) -> Iterator[Finding]:
    path = Path(uri.partition("://")[2].removeprefix("/").partition("?")[0])
    try:
        if path.exists():
            _open_for_writing(path)
        elif str(path) not in (".", ":memory:"):
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            with tempfile.TemporaryFile(dir=folder):  # MLflow makes the folders between
                pass
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        yield Finding(
            "error", "tracking", None, f"the MLflow store {path} cannot be written: {reason}", REMEDY
        )


def _open_for_writing(path: Path) -> None:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=TIMEOUT_SECONDS)
    try:
        connection.execute("PRAGMA schema_version").fetchone()  # fails on what is no database
        connection.execute("BEGIN IMMEDIATE")  # takes the write lock: fails on a read-only or a locked one
        connection.rollback()
    finally:
        connection.close()
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(13, "its folder is read-only, and SQLite keeps a journal there")


def _check_server(uri: str) -> Iterator[Finding]:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # a name and password stay out of messages
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/health", "", ""))
    try:
        # the scheme is http or https, checked by the caller
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # it wants a login or has no such page, but it answers
            return
        reason = f"it answers {error.code}"
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
    message = f"no MLflow server answers at {parts.scheme}://{host} within {TIMEOUT_SECONDS} s: {reason}"
    yield Finding("error", "tracking", None, message, f"start it, or {REMEDY}")
