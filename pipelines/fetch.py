"""Real data sets from the net: downloaded, verified and unpacked, whole or not at all."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from pipelines.datasets.msd import read_cases
from pipelines.download import check_space, download
from pipelines.errors import UserError
from pipelines.phantoms.atrium import NAME as PHANTOM
from pipelines.progress import track


def fetch_atrium(
    target: Path = Path("data/Task02_Heart"), url: str | None = None, md5: str | None = None
) -> Path:
    """Return the folder of the Decathlon's Task02_Heart (about 450 MB), downloaded unless it is there.

    Args:
        target: the folder to make; the archive lies beside it until it is unpacked.
        url: where the tar is; None takes the one that MONAI's ``DecathlonDataset`` names.
        md5: its MD5, 32 hexadecimal digits; None takes MONAI's.

    Raises:
        UserError: the net, the disk or the archive fails, or ``target`` holds something else.
    """
    target = Path(target).expanduser()
    if _is_taken(target):
        return _already_there(target)
    if url is None or md5 is None:
        from monai.apps import DecathlonDataset  # late, for it takes seconds

        url = url or DecathlonDataset.resource["Task02_Heart"]
        md5 = md5 or DecathlonDataset.md5["Task02_Heart"]
    archive = target.parent / PurePosixPath(url).name
    brought = archive.exists()  # by hand: then it is not ours to remove
    unpack(download(url, archive, md5), target)
    if not brought:
        archive.unlink()
    return target


def unpack(archive: Path, target: Path) -> None:
    """Unpack the single top folder of a tar (compressed or not) as the folder ``target``, whole or not at all.

    Only regular files and folders are taken, without owner, mode or time; macOS's ``._`` files are left out. An
    archive with any other kind of member, or a path that could lead out of its top folder, is refused as a whole.

    Args:
        archive: the tar.
        target: the folder to make, absent or empty.

    Raises:
        UserError: the archive is unsafe, broken or has not one top folder; the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary,
            tarfile.open(archive) as tar,
        ):
            members = _safe_members(tar, archive)
            check_space(target.parent, sum(member.size for member, _ in members))
            _extract(tar, members, Path(temporary) / "whole")
            (Path(temporary) / "whole").replace(target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise UserError(f"{archive} is no whole tar archive: {reason};\nremove it and fetch again") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot unpack {archive} to {target}: {reason};\nmend it and try again") from error


def _is_taken(target: Path) -> bool:
    return target.exists() and not (target.is_dir() and not any(target.iterdir()))


def _already_there(target: Path) -> Path:
    """Return a folder that holds all files its ``dataset.json`` lists; raise on any other."""
    mend = "move it away, or choose another folder, and fetch again"
    try:
        cases = read_cases(target)
    except UserError as error:
        reason = str(error).splitlines()[0].rstrip(";,")
        raise UserError(f"{target} is there but is no whole data set:\n{reason};\n{mend}") from error
    if json.loads((target / "dataset.json").read_text(encoding="utf-8")).get("name") == PHANTOM:
        raise UserError(f"{target} holds a phantom, not the real data set;\n{mend}")
    print(f"{target} is already there: {len(cases)} labelled cases.")
    return target


def _safe_members(tar: tarfile.TarFile, archive: Path) -> list[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Return each file and folder with its path below the top folder; raise when any member is unsafe."""
    members, tops = [], set()
    for member in tar:
        path = PurePosixPath(member.name)
        if reason := _danger(member, path):
            raise UserError(f"{archive} is unsafe, nothing was unpacked:\n{reason}: {member.name!r}")
        if path.parts and not path.name.startswith("._"):
            tops.add(path.parts[0])
            members.append((member, PurePosixPath(*path.parts[1:])))
    if len(tops) != 1 or any(not inner.parts and not member.isdir() for member, inner in members):
        raise UserError(
            f"expected one top folder in {archive}, found {sorted(tops)[:3]};\nis it the right archive?"
        )
    return members


def _danger(member: tarfile.TarInfo, path: PurePosixPath) -> str:
    """Return why a member must not be unpacked, or an empty string."""
    if not (member.isfile() or member.isdir()):
        return "neither a regular file nor a folder"
    if path.is_absolute() or ".." in path.parts or any(sign in member.name for sign in "\\:\0"):
        return "a path that could lead out of the folder"
    return ""


def _extract(tar: tarfile.TarFile, members: list[tuple[tarfile.TarInfo, PurePosixPath]], root: Path) -> None:
    for member, inner in track(members, "Unpacking"):
        path = root / inner
        (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
        if member.isfile():
            with open(path, "wb") as file:
                shutil.copyfileobj(tar.extractfile(member), file)
    while tar.fileobj.read(1 << 20):
        pass  # to the end, where a compressed archive has its checksum
