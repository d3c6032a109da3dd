"""What a cross-validation tells while it runs: a line where a fold begins and one where it ends."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from pipelines.crossval.plan import Plan, fold_dir
from pipelines.evaluation.results import read_results
from pipelines.progress import readable_time
from pipelines.runs import LAST, LOG

logger = logging.getLogger(__name__)


class Story:
    """Tells what the folds do, and how long the rest of them will take.

    Args:
        folder: of the cross-validation.
        plan: its folds.
        count: how many of them are to be run.
        jobs: how many at once.
    """

    def __init__(self, folder: Path, plan: Plan, count: int, jobs: int) -> None:
        self.folder, self.plan, self.count, self.jobs = folder, plan, count, jobs
        self.began: dict[int, float] = {}
        self.spent: list[float] = []

    def begin(self, fold: int) -> None:
        """Tell that a fold starts or goes on."""
        self.began[fold] = time.monotonic()
        sides, run_dir = self.plan.sides(fold), fold_dir(self.folder, fold)
        how = "goes on" if (run_dir / LAST).is_file() else "starts"
        counts = f"{len(sides['train'])} train, {len(sides['held_out'])} held out"
        if self.plan.validates:
            counts += f", {len(sides['val'])} validate"
        logger.info("Fold %d of %d %s: %s (%s)", fold, self.plan.folds, how, counts, run_dir / LOG)

    def end(self, fold: int) -> None:
        """Tell what came of a fold, and how long the others will take at this pace."""
        self.spent.append(time.monotonic() - self.began[fold])
        content, cases = read_results(fold_dir(self.folder, fold))
        name, metric = next(iter(content["metrics"].items()))
        value = "undefined" if metric["value"] is None else f"{metric['value']:.3f}"
        message = "Fold %d of %d done in %s: %s %s of %d held-out cases"
        spent = readable_time(self.spent[-1])
        logger.info(message, fold, self.plan.folds, spent, name, value, len(cases))
        if rest := self.count - len(self.spent):
            left = sum(self.spent) / len(self.spent) * rest / self.jobs
            logger.info("%d of %d folds to go: about %s", rest, self.plan.folds, readable_time(left))
