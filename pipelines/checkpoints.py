"""Checkpoints: the best weights for use, and everything a training needs to go on after it was killed."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from pipelines.console import in_one_line
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
        # through a file of Python's own: torch's writer answers a full disk with a riddle
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)
    except OSError as error:
        raise UserError(
            f"Cannot write the checkpoint {path}: {error.strerror or error}.\n"
            f"The last whole one is kept. Free space or mend the folder, then go on with --resume {path.parent}."
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
        with warnings.catch_warnings():
            # torch's advice on a foreign pickle, which is then refused
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is not a readable checkpoint: it is damaged, or holds more than tensors and numbers.\n"
            "What else a file holds may run code, so it was not opened. "
            f"Use another one, e.g. {BEST} or {LAST} of a run folder."
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable checkpoint (cut short, damaged, or not made by torch.save): "
            f"{in_one_line(error)}\nUse another one, e.g. {BEST} or {LAST} of a run folder."
        ) from error


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load the weights in ``path`` into ``network`` and return it.

    Args:
        network: what the weights are for.
        path: a state dictionary (``model.pt``), MONAI's ``{"model": …}``, or ``last.pt`` with its ``best_from``.

    Raises:
        UserError: when the file cannot be read (see :func:`load`) or was made by another architecture.
    """
    content = load(path)
    if isinstance(content, Mapping):
        content = content.get("best_from", content.get("model", content))
    fit_weights(network, content, path)
    return network


def fit_weights(network: nn.Module, state: Any, path: str | Path) -> None:
    """Load a state dictionary that came from ``path`` into ``network``.

    Raises:
        UserError: when it is none, or one of another architecture.
    """
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no network weights: expected a dictionary of tensors.")
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
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
        self._others: dict[
            str, Any
        ] = {}  # of the last.pt that was restored, what no object of then has taken

    def keep(self, name: str, thing: Any) -> None:
        """Keep one object more, made after :meth:`restore`; its state in ``last.pt``, if there is one, is restored."""
        self.objects[name] = thing
        if self._others.get(name):
            thing.load_state_dict(self._others[name])

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
            UserError: see :func:`load_last`; or when it belongs to another network or optimizer.
        """
        path = self.run_dir / LAST
        state = load_last(self.run_dir, trainer.state.max_epochs)
        try:
            for name, thing in self.objects.items():
                _restore(thing, state[name], path)
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = state["best"]
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"{path} does not fit this configuration: {in_one_line(error)}\n"
                "Resume with the settings the run was started with."
            ) from error
        if not _is_readable(self.run_dir / BEST):
            logger.warning(
                "%s is gone or damaged: the best weights are looked for anew from here.", self.run_dir / BEST
            )
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = -1, -1
        self._others = {name: state[name] for name in state if name not in self.objects}
        trainer.state.epoch = state["epoch"]
        trainer.state.iteration = trainer.state.epoch * trainer.state.epoch_length
        for rest in self.run_dir.glob(".tmp-*"):  # what a killed process was writing
            rest.unlink(missing_ok=True)
        logger.info("Resuming %s after epoch %d.", self.run_dir.name, trainer.state.epoch)


def load_last(run_dir: Path, max_epochs: int) -> dict[str, Any]:
    """Return what the ``last.pt`` of a run folder holds.

    Raises:
        UserError: when it is unreadable (see :func:`load`), nothing that a training wrote, or of the last epoch.
    """
    path = Path(run_dir) / LAST
    state = load(path)
    epoch = state.get("epoch") if isinstance(state, Mapping) else None
    if not isinstance(epoch, int):
        raise UserError(f"{path} was not written by a training: it does not say at which epoch it stands.")
    if epoch >= max_epochs:
        raise UserError(
            f"Nothing to resume: {run_dir} has done {epoch} epochs, and max_epochs is {max_epochs}.\n"
            f"To train on, raise --max_epochs above {epoch}."
        )
    return dict(state)


def _is_readable(path: Path) -> bool:
    try:
        load(path)
    except UserError:
        return False
    return True


def _restore(thing: Any, state: Any, path: Path) -> None:
    if isinstance(thing, nn.Module):
        fit_weights(thing, state, path)
    elif isinstance(thing, LRScheduler) and state.get("total_steps") != getattr(thing, "total_steps", None):
        # a schedule of another length keeps its own shape, and goes on at the step that the run has reached
        thing.load_state_dict({key: state[key] for key in ("last_epoch", "_step_count")})
    else:
        thing.load_state_dict(state)
