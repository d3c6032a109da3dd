"""Whether the MLflow store would take a run: a database that can be written, or a server that answers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipelines.checks import tracking
from pipelines.checks.tracking import check_tracking


@contextmanager
def server(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path.endswith("/health") else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield httpd.server_port
        httpd.shutdown()
        thread.join()


def only_error(uri: str) -> str:
    (finding,) = check_tracking(uri)
    assert (finding.severity, finding.check) == ("error", "tracking")
    assert "MLFLOW_TRACKING_URI" in finding.remedy
    return finding.message


def test_new_database_in_a_folder_yet_to_be_made_is_fine_and_nothing_is_left_behind(tmp_path, monkeypatch):
    assert check_tracking(f"sqlite:///{tmp_path}/a/b/mlflow.db") == []
    monkeypatch.chdir(tmp_path)
    assert check_tracking("sqlite:///mlflow.db") == []
    assert list(tmp_path.iterdir()) == []


def test_existing_database_is_fine_and_stays_as_it_was(tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE runs (id)")
    before = (tmp_path / "mlflow.db").read_bytes()
    assert check_tracking(f"sqlite:///{tmp_path}/mlflow.db") == []
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_file_that_is_no_database_is_an_error(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database, but long enough to look like one " * 20)
    assert "mlflow.db cannot be written: file is not a database" in only_error(
        f"sqlite:///{tmp_path}/mlflow.db"
    )


def test_file_where_a_folder_should_be_is_an_error(tmp_path):
    (tmp_path / "taken").touch()
    assert "cannot be written: Not a directory" in only_error(f"sqlite:///{tmp_path}/taken/mlflow.db")


def test_folder_in_place_of_the_database_is_an_error(tmp_path):
    assert "cannot be written: unable to open" in only_error(f"sqlite:///{tmp_path}")


def test_database_locked_by_a_writer_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "TIMEOUT_SECONDS", 0.05)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE runs (id)")
        connection.execute("BEGIN EXCLUSIVE")
        assert "database is locked" in only_error(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize("status", [200, 401, 404])
def test_server_that_answers_is_fine(status):
    with server(status) as port:
        assert check_tracking(f"http://127.0.0.1:{port}/") == []


def test_server_in_trouble_is_an_error():
    with server(503) as port:
        assert "it answers 503" in only_error(f"http://127.0.0.1:{port}")


def test_absent_server_is_an_error_that_keeps_the_password_to_itself():
    with server(200) as port:
        pass
    message = only_error(f"http://ann:secret@127.0.0.1:{port}")
    assert f"no MLflow server answers at http://127.0.0.1:{port} within 3 s" in message
    assert "secret" not in message


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_folder_store_is_an_error(uri):
    assert f"got the folder '{uri}', which MLflow 3 refuses" in only_error(uri)


@pytest.mark.parametrize("uri", ["postgresql+psycopg2://u:secret@db/mlflow", "databricks"])
def test_other_store_is_reported_as_not_checked(uri):
    (finding,) = check_tracking(uri)
    assert finding.severity == "info"
    assert "is not checked" in finding.message
    assert "secret" not in finding.message
