"""One large file from the net: resumed where it broke off, verified, whole or not there."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from requests.exceptions import ChunkedEncodingError, ContentDecodingError

from pipelines.errors import UserError
from pipelines.files import write_text

if TYPE_CHECKING:
    from rich.progress import Progress

ATTEMPTS = 5  # in a row that bring nothing new
PAUSE_S = 1.0  # before the second attempt; it doubles each time
TIMEOUT_S = (15, 60)  # to connect, and between two pieces
PIECE = 1 << 16  # bytes; what a broken connection loses at most


class _BrokenOffError(requests.RequestException):
    """An answer that a further attempt may better."""


_PASSING = (
    _BrokenOffError,
    requests.ConnectionError,
    requests.Timeout,
    ChunkedEncodingError,
    ContentDecodingError,
)


def download(url: str, path: Path, md5: str) -> Path:
    """Return ``path`` with the file at ``url``, whole and verified; what a broken run left is continued.

    The file grows as ``<path>.part`` and gets its name once size and checksum are right. ``<path>.part.version``
    holds the server's ETag or date, so that a part of an older file is not continued with a newer one (RFC 9110,
    Range and If-Range). A file that is there already is verified and kept.

    Args:
        url: http or https.
        path: the file to make.
        md5: 32 hexadecimal digits.

    Raises:
        UserError: no such file or server, a connection that keeps breaking, a wrong checksum, a full disk.
    """
    part, by_hand = _part(path), f"by hand: download it to {path} and run the same command again"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _verify(path, md5, f"remove {path} and run the same command again")
            return path
        _download_part(url, path)
        try:
            _verify(part, md5, f"the download of {url} was removed; try again")
        except UserError:
            part.unlink()
            raise
        part.replace(path)
        _version(path).unlink(missing_ok=True)
    except requests.RequestException as error:  # before OSError, its base
        raise UserError(f"cannot download {url}:\n{_reason(error)};\n{by_hand}") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason};\nmend it or choose another folder") from error
    return path


def check_space(folder: Path, needed: int) -> None:
    """Raise a ``UserError`` unless the disk of ``folder`` has ``needed`` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} needs {needed / 1e6:,.0f} MB of free disk, has {free / 1e6:,.0f} MB; "
            "make room or choose another folder"
        )


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _version(path: Path) -> Path:
    return path.with_name(path.name + ".part.version")


def _verify(path: Path, md5: str, mend: str) -> None:
    digest = hashlib.md5(
        usedforsecurity=False
    )  # finds broken files; that the server is the right one, TLS says
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() != md5.lower():
        size = path.stat().st_size
        raise UserError(
            f"wrong checksum of {path} ({size:,} bytes):\nexpected MD5 {md5}, got {digest.hexdigest()};\n{mend}"
        )


def _download_part(url: str, path: Path) -> None:
    """Bring ``<path>.part`` to its full size; give up after ``ATTEMPTS`` in a row that bring nothing new."""
    most, failures = -1, 0
    with _bar(path.name) as bar:
        while True:
            try:
                return _continue_part(url, path, bar)
            except _PASSING as error:
                size = _size(_part(path))
                failures = 1 if size > most else failures + 1
                most = max(most, size)
                if failures == ATTEMPTS:
                    raise
                pause = PAUSE_S * 2 ** (failures - 1)
                bar.console.print(f"{_reason(error)}; again in {pause:.0f} s", markup=False, highlight=False)
                time.sleep(pause)


def _continue_part(url: str, path: Path, bar: Progress) -> None:
    """Ask for what ``<path>.part`` lacks and append it, or begin anew where the server wants that."""
    part, have = _part(path), _size(_part(path))
    with requests.get(url, headers=_headers(path, have), stream=True, timeout=TIMEOUT_S) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status_code == 416 and have and content_range.endswith(f"/{have}"):
            return  # the part was whole
        if response.status_code == 416 or (
            response.status_code == 206 and not content_range.startswith(f"bytes {have}-")
        ):
            part.unlink(missing_ok=True)
            raise _BrokenOffError(f"the server answers with the range '{content_range}'", response=response)
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise _BrokenOffError(_status(response), response=response)
        response.raise_for_status()
        _save(response, path, have if response.status_code == 206 else 0, bar)


def _headers(path: Path, have: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}  # the file's own bytes: the range and the checksum count those
    if have:
        headers["Range"] = f"bytes={have}-"
        if _version(path).exists():
            headers["If-Range"] = _version(path).read_text(encoding="utf-8")
    return headers


def _save(response: requests.Response, path: Path, start: int, bar: Progress) -> None:
    """Write the body at ``start`` bytes of ``<path>.part``, which ends there."""
    coming = int(response.headers.get("Content-Length", 0))
    check_space(path.parent, coming)
    bar.update(bar.task_ids[0], completed=start, total=start + coming if coming else None)
    with open(_part(path), "ab" if start else "wb") as file:
        if not start:
            etag = response.headers.get("ETag", "W/")  # a weak one does not vouch for single bytes
            version = response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
            write_text(_version(path), version) if version else _version(path).unlink(missing_ok=True)
        for piece in response.iter_content(PIECE):
            file.write(piece)
            bar.advance(bar.task_ids[0], len(piece))
    if coming and _size(_part(path)) < start + coming:
        raise _BrokenOffError("the connection ended early")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _status(response: requests.Response) -> str:
    return f"HTTP {response.status_code} {response.reason}"


def _reason(error: BaseException) -> str:
    """Return what lies at the bottom of requests' nested errors, in a few words."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _status(error.response)
    inner = getattr(error, "reason", None) or (error.args[0] if error.args else error)
    if isinstance(inner, BaseException) and inner is not error:
        return _reason(inner)
    return str(inner).rpartition(": ")[2].rstrip(".")


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    """Yield a progress bar with one task, shown on a terminal."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True)
    columns = (progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(
        "{task.description}", progress.BarColumn(), *columns, console=console, disable=not console.is_terminal
    ) as bar:
        bar.add_task(name, total=None)
        yield bar
