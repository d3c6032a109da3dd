"""A phantom's folder: whole or absent, and left alone where it is already there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import write_json


def write_whole(
    target: Path,
    marker: str,
    contents: Mapping[str, Any],
    write: Callable[[Path], None],
    files: Sequence[str] = (),
) -> None:
    """Let ``write`` fill a folder, and move it to ``target`` once it is whole.

    Args:
        target: a folder that is absent or empty, or that holds the phantom made by the same arguments already.
        marker: the name of a JSON file that tells this phantom from others.
        contents: what it holds: all that the phantom's bytes follow from.
        write: fills the folder that it is given; the marker is written after it.
        files: paths inside the folder without which it does not hold this phantom.

    Raises:
        UserError: ``target`` holds anything else, or cannot be written.
    """
    target = Path(target).expanduser()
    if _is_written(target, marker, contents, files):
        print(f"{target} already holds this phantom.")
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".phantom-", dir=target.parent) as temporary:
            root = Path(temporary) / "whole"
            root.mkdir()
            write(root)
            write_json(root / marker, contents)
            root.replace(target)
    except OSError as error:
        raise UserError(
            f"cannot write the phantom to {target}: {error.strerror}; choose another folder"
        ) from error


def _is_written(target: Path, marker: str, contents: Mapping[str, Any], files: Sequence[str]) -> bool:
    """Return whether ``target`` holds this very phantom; raise when it holds anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        found = json.loads((target / marker).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found == contents and all((target / file).is_file() for file in files):
        return True
    raise UserError(
        f"expected an empty folder or this very phantom in {target}, found other files; "
        "choose another folder or remove this one"
    )
