"""The files of a DICOM series, from a folder or a zip that nobody vouches for."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import UserError
from pipelines.readers.inputs import visible_files

# Bounds on what a zip may claim to hold: a series is some thousand files and far below a gigabyte.
MAX_ZIP_BYTES = 4 * 2**30
MAX_ZIP_FILES = 20_000


@dataclass(frozen=True)
class SourceFile:
    """One file of a folder or zip: its name, to be shown, and how to open it."""

    name: str
    open: Callable[[], BinaryIO]


@contextmanager
def source_files(path: Path) -> Iterator[list[SourceFile]]:
    """Yield the files of a folder (its own, not those below), of a zip (at any depth), or the one file given.

    Nothing of a zip is ever written: its members are read in memory, one at a time, so no member can reach
    outside. Links, folders, hidden files and macOS's ``__MACOSX`` are passed over.

    Raises:
        UserError: no zip, a damaged or encrypted one, one with more than ``MAX_ZIP_FILES`` files or more than
            ``MAX_ZIP_BYTES`` unpacked; a folder that cannot be read.
    """
    if path.is_dir():
        try:
            files = visible_files(path)
        except OSError as error:
            raise UserError(
                f"expected a folder to read, got one that cannot be ({error.strerror})"
            ) from error
        yield [SourceFile(file.name, partial(open, file, "rb")) for file in files]
    elif path.name.lower().endswith(".zip"):
        with _opened_zip(path) as archive:
            members = [member for member in archive.infolist() if _is_plain_file(member)]
            _check_bounds(members)
            yield [SourceFile(Path(m.filename).name, partial(_read_member, archive, m)) for m in members]
    else:
        yield [SourceFile(path.name, partial(open, path, "rb"))]


def _opened_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(
            f"expected a zip, got a damaged one ({type(error).__name__}); make it again"
        ) from error


def _is_plain_file(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts) or "__MACOSX" in parts
    return not (member.is_dir() or hidden or stat.S_ISLNK(member.external_attr >> 16))


def _check_bounds(members: list[zipfile.ZipInfo]) -> None:
    # zipfile reads no further than the size a member claims, so the claims bound the memory.
    size = sum(member.file_size for member in members)
    if size > MAX_ZIP_BYTES or len(members) > MAX_ZIP_FILES:
        raise UserError(
            f"expected a zip of at most {MAX_ZIP_FILES:,} files and {MAX_ZIP_BYTES / 2**30:g} GB unpacked, "
            f"got {len(members):,} files and {size / 2**30:.1f} GB; unpack it and give the folder of one "
            "series"
        )
    if any(member.flag_bits & 1 for member in members):
        raise UserError(
            "expected a zip without a password, got an encrypted one; unpack it and give the folder"
        )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    return io.BytesIO(archive.read(member))
