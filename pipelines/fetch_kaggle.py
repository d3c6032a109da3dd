"""The challenge's X-rays from Kaggle, with the user's own account: there is no other place that gives them away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from pipelines.datasets.rsna import LABELS, read_cases
from pipelines.datasets.xrays import find_table
from pipelines.download import check_space
from pipelines.errors import UserError
from pipelines.phantoms.xray import MARKER
from pipelines.progress import track

COMPETITION = "rsna-pneumonia-detection-challenge"
_MEND = "move it away, or choose another --dataset_dir, and fetch again"


def fetch_pneumonia(target: Path = Path("data/rsna-pneumonia")) -> Path:
    """Return the folder of the RSNA Pneumonia Detection Challenge (about 4 GB), fetched unless it is there.

    Kaggle's own client does it, with the credentials that it finds; nothing of them is read here.

    Args:
        target: the folder to make; the archive lies beside it until it is unpacked.

    Raises:
        UserError: there is no client, it fails, or the archive, the disk or ``target`` is of no use.
    """
    target = Path(target).expanduser()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        return _already_there(target)
    archive = target.parent / f"{COMPETITION}.zip"
    brought = archive.is_file()  # by hand, or by an earlier run: then it is not ours to remove
    if not brought:
        _download(archive, target)
    unpack_zip(archive, target)
    if not brought:
        archive.unlink()
    return target


def _already_there(target: Path) -> Path:
    if (target / MARKER).exists():
        raise UserError(f"{target} holds a phantom, not the real data set;\n{_MEND}")
    try:
        cases = read_cases(target)
    except UserError as error:
        reason = str(error).splitlines()[0].rstrip(";,")
        raise UserError(f"{target} is there but is no whole data set:\n{reason};\n{_MEND}") from error
    print(f"{target} is already there: {len(cases)} labelled X-rays.")
    return target


def _download(archive: Path, target: Path) -> None:
    by_hand = (
        f"accept the rules at https://www.kaggle.com/c/{COMPETITION}, download all of its data as\n"
        f"{archive}\nand run the same command again"
    )
    # beside this Python too: its environment need not be activated
    client = shutil.which(
        "kaggle", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if client is None:
        raise UserError(f"no `kaggle` client is installed: {by_hand}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    command = [client, "competitions", "download", "-c", COMPETITION, "-p", str(archive.parent)]
    if subprocess.run(command, check=False).returncode or not archive.is_file():  # noqa: S603 - a fixed command
        raise UserError(f"the `kaggle` client failed, see above; or {by_hand}")


def unpack_zip(archive: Path, target: Path) -> None:
    """Unpack a zip as the folder ``target``, whole or not at all.

    An archive with a path that could lead out of the folder is refused as a whole.

    Args:
        archive: the zip, with the table and the images at its top.
        target: the folder to make, absent or empty.

    Raises:
        UserError: the archive is unsafe, broken or another one; the disk is full.
    """
    try:
        with (
            zipfile.ZipFile(archive) as content,
            tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary,
        ):
            members = [member for member in content.infolist() if not member.is_dir()]
            _refuse_unsafe(members, archive)
            check_space(target.parent, sum(member.file_size for member in members))
            whole = Path(temporary) / "whole"
            for member in track(members, "Unpacking"):
                content.extract(member, whole)
            if not find_table(whole, LABELS):
                raise UserError(
                    f"{archive} holds no {LABELS}: it is another archive;\nremove it and fetch again"
                )
            whole.replace(target)
    except (zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{archive} is no whole zip archive: {error};\nremove it and fetch again") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot unpack {archive} to {target}: {reason};\nmend it and try again") from error


def _refuse_unsafe(members: list[zipfile.ZipInfo], archive: Path) -> None:
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or any(sign in member.filename for sign in "\\:\0"):
            raise UserError(
                f"{archive} is unsafe, nothing was unpacked:\n"
                f"a path that could lead out of the folder: {member.filename!r}"
            )
