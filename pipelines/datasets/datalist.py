"""A run's data list: which case is on which side of the split, its files below the data set's folder, and its hash.

A *case* is a dictionary with its name under ``case`` and the paths of its files under ``FILES``; whatever else it holds
is what JSON can hold, with NaN for what is unknown. A label that is a number is no file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from typing import Any

from pipelines.datasets.splits import SPLITS, split_hash
from pipelines.errors import UserError
from pipelines.files import sha256_file, write_json

FILES = ("image", "label")
# a few volumes are hashed by their bytes; of X-rays there are tens of thousands, and reading them takes minutes
_HASHED = (".nii", ".nii.gz")
Case = dict[str, Any]
Split = dict[str, list[Case]]


def dataset_root(dataset_dir: str | Path) -> Path:
    """Return ``dataset_dir`` as an absolute path, ``~`` expanded, links kept."""
    return Path(os.path.abspath(os.path.expanduser(dataset_dir)))


def datalist_hash(split: Mapping[str, Sequence[Case]], dataset_dir: str | Path = "") -> str:
    """Return a SHA-256 over the sorted (side, case, what is said of it, digest of each file).

    The digest of a NIfTI file is the SHA-256 of its bytes; that of any other file is its size, so a file that is
    replaced by one of the same size is not noticed. Where the folder lies does not matter.

    Args:
        split: sides to cases.
        dataset_dir: what relative paths in ``split`` start from; absolute ones ignore it.
    """
    root = dataset_root(dataset_dir)
    cases = [case for side in split.values() for case in side]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing needs no lock
        digests = list(pool.map(lambda case: [_digest(path) for path in _files(case, root).values()], cases))
    of = {id(case): digest for case, digest in zip(cases, digests, strict=True)}
    return split_hash(split, lambda case: [_storable(_described(case)), *of[id(case)]])


def dataset_hash(cases: Iterable[Case]) -> str:
    """Return a SHA-256 like :func:`datalist_hash`, whatever side the cases are on."""
    return datalist_hash({"": list(cases)})


def write_datalist(split: Mapping[str, Sequence[Case]], dataset_dir: str | Path, path: str | Path) -> Case:
    """Write ``split`` and its hash to ``path`` as JSON, the files relative to ``dataset_dir``; return it."""
    root = dataset_root(dataset_dir)
    content: dict[str, Any] = {"hash": datalist_hash(split, root), "dataset_dir": str(root)}
    for side in SPLITS:
        content[side] = [_storable({**case, **_relative(case, root)}) for case in split[side]]
    write_json(path, content)
    return content


def read_datalist(path: str | Path, dataset_dir: str | Path | None = None) -> Split:
    """Return the split that :func:`write_datalist` wrote.

    Args:
        path: a run's ``datalist.json``.
        dataset_dir: where the data set is now; by default where it was.

    Raises:
        UserError: ``path`` is not such a file, or one of its files is not in the folder.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        root = dataset_root(dataset_dir or content["dataset_dir"])
        split = {side: [_restored(case, root) for case in content[side]] for side in SPLITS}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError) as error:
        raise UserError(
            f"{path} is not a datalist: {error}; expected the datalist.json of a run folder"
        ) from None
    missing = [message for side in SPLITS for case in split[side] for message in missing_files(case)]
    if missing:
        hint = "if the data set was moved, say where it is now with `--dataset_dir DIR`"
        raise UserError(f"{missing[0]} ({len(missing)} missing in all);\n{hint}")
    return split


def missing_files(case: Case) -> list[str]:
    """Return a message for each file of a case that is not there."""
    return [
        f"case '{case['case']}': its {kind} is missing, expected {path}"
        for kind, path in _files(case, Path()).items()
        if not path.is_file()
    ]


def require_whole(
    cases: Sequence[Case], problems: Sequence[str], dataset_dir: str | Path, bundle: str
) -> None:
    """Refuse a data set whose tables or files have faults.

    Args:
        cases: what was found.
        problems: what is wrong with the rest, a sentence each.
        dataset_dir: the data set.
        bundle: whose `check` shows all faults.

    Raises:
        UserError: the first fault, how many there are and the command that shows all.
    """
    problems = [*problems, *(message for case in cases for message in missing_files(case))]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        command = f"run `python -m pipelines check {bundle} --dataset_dir {dataset_dir}`"
        raise UserError(f"{problems[0]}{more};\n{command}")


def missing_layout(root: Path, layout: str, file: str, meant: Sequence[Path], mend: str) -> UserError:
    """Return what to say of a folder that is no data set.

    Args:
        root: where it was looked for.
        layout: what was looked for, in words.
        file: the name of the file that makes a folder one.
        meant: folders nearby that hold such a file.
        mend: what to do.
    """
    came = f"has no {file}" if root.is_dir() else "is not a folder" if root.exists() else "does not exist"
    hint = f"; did you mean `--dataset_dir {meant[0]}`?" if meant else ""
    return UserError(f"no data set in {layout} at {root}: it {came}{hint}\n{mend}")


def inside(root: Path, kind: str, text: Any) -> Path:
    """Join a listed path to ``root``; POSIX and Windows paths that would lead out of it are refused.

    Raises:
        UserError: it is no path of a file inside ``root``.
    """
    path = PureWindowsPath(text) if isinstance(text, str) else PureWindowsPath()
    if not path.name or path.anchor or ".." in path.parts:
        raise UserError(f"expected '{kind}' as a path inside the data set's folder, got {text!r}")
    return root.joinpath(*path.parts)


def _files(case: Case, root: Path) -> dict[str, Path]:
    return {kind: root / case[kind] for kind in FILES if isinstance(case.get(kind), str)}


def _digest(path: Path) -> str | int | None:
    if path.name.endswith(_HASHED):
        return sha256_file(path)
    return path.stat().st_size if path.is_file() else None


def _described(case: Case) -> Case:
    files = _files(case, Path())
    return {key: value for key, value in case.items() if key not in files}


def _relative(case: Case, root: Path) -> dict[str, str]:
    return {kind: path.relative_to(root).as_posix() for kind, path in _files(case, root).items()}


def _restored(case: Case, root: Path) -> Case:
    if not isinstance(case.get("case"), str) or not isinstance(case.get("image"), str):
        raise UserError(f"expected a case with its name and its image, got {case!r}")
    paths = {kind: str(inside(root, kind, case[kind])) for kind in _files(case, root)}
    return {**_mapped(case, lambda part: math.nan if part is None else part), **paths}


def _storable(value: Any) -> Any:
    """Return ``value`` with None for NaN, which JSON lacks."""
    return _mapped(value, lambda part: None if isinstance(part, float) and math.isnan(part) else part)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()}
    return [_mapped(part, change) for part in value] if isinstance(value, list) else change(value)
