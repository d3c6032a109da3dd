"""Checkpoints: the best weights for use, and everything a training needs to go on after it was killed."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from pipelines.errors import UserError, nearest
from pipelines.files import atomic_path
from pipelines.runs import BEST, LAST

logger = logging.getLogger(__name__)


def save(content: Any, path: Path) -> None:
    """Write tensors, numbers, strings and containers of them to ``path``, whole or not at all.

    Raises:
        UserError: when the disk is full or the folder cannot be written; the old file is still there.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise UserError(
            f"Cannot write the checkpoint {path}: {error}.\n"
            f"The last whole one is kept. Free space or mend the folder, then --resume {path.parent}."
        ) from error


def load(path: str | Path, map_location: str | torch.device = "cpu") -> Any:
    """Read a checkpoint without running anything that it holds (``weights_only=True``).

    Raises:
        UserError: when the file is missing, cut short, no checkpoint, or holds more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        names = [str(p) for p in path.parent.glob("*.pt")] if path.parent.is_dir() else []
        raise UserError(f"There is no checkpoint {path}{nearest(str(path), names)}")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} is not a readable checkpoint (cut short, damaged, or not made by torch.save): "
            f"{str(error).splitlines()[0][:120]}\nUse another one, e.g. {BEST} or {LAST} of a run folder."
        ) from error


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a state dictionary (or MONAI's ``{"model": …}``) from ``path`` into ``network`` and return it.

    Raises:
        UserError: when the file cannot be read (see :func:`load`) or was made by another architecture.
    """
    content = load(path)
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no network weights: expected a dictionary of tensors.")
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or extra or shapes:
        example = (shapes or missing or extra)[0]
        theirs = tuple(state[example].shape) if example in state else "nothing"
        ours = tuple(own[example].shape) if example in own else "nothing"
        raise UserError(
            f"{path} belongs to another architecture: {len(missing)} tensors are missing, {len(extra)} are "
            f"unknown, {len(shapes)} have another shape.\nFor example '{example}': the network expects {ours}, "
            f"the file holds {theirs}.\nUse the checkpoint with the config.yaml of its own run folder."
        )
    network.load_state_dict(state)
    return network


class RunCheckpoints:
    """Handler that keeps ``model.pt`` (best) and ``last.pt`` (everything) of a run folder, and resumes from it.

    Args:
        run_dir: the run folder.
        objects: what ``last.pt`` holds besides the epoch: name to an object with ``state_dict`` and
            ``load_state_dict`` (network, averaged network, optimizer, schedule, history).
        best_from: the network whose weights are written as ``model.pt``.

    ``last.pt`` is written once an epoch, after the validation, so a killed training repeats at most one epoch.
    Randomness is drawn from (seed, epoch, sample), see docs/decisions/0003-randomness.md, so the
    epoch number is the whole random state.
    """

    def __init__(self, run_dir: str | Path, objects: Mapping[str, Any], best_from: nn.Module) -> None:
        self.run_dir, self.objects, self.best_from = Path(run_dir), dict(objects), best_from

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Save after each epoch of ``trainer`` and each new best of ``evaluator``; attach after everything else."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_last, evaluator)
        evaluator.add_event_handler(Events.COMPLETED, self._save_best, trainer)

    def _save_best(self, evaluator: Engine, trainer: Engine) -> None:
        if evaluator.state.best_metric_epoch == trainer.state.epoch:
            save({k: v.contiguous() for k, v in self.best_from.state_dict().items()}, self.run_dir / BEST)

    def _save_last(self, trainer: Engine, evaluator: Engine) -> None:
        state = {name: thing.state_dict() for name, thing in self.objects.items()}
        state["epoch"] = trainer.state.epoch
        state["best"] = [float(evaluator.state.best_metric), int(evaluator.state.best_metric_epoch)]
        save(state, self.run_dir / LAST)

    def restore(self, trainer: Engine, evaluator: Engine) -> None:
        """Set engines and objects to where ``last.pt`` left them.

        Raises:
            UserError: when ``last.pt`` is unreadable or belongs to another network or optimizer.
        """
        path = self.run_dir / LAST
        state = load(path)
        try:
            for name, thing in self.objects.items():
                thing.load_state_dict(state[name])
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = state["best"]
            epoch = state["epoch"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{path} does not fit this configuration: {str(error).splitlines()[0][:160]}\n"
                "Resume with the settings the run was started with."
            ) from error
        if epoch >= trainer.state.max_epochs:
            raise UserError(
                f"{self.run_dir} is complete: all {epoch} epochs are done. To train on, raise --max_epochs above {epoch}."
            )
        trainer.state.epoch = epoch
        trainer.state.iteration = epoch * trainer.state.epoch_length
        logger.info("Resuming %s after epoch %d.", self.run_dir.name, epoch)
