"""Several trainings of one recipe that answer together: which weights, whether they fit together, and their network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines.errors import UserError, nearest
from pipelines.evaluation.results import METRICS_FILE
from pipelines.runs import BEST, CROSSVAL, newest_finished, read_json, read_tracking


class Ensemble(nn.ModuleList):
    """Networks of one architecture, for :func:`members`; called itself, it gives the mean of what they give."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean output of the networks for ``inputs``."""
        return torch.stack([network(*inputs) for network in self]).mean(0)


def members(network: nn.Module) -> list[nn.Module]:
    """Return the networks of an ensemble, or the one network that it is."""
    return list(network) if isinstance(network, Ensemble) else [network]


def paths(ckpt_path: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the weights that a config's ``ckpt_path`` names, one or several."""
    return [Path(path) for path in ([ckpt_path] if isinstance(ckpt_path, str | Path) else ckpt_path)]


def find_checkpoints(ckpt_path: Any, runs_dir: str | Path) -> list[Path]:
    """Return the files of weights that ``ckpt_path`` names.

    Args:
        ckpt_path: a ``.pt`` file, a run folder for its best weights, or the folder of a cross-validation for those
            of its folds; or a list of these. None is the newest finished run in ``runs_dir``.
        runs_dir: the runs of the bundle.

    Raises:
        UserError: there is no such file, a fold has not ended, or one file is named twice.
    """
    if not ckpt_path:
        return [newest_finished(runs_dir) / BEST]
    named = ckpt_path if isinstance(ckpt_path, list | tuple) else [ckpt_path]
    found = [file for path in named for file in _files(Path(str(path)))]
    for one, other in itertools.combinations(found, 2):
        if one.resolve() == other.resolve():
            raise UserError(f"{one} is named twice: every model has one vote. Name it once.")
    return found


def _files(path: Path) -> list[Path]:
    if (path / CROSSVAL).is_file():
        folds = read_json(path / CROSSVAL).get("folds")
        if not isinstance(folds, int) or folds < 1:
            raise UserError(
                f"{path / CROSSVAL} is damaged: it does not say how many folds there are.\n"
                f"Name the folds that are to be used, e.g. {path / 'fold_1'}."
            )
        files = [path / f"fold_{number}" / BEST for number in range(1, folds + 1)]
        unfinished = [file.parent.name for file in files if not _is_trained(file, path)]
        if unfinished:
            raise UserError(
                f"The cross-validation {path} has not ended: no final {BEST} in {', '.join(unfinished)}.\n"
                "Let it go on to its end, or name the folds that are to be used."
            )
        return files
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        parent = path.parent
        beside = (
            [str(p) for p in parent.iterdir() if p.suffix == ".pt" or p.is_dir()] if parent.is_dir() else []
        )
        raise UserError(
            f"There is no checkpoint {path}{nearest(str(path), beside)}\nName a .pt file or a run folder."
        )
    return [path]


def _is_trained(weights: Path, folder: Path) -> bool:
    """Whether the weights of a fold are its last word: while it trains, they are the best so far."""
    if (folder / METRICS_FILE).is_file():  # all folds were scored
        return weights.is_file()
    return weights.is_file() and read_tracking(weights.parent).get("status", "FINISHED") == "FINISHED"


def require_alike(settings: Mapping[Path, Mapping[str, Any]]) -> None:
    """Refuse models that see images or are built in different ways: their answers do not mean the same.

    Args:
        settings: weights to what they were trained with, id to value.

    Raises:
        UserError: names the first id that differs, and both values.
    """
    (first, wanted), *others = settings.items()
    for path, theirs in others:
        for name in [*wanted, *(name for name in theirs if name not in wanted)]:
            if theirs.get(name) != wanted.get(name):
                ours, other = _difference(wanted.get(name), theirs.get(name))
                raise UserError(
                    f"These models do not belong together: {name} differs.\n{first}: {ours}\n{path}: {other}"
                )


def _difference(one: Any, other: Any) -> tuple[str, str]:
    """Return both values, of blocks what differs alone, cut short."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        one, other = ({name: block.get(name) for name in names} for block in (one, other))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if a != b and isinstance(a, dict)]
        one, other = pairs[0] if pairs else (one, other)
    return str(one)[:150], str(other)[:150]
