"""Which volumes a command line names, and what their results are called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    found = {os.path.realpath(item.path): item for path in paths for item in _expand(Path(path))}
    items = _refuse_bad_names(list(found.values()))
    problems = [item for item in items if item.problem]
    if len(problems) == len(items):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(
            f"{problems[0].path}: {problems[0].problem}{more}" if problems else f"expected {READS}"
        )
    return items


def case_name(path: Path) -> str:
    """Return a path's own name less a known image suffix: ``1.2.840.nii.gz`` gives ``1.2.840``."""
    name = Path(os.path.abspath(path)).name
    if path.is_dir():
        return name
    suffix = _known_suffix(name) or (".dcm" if name.lower().endswith(".dcm") else "")
    return name[: len(name) - len(suffix)]


def is_dicom(path: Path) -> bool:
    """Tell whether a file carries DICOM's mark: ``DICM`` after a preamble of 128 bytes (PS3.10, 7.1)."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def visible_files(folder: Path) -> list[Path]:
    """List a folder's own files by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _known_suffix(name: str) -> str:
    return next((suffix for suffix in _KINDS if name.lower().endswith(suffix)), "")


def _expand(path: Path) -> Iterator[VolumeInput]:
    try:
        items = list(_in_folder(path)) if path.is_dir() else [_from_file(path)]
    except OSError as error:
        items = [_problem(path, f"cannot be read ({error.strerror})")]
    yield from items or [_problem(path, f"holds nothing to read; {_advice(path)}")]


def _advice(folder: Path) -> str:
    holders = sorted({path.parent.name for path in folder.glob("[!.]*/[!.]*") if _known_suffix(path.name)})
    return f"name a folder below it ({', '.join(holders[:3])})" if holders else f"expected {READS}"


def _from_file(path: Path) -> VolumeInput:
    if not path.exists():
        return _problem(path, "no such file or folder; check the path")
    if suffix := _known_suffix(path.name):
        return VolumeInput(case_name(path), path, _KINDS[suffix])
    if path.is_file() and is_dicom(path):
        return VolumeInput(case_name(path), path, "dicom")
    return _problem(path, f"expected {READS}")


def _in_folder(folder: Path) -> Iterator[VolumeInput]:
    if _is_series(folder):
        yield VolumeInput(case_name(folder), folder, "dicom")
    for path in sorted(folder.iterdir()):
        is_image = path.is_file() and _known_suffix(path.name)
        if not path.name.startswith(".") and (is_image or (path.is_dir() and _is_series(path))):
            yield VolumeInput(
                case_name(path), path, _KINDS[_known_suffix(path.name)] if is_image else "dicom"
            )


def _is_series(folder: Path) -> bool:
    return any(is_dicom(path) for path in visible_files(folder) if not _known_suffix(path.name))


def _problem(path: Path, reason: str) -> VolumeInput:
    return VolumeInput(case_name(path), path, "unknown", reason)


def _refuse_bad_names(items: list[VolumeInput]) -> list[VolumeInput]:
    first: dict[str, VolumeInput] = {}
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
        checked.append(replace(item, problem=problem, kind="unknown" if problem else item.kind))
    return checked


def _name_problem(case: str) -> str | None:
    plain = case.isprintable() and not set(case) & set('/\\:*?"<>|') and case.lower() != "summary.csv"
    if case and plain and not case.startswith("."):
        return None
    return f"its name gives no folder name for the result ({case!r}); rename it"
