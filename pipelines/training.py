"""What surrounds a training: its epochs' randomness, progress, checkpoints, MLflow run and end."""

from __future__ import annotations

import logging
import signal
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.utils.data import DataLoader

from pipelines.checkpoints import RunCheckpoints
from pipelines.datasets.msd import write_datalist
from pipelines.history import History
from pipelines.progress import EpochProgress
from pipelines.runs import BEST, CONFIG, DATALIST, LAST
from pipelines.session import user_error
from pipelines.tracking import RunTracker, environment_tags

logger = logging.getLogger(__name__)


class Training:
    """A MONAI trainer and evaluator as one run: started, resumed, recorded and ended properly.

    Args:
        run_dir: the run folder.
        trainer: MONAI ``SupervisedTrainer``.
        evaluator: MONAI ``SupervisedEvaluator`` with a key metric; the trainer has its ``ValidationHandler``.
        optimizer: whose learning rate is recorded.
        state: what ``last.pt`` holds, see :class:`~pipelines.checkpoints.RunCheckpoints`; with ``network`` (in
            training) and ``best_from`` (the weights that are validated and kept as the best).
        tracker: the MLflow run.
        datalist: part to its cases.
        dataset_dir: where the cases are.
        seed: of the run; each epoch draws from (seed, epoch).
        extras: further handlers with ``attach(trainer, evaluator, run_dir, tracker)``, e.g. overlays of a task.
    """

    def __init__(
        self,
        run_dir: str | Path,
        trainer: Engine,
        evaluator: Engine,
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Any],
        tracker: RunTracker,
        datalist: Mapping[str, Sequence[dict]],
        dataset_dir: str,
        seed: int = 0,
        extras: Sequence[Any] = (),
    ) -> None:
        self.run_dir, self.trainer, self.evaluator, self.tracker = Path(run_dir), trainer, evaluator, tracker
        self.datalist, self.dataset_dir, self.seed = datalist, dataset_dir, seed
        self.history = History()
        best_from = state["best_from"]
        objects = {**state, "optimizer": optimizer, "history": self.history}
        self.checkpoints = RunCheckpoints(self.run_dir, objects, best_from)
        # the order of these is the order in which an epoch's end is handled: the checkpoint comes last
        trainer.add_event_handler(Events.EPOCH_STARTED, self._seed_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._validate_last_epoch)
        self.history.attach(trainer, evaluator)
        tracker.attach_training(trainer, evaluator, optimizer)
        for extra in extras:
            extra.attach(trainer, evaluator, self.run_dir, tracker)
        EpochProgress().attach(trainer, evaluator)
        self.checkpoints.attach(trainer, evaluator)

    def run(self) -> None:
        """Train from the start, or from where ``last.pt`` is, to the last epoch, whatever ends it on the way."""
        if (self.run_dir / LAST).is_file():
            self.checkpoints.restore(self.trainer, self.evaluator)
        self._open()
        previous = _on_terminate()
        started = time.monotonic()
        try:
            self.trainer.run()
        except KeyboardInterrupt:
            self._end("KILLED", traceback.format_exc())
            logger.warning("Stopped. Continue with --resume %s", self.run_dir)
            raise
        except BaseException as error:
            mendable = user_error(error)
            self._end("FAILED", str(mendable) if mendable else traceback.format_exc())
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
        self._end("FINISHED")
        minutes = (time.monotonic() - started) / 60
        best = self.evaluator.state
        logger.info(
            "Finished in %.1f min. Best %s %.4f in epoch %d: %s",
            minutes,
            best.key_metric_name,
            best.best_metric,
            best.best_metric_epoch,
            self.run_dir / BEST,
        )

    def _open(self) -> None:
        digest = write_datalist(self.datalist, self.dataset_dir, self.run_dir / DATALIST)["hash"]
        self.tracker.open()
        self.tracker.log_tags({**environment_tags(), "datalist.hash": digest, "seed": self.seed})
        self.tracker.log_datalist(self.datalist, digest, self.dataset_dir)
        self.tracker.log_files(self.run_dir / CONFIG, self.run_dir / DATALIST)
        self.tracker.watch_system()

    def _end(self, status: str, reason: str = "") -> None:
        """End the MLflow run; what cannot be recorded is logged, and never hides how the training ended."""
        try:
            if reason:
                self.tracker.log_tags({"failure": reason.strip().splitlines()[-1][:400]})
                self.tracker.client.log_text(self.tracker.run_id, reason, "traceback.txt")
            self._log_artifacts()
            self.tracker.end(status)
        except Exception:
            if status == "FINISHED":
                raise
            logger.exception("The end of the run could not be recorded.")

    def _log_artifacts(self) -> None:
        from pipelines.evaluation.figures import learning_curves

        curves = self.run_dir / "figures" / "learning_curves.png"
        if self.history.values:
            learning_curves(self.history.values, curves)
        best = self.evaluator.state
        if best.best_metric_epoch > 0:
            self.tracker.log_metrics(
                {f"best/{best.key_metric_name}": best.best_metric, "best/epoch": best.best_metric_epoch}
            )
        self.tracker.log_files(curves, folder="figures")
        self.tracker.log_files(self.run_dir / "cases.csv", self.run_dir / BEST)

    def _seed_epoch(self, trainer: Engine) -> None:
        epoch = trainer.state.epoch
        torch.manual_seed(self.seed * 100_003 + epoch)
        loader: DataLoader = trainer.data_loader
        for part in (loader.dataset, loader.sampler):
            part.epoch = epoch

    def _validate_last_epoch(self, trainer: Engine) -> None:
        epoch = trainer.state.epoch
        if epoch == trainer.state.max_epochs and self.evaluator.state.epoch != epoch:
            self.evaluator.run(epoch)


def batch_loss(output: Mapping[str, Any]) -> torch.Tensor:
    """Return the loss of a trainer's output, for a metric that averages it over the epoch."""
    return output["loss"].detach()


def stack_outputs(outputs: Sequence[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits and labels of a decollated evaluator's output as two batches (B, 1, …), for a loss."""
    return tuple(
        torch.stack([output[key].as_subclass(torch.Tensor) for output in outputs])
        for key in ("logits", "label")
    )


def _on_terminate() -> Any:
    """Let a polite request to stop (SIGTERM) end the training as Ctrl-C does; return the former handler."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    return signal.signal(signal.SIGTERM, stop)
