"""A private PostgreSQL cluster and a real ``mlflow server``, for the tests that need them."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def postgres_tool(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; skip the test where there is none."""
    # Debian keeps the server's programs off the PATH, a folder a version
    found = shutil.which(name) or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return found


@contextmanager
def postgres() -> Iterator[str]:
    """Run an empty cluster on a socket of its own and yield the address of its database, for SQLAlchemy."""
    initdb, server = postgres_tool("initdb"), postgres_tool("postgres")
    # it refuses to be root; pytest's folders are closed to others, so it gets one that is not in them
    other: dict[str, Any] = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        if other:
            shutil.chown(folder, other["user"])
        data = str(Path(folder, "data"))
        subprocess.run(
            [initdb, "-D", data, "-U", "mlflow", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd=folder,
            **other,
        )
        command = [server, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **other
        )
        try:
            _wait_for(lambda: Path(folder, ".s.PGSQL.5432").exists(), process)
            yield f"postgresql+psycopg2://mlflow@/postgres?host={folder}"
        finally:
            process.send_signal(signal.SIGINT)  # the fast shutdown
            process.wait(30)


class MlflowServer:
    """``mlflow server`` as a process group that can be killed and started again on the same port and store."""

    def __init__(self, store: str, artifacts: Path) -> None:
        self.store, self.artifacts, self.port = store, artifacts, free_port()
        self.process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        """The tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", self.store, "--serve-artifacts", "--artifacts-destination"]
        # without the variable it starts seven helper processes
        variables = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
        variables.pop("MLFLOW_TRACKING_URI", None)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - `kill` closes it
        self.process = subprocess.Popen(
            [*command, str(self.artifacts)],
            env=variables,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for(self._answers, self.process)
        except RuntimeError as error:
            self.log.seek(0)
            raise RuntimeError(f"{error}: {self.log.read().decode()[-2000:]}") from None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def kill(self) -> None:
        """End it and its workers at once, as a power cut would."""
        if self.process is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.log.close()
            self.process = None


def _wait_for(condition: Any, process: subprocess.Popen, seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args[:3]} did not come up (exit code {process.poll()})")
        time.sleep(0.1)
