"""What a run could not send to MLflow yet, kept line by line in its folder."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.files import atomic_path, write_text
from pipelines.runs import UNSENT, UNSENT_FILES

Entry = dict[str, Any]


class Journal:
    """``unsent.jsonl`` of a run folder: an entry a line, oldest first, on the disk before :meth:`append` returns.

    A line that was torn by a kill is passed over. Any process may append or :meth:`keep` under :meth:`locked`.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self.path = self.run_dir / UNSENT

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
        return [entry for entry in map(_parsed, lines) if entry]

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
    return entry if isinstance(entry, dict) and "kind" in entry else None


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content
