"""What surrounds a training: its epochs' randomness, progress, checkpoints, MLflow run and end."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from torch.utils.data import DataLoader

from pipelines.allocator import keep_freed_memory
from pipelines.checkpoints import RunCheckpoints
from pipelines.datasets.datalist import datalist_hash, dataset_hash, write_datalist
from pipelines.description import DESCRIPTION, describe, usage
from pipelines.errors import UserError
from pipelines.files import sha256_file, write_json
from pipelines.history import History
from pipelines.interrupts import termination_as_interrupt
from pipelines.progress import EpochProgress, readable_time
from pipelines.runs import BEST, CASES, CONFIG, DATALIST, ENVIRONMENT, LAST, read_json
from pipelines.settings import parameters
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
        extras: further handlers with ``attach(trainer, evaluator, run_dir, tracker)``, e.g. pictures of a task.
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
        self.history, self.progress = History(), EpochProgress()
        objects = {**state, "optimizer": optimizer, "history": self.history}
        self.checkpoints = RunCheckpoints(self.run_dir, objects, state["best_from"])
        # the order of these is the order in which an epoch's end is handled: the checkpoint comes last
        trainer.add_event_handler(Events.STARTED, self._keep_scale)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._seed_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._stop_when_diverged)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._validate_last_epoch)
        self.history.attach(trainer, evaluator)
        tracker.attach_training(trainer, evaluator, optimizer)
        for extra in extras:
            extra.attach(trainer, evaluator, self.run_dir, tracker)
        self.progress.attach(trainer, evaluator)
        self.checkpoints.attach(trainer, evaluator)

    def run(self) -> None:
        """Train from the start, or from where ``last.pt`` is, to the last epoch, whatever ends it on the way.

        Raises:
            UserError: when the run cannot go on from ``last.pt``, the data changed since, the MLflow store cannot
                be used, the loss is no number any more, or a checkpoint cannot be written.
        """
        digest = self._keep_datalist()
        if (self.run_dir / LAST).is_file():
            self.checkpoints.restore(self.trainer, self.evaluator)
        started = time.monotonic()
        try:
            with termination_as_interrupt():
                self._open(digest)
                keep_memory_of(self.trainer)
                self.trainer.run()
        except KeyboardInterrupt as interrupt:
            self._end("KILLED", traceback.format_exc())
            logger.warning("Stopped. %s", self._way_on())
            interrupt.told = True  # see print_briefly
            raise
        except BaseException:
            self._end("FAILED", traceback.format_exc())
            raise
        finally:
            self.progress.close()
        self._end("FINISHED")
        best = self.evaluator.state
        logger.info("Finished in %s.", readable_time(time.monotonic() - started))
        if best.best_metric_epoch > 0:
            result = (best.key_metric_name, best.best_metric, best.best_metric_epoch, self.run_dir / BEST)
            logger.info("Best %s %.4f in epoch %d: %s", *result)

    def _way_on(self) -> str:
        if (self.run_dir / LAST).is_file():
            return f"Go on with --resume {self.run_dir}"
        return "No epoch was complete yet: start anew."

    def _keep_datalist(self) -> str:
        """Write ``datalist.json`` and return its hash; refuse other data than the run was started with."""
        path = self.run_dir / DATALIST
        before = read_json(path).get("hash")
        if before is None and (self.run_dir / LAST).is_file():
            raise UserError(
                f"{path} is missing or damaged, so it cannot be told whether the data are those of the run.\n"
                "Bring it back, or start a new run."
            )
        if before is not None and before != datalist_hash(self.datalist):
            raise UserError(
                f"The data in {self.dataset_dir} differ from those that {self.run_dir.name} was started with.\n"
                "Name the folder that holds those with --dataset_dir, or start a new run."
            )
        return write_datalist(self.datalist, self.dataset_dir, path)["hash"]

    def _open(self, digest: str) -> None:
        everything = [case for part in self.datalist.values() for case in part]
        tags = {"split.hash": digest, "dataset.hash": dataset_hash(everything), "seed": self.seed}
        tags["kind"] = "training"
        environment = environment_tags()
        write_json(self.run_dir / ENVIRONMENT, environment)
        knobs = parameters(ConfigParser.load_config_file(self.run_dir / CONFIG))
        self.tracker.open()
        self.tracker.log_parameters({**knobs, "device": self.trainer.state.device})
        self.tracker.log_tags({**environment, **tags})
        self.tracker.log_datasets({part: self.datalist[part] for part in ("train", "val")}, self.dataset_dir)
        self.tracker.log_files(self.run_dir / CONFIG, self.run_dir / DATALIST)
        self.tracker.watch_system()

    def _end(self, status: str, reason: str = "") -> None:
        """End the MLflow run; what cannot be recorded is logged, and never hides how the training ended."""
        try:
            if reason:
                self.tracker.log_tags({"failure": reason.strip().splitlines()[-1][:400]})
                self.tracker.log_text(reason, "traceback.txt")
            self._log_artifacts(finished=status == "FINISHED")
        except Exception as error:
            self._tell_unrecorded(error)
        try:
            self.tracker.end(status)
        except Exception as error:
            self._tell_unrecorded(error)

    def _tell_unrecorded(self, error: Exception) -> None:
        logger.warning("MLflow does not have all of this run's end: %s", str(error).splitlines()[0][:200])
        logger.debug("The cause:", exc_info=error)

    def _log_artifacts(self, finished: bool) -> None:
        from pipelines.evaluation.figures import learning_curves

        curves = self.run_dir / "figures" / "learning_curves.png"
        if self.history.values:
            learning_curves(self.history.values, curves)
        best = self.evaluator.state
        if best.best_metric_epoch > 0:
            values = {f"best/{best.key_metric_name}": best.best_metric, "best/epoch": best.best_metric_epoch}
            if finished:
                self._log_model(best)
            self.tracker.log_metrics(values)  # without an epoch, MLflow draws bars that compare runs
        self.tracker.log_files(curves, folder="figures")
        self.tracker.log_files(self.run_dir / CASES, self.run_dir / BEST)
        self.tracker.log_tags({DESCRIPTION: describe(self.run_dir)})

    def _log_model(self, best: Any) -> None:
        tags = {
            "weights": BEST,
            "sha256": sha256_file(self.run_dir / BEST),
            "key_metric": best.key_metric_name,
            "epoch": best.best_metric_epoch,
        }
        name = self.tracker.tags.get("bundle", self.tracker.experiment_name)
        self.tracker.log_model(name, best.best_metric_epoch, tags, usage(self.run_dir))

    def _keep_scale(self, trainer: Engine) -> None:
        if trainer.scaler is not None:  # of mixed precision; MONAI makes it when the training starts
            self.checkpoints.keep("scaler", trainer.scaler)

    def _seed_epoch(self, trainer: Engine) -> None:
        epoch = trainer.state.epoch
        torch.manual_seed(self.seed * 100_003 + epoch)
        loader: DataLoader = trainer.data_loader
        for part in (loader.dataset, loader.sampler, loader.batch_sampler):
            part.epoch = epoch

    def _stop_when_diverged(self, trainer: Engine) -> None:
        if not math.isfinite(trainer.state.metrics.get("loss", 0.0)):
            raise UserError(
                f"The loss is not a number any more in epoch {trainer.state.epoch}: the training has diverged.\n"
                "Start a new run with a lower --lr."
            )

    def _validate_last_epoch(self, trainer: Engine) -> None:
        epoch = trainer.state.epoch
        if epoch == trainer.state.max_epochs and self.evaluator.state.epoch != epoch:
            self.evaluator.run(epoch)


def keep_memory_of(trainer: Engine) -> None:
    """Keep the memory that a network in float32 frees; in bfloat16 nothing would be gained (decision 13)."""
    if getattr(trainer.inferer, "precision", "float32") == "float32":
        keep_freed_memory()


def batch_loss(output: Mapping[str, Any]) -> torch.Tensor:
    """Return the loss of a trainer's output, for a metric that averages it over the epoch."""
    return output["loss"].detach()


def stack_outputs(outputs: Sequence[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits and labels of a decollated evaluator's output as two batches (B, 1, …), for a loss."""
    return tuple(
        torch.stack([output[key].as_subclass(torch.Tensor) for output in outputs])
        for key in ("logits", "label")
    )
