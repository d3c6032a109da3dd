"""Which volumes or images a command line names, and what their results are called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pipelines.errors import UserError

READS = "a .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file, or a DICOM series as a folder or .zip"
# The longest suffix first: a name is cut once, and only by a suffix that stands here.
_KINDS = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".zip": "dicom",
}
READS_IMAGES = "a DICOM, PNG or JPEG file"
_IMAGE_SUFFIXES = (".dicom", ".jpeg", ".dcm", ".png", ".jpg")


# files that prediction writes beside the cases' folders
RESERVED = ("summary.csv", "log.txt")


@dataclass(frozen=True)
class VolumeInput:
    """One volume to read.

    Attributes:
        case: the name of its result folder: a plain folder name, unique among the inputs without a problem.
        path: the file, or the folder of a DICOM series.
        kind: "nifti", "nrrd", "metaimage", "dicom", or "unknown" where there is a problem.
        problem: why it cannot be read, known before it was opened; ``read_volume`` raises it.
    """

    case: str
    path: Path
    kind: str
    problem: str | None = None

    def refused(self, problem: str) -> VolumeInput:
        """Return this input with the reason why it is not read."""
        return replace(self, kind="unknown", problem=problem)


@dataclass(frozen=True)
class ImageInput:
    """One image to read.

    Attributes:
        case: the name of its result folder: a plain folder name, unique among the inputs without a problem.
        path: the file; what kind it is shows when it is opened.
        problem: why it cannot be read, known before it was opened.
    """

    case: str
    path: Path
    problem: str | None = None

    def refused(self, problem: str) -> ImageInput:
        """Return this input with the reason why it is not read."""
        return replace(self, problem=problem)


Input = TypeVar("Input", VolumeInput, ImageInput)


def find_inputs(paths: Sequence[str | os.PathLike[str]]) -> list[VolumeInput]:
    """List the volumes that ``paths`` name, in the order given and by name within a folder.

    A folder that holds DICOM files is one series. Any other folder gives the image files in it and the DICOM
    series one level below; image files deeper than that are not taken, so that a data set's labels are never
    read as images. Hidden files and macOS's ``._`` companions are passed over. A path that is named twice
    counts once. An input that cannot be read, or whose case name is taken or no folder name, is listed with
    its ``problem``, so that the others can still run.

    Raises:
        UserError: no input is left that could be read.
    """
    return _checked((item for path in paths for item in _expand(Path(path))), READS)


def find_images(paths: Sequence[str | os.PathLike[str]]) -> list[ImageInput]:
    """List the images that ``paths`` name, in the order given and by name within a folder.

    A folder gives the files in it that are called like an image (.dcm, .dicom, .png, .jpg, .jpeg) or carry
    DICOM's mark under another name; the folders below it are not entered. Hidden files are passed over, a path
    that is named twice counts once, and ``problem`` is used as in ``find_inputs``.

    Raises:
        UserError: no input is left that could be read.
    """
    return _checked((item for path in paths for item in _expand_images(Path(path))), READS_IMAGES)


def is_dicom(path: Path) -> bool:
    """Tell whether a file carries DICOM's mark: ``DICM`` after a preamble of 128 bytes (PS3.10, 7.1)."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def visible_files(folder: Path) -> list[Path]:
    """List a folder's own files by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _checked(found: Iterable[Input], reads: str) -> list[Input]:
    """Return each input once, those with an unusable name refused; an error when none is left."""
    items = _refuse_bad_names(list({os.path.realpath(item.path): item for item in found}.values()))
    problems = [item for item in items if item.problem]
    if len(problems) == len(items):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(
            f"{problems[0].path}: {problems[0].problem}{more}" if problems else f"expected {reads}"
        )
    return items


def _case_name(path: Path, suffixes: Iterable[str]) -> str:
    """Return a path's own name less one of ``suffixes``: ``1.2.840.nii.gz`` gives ``1.2.840``."""
    name = Path(os.path.abspath(path)).name
    return name if path.is_dir() else name[: len(name) - len(_suffix(name, suffixes))]


