"""What a run could not send to MLflow yet, kept line by line in its folder."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.files import atomic_path, write_text
from pipelines.runs import UNSENT, UNSENT_FILES

logger = logging.getLogger(__name__)
Entry = dict[str, Any]
# kind of an entry to what it holds at least
_HOLDS: dict[str, dict[str, Any]] = {
    "metrics": {"values": dict, "step": int, "time": int},
    "params": {"values": dict},
    "tags": {"values": dict},
    "datasets": {"source": str, "parts": dict},
    "artifact": {"file": str, "folder": str | None},
    "model": {"name": str, "step": int, "tags": dict, "text": str},
    "status": {"status": str, "time": int},
}


class Journal:
    """``unsent.jsonl`` of a run folder: an entry a line, oldest first, on the disk before :meth:`append` returns.

    A line that is no record, say one that was torn by a kill, is passed over, and so is a file outside the run folder:
    who can write the journal must not choose what is uploaded. Any process may append or :meth:`keep` under
    :meth:`locked`.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self.path = self.run_dir / UNSENT
        self._passed = 0

    @property
    def pending(self) -> bool:
        """Whether anything waits to be sent."""
        return self.path.is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the journal; a thread must not enter it twice."""
        try:
            import fcntl
        except ImportError:  # not a POSIX system: go on without the lock
            yield
            return
        handle = os.open(self.run_dir, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry; numbers that JSON lacks become text, which ``float`` reads."""
        line = json.dumps(_plain(entry), allow_nan=False).encode()
        with self.locked(), open(self.path, "ab+") as file:
            if file.tell() and not self._ends_whole():
                line = b"\n" + line
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _ends_whole(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def read(self) -> list[Entry]:
        """Return all entries, oldest first."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        entries = [entry for entry in map(_parsed, lines) if entry and self._is_own(entry)]
        passed = len(lines) - len(entries)
        if passed > self._passed:  # told once
            logger.warning(
                "Lines of %s that are no records of this run are passed over: %d.", self.path, passed
            )
        self._passed = passed
        return entries

    def _is_own(self, entry: Entry) -> bool:
        """Whether an entry names no file, or one that lies in the run folder, for a folder among its artifacts."""
        inside = self.run_dir.resolve()
        return entry["kind"] != "artifact" or (
            (inside / entry["file"]).resolve().is_relative_to(inside)
            and (inside / (entry.get("folder") or "")).resolve().is_relative_to(inside)
        )

    def keep(self, entries: Sequence[Entry]) -> None:
        """Replace the journal by what is still unsent, and remove it when that is nothing."""
        if entries:
            write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in entries))
        else:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self.run_dir / UNSENT_FILES, ignore_errors=True)

    def relative(self, path: Path, folder: str | None) -> str:
        """Return a file's place in the run folder; one from elsewhere is copied there, as it may not last."""
        if path.absolute().is_relative_to(self.run_dir.absolute()):
            return path.absolute().relative_to(self.run_dir.absolute()).as_posix()
        kept = self.run_dir / UNSENT_FILES / (folder or ".") / path.name
        with atomic_path(kept) as temporary:
            shutil.copyfile(path, temporary)
        return kept.relative_to(self.run_dir).as_posix()


def _parsed(line: str) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    held = _HOLDS.get(str(entry.get("kind"))) if isinstance(entry, dict) else None
    if held is None or not all(isinstance(entry.get(name), kind) for name, kind in held.items()):
        return None
    inside, holds = _INSIDE.get(entry["kind"], ("", None))
    return entry if holds is None or all(map(holds, entry[inside].values())) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_digest(part: Any) -> bool:
    """Whether it is the digest of a data set and the number of its cases."""
    return isinstance(part, list) and len(part) == 2


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


# and what must hold of each value inside
_INSIDE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "metrics": ("values", _is_number),
    "params": ("values", _is_text),
    "tags": ("values", _is_text),
    "datasets": ("parts", _is_digest),
}


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content