def _suffix(name: str, suffixes: Iterable[str]) -> str:
    return next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")


def _known_suffix(name: str) -> str:
    return _suffix(name, _KINDS)


def _expand_images(path: Path) -> Iterator[ImageInput]:
    try:
        if path.is_dir():
            files = [file for file in visible_files(path) if _is_image(file)]
            problem = (
                None if files else f"holds nothing to read; {_advice(path, _IMAGE_SUFFIXES, READS_IMAGES)}"
            )
        else:
            files, problem = [], _file_problem(path)
    except OSError as error:
        files, problem = [], f"cannot be read ({error.strerror})"
    for file in files or [path]:
        yield ImageInput(_case_name(file, _IMAGE_SUFFIXES), file, problem)


def _file_problem(path: Path) -> str | None:
    if not path.exists():
        return "no such file or folder; check the path"
    if path.suffix.lower() == ".zip":
        return f"expected {READS_IMAGES}, got a zip; unpack it and name its folder"
    return None if path.is_file() and _is_image(path) else f"expected {READS_IMAGES}"


def _is_image(path: Path) -> bool:
    return bool(_suffix(path.name, _IMAGE_SUFFIXES)) or is_dicom(path)


def _expand(path: Path) -> Iterator[VolumeInput]:
    try:
        items = list(_in_folder(path)) if path.is_dir() else [_from_file(path)]
        items = items or [_problem(path, f"holds nothing to read; {_advice(path, _KINDS, READS)}")]
    except OSError as error:
        items = [_problem(path, f"cannot be read ({error.strerror})")]
    yield from items


def _advice(folder: Path, suffixes: Iterable[str], reads: str) -> str:
    below = folder.glob("[!.]*/[!.]*")
    series = (lambda path: path.is_dir() and _is_series(path)) if reads is READS else (lambda path: False)
    holders = sorted({path.parent.name for path in below if _suffix(path.name, suffixes) or series(path)})
    return f"name a folder below it ({', '.join(holders[:3])})" if holders else f"expected {reads}"


def _from_file(path: Path) -> VolumeInput:
    if not path.exists():
        return _problem(path, "no such file or folder; check the path")
    if (suffix := _known_suffix(path.name)) and path.is_file():
        return VolumeInput(_volume_name(path), path, _KINDS[suffix])
    if path.is_file() and is_dicom(path):
        return VolumeInput(_volume_name(path), path, "dicom")
    return _problem(path, f"expected {READS}")


def _in_folder(folder: Path) -> Iterator[VolumeInput]:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in (folder, *inside):
        try:
            if not path.is_dir() and _known_suffix(path.name):
                yield _from_file(path)
            elif path.is_dir() and _is_series(path):
                yield VolumeInput(_volume_name(path), path, "dicom")
        except OSError as error:  # of this one; the others still run
            yield _problem(path, f"cannot be read ({error.strerror})")


def _is_series(folder: Path) -> bool:
    return any(is_dicom(path) for path in visible_files(folder) if not _known_suffix(path.name))


def _volume_name(path: Path) -> str:
    return _case_name(path, [*_KINDS, ".dcm"])


def _problem(path: Path, reason: str) -> VolumeInput:
    return VolumeInput(_volume_name(path), path, "unknown", reason)


def _refuse_bad_names(items: list[Input]) -> list[Input]:
    first: dict[str, Input] = {}
    checked = []
    for item in items:
        problem = item.problem or _name_problem(item.case)
        if not problem:
            # Some file systems hold "A" and "a" for one name.
            taken = first.setdefault(item.case.casefold(), item)
            if taken is not item:
                problem = (
                    f"its result would be called {item.case!r}, as that of {taken.path}; rename one of them"
                )
        checked.append(item.refused(problem) if problem else item)
    return checked


def _name_problem(case: str) -> str | None:
    plain = case.isprintable() and not set(case) & set('/\\:*?"<>|') and case.lower() not in RESERVED
    if case and plain and not case.startswith("."):
        return None
    return f"its name gives no folder name for the result ({case!r}); rename it"
