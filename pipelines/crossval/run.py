"""``python -m pipelines crossval``: from a data set to out-of-fold results, going on wherever it was stopped."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines import session
from pipelines.console import log_to, quiet
from pipelines.crossval import processes
from pipelines.crossval.fold import is_scored
from pipelines.crossval.plan import MACHINE, Plan, draw_plan, fold_dir, require_same
from pipelines.crossval.pooled import pool
from pipelines.crossval.record import forget_broken_off, recorded
from pipelines.crossval.story import Story
from pipelines.datasets.datalist import Case
from pipelines.description import DESCRIPTION, describe
from pipelines.errors import UserError
from pipelines.evaluation.results import print_results
from pipelines.evaluation.run import log_results
from pipelines.interrupts import termination_as_interrupt
from pipelines.registry import Bundle
from pipelines.runs import CROSSVAL, LAST, LOG, new_run_dir, unique_name

logger = logging.getLogger(__name__)
# settings that the folds decide, and what to give instead
_DECIDED = {
    "train_cases": "who trains follows from the folds, leave it away",
    "run_name": "use --name",
    "resume": "the same command goes on by itself",
    "run_dir": "use --name and --output_dir",
}


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation that is ready to run.

    Attributes:
        bundle: the task.
        plan: its folds.
        config: the training's settings.
        cases: of the data set.
        folder: where everything is kept.
        max_epochs: of each fold.
    """

    bundle: Bundle
    plan: Plan
    config: Mapping[str, Any]
    cases: Sequence[Case]
    folder: Path
    max_epochs: int

    def run_dir(self, fold: int) -> Path:
        """Return the run folder of a fold."""
        return fold_dir(self.folder, fold)

    def job(self, fold: int, parent: str) -> dict[str, Any]:
        """Return what :func:`pipelines.crossval.fold.run_fold` needs.

        Args:
            fold: from 1.
            parent: the id of the MLflow run that the fold's run belongs to.
        """
        plan, sides, run_dir = self.plan, self.plan.sides(fold), self.run_dir(fold)
        given = {name: value for name, value in plan.overrides.items() if name != "val_cases"}
        tags = {**self.config["tracker"].get("tags", {}), "mlflow.parentRunId": parent, "fold": str(fold)}
        train = {"output_dir": str(self.folder), "run_name": run_dir.name, "tracker#tags": tags}
        train |= {"train_cases": sides["train"], "val_cases": sides["val"]}
        if plan.last:
            train["val_interval"] = self.max_epochs
        shared = {k: v for k, v in given.items() if k in ("device", "tracking_uri", "experiment_name")}
        where = {"ckpt_path": str(run_dir), "output_dir": str(run_dir), "cases": plan.part}
        return {
            "run_dir": str(run_dir),
            "held_out": sides["held_out"],
            "max_epochs": self.max_epochs,
            "train_config": str(self.bundle.config("train")),
            "evaluate_config": str(self.bundle.config("evaluate")),
            "train": {**given, **train},
            "resume": {name: value for name, value in given.items() if name in MACHINE},
            "evaluate": {**shared, **where, "dataset_dir": self.config["dataset_dir"]},
        }


def cross_validate(
    bundle: Bundle,
    overrides: Mapping[str, Any],
    folds: int = 5,
    name: str | None = None,
    jobs: int = 1,
    seed: int = 0,
    last: bool = False,
) -> Path:
    """Cross-validate a bundle, print the result and return its folder.

    Args:
        bundle: the task.
        overrides: settings of ``train.yaml``; ``val_cases`` is how many of the patients that a fold does not hold out
            validate.
        folds: how many.
        name: of the folder; None makes a unique one.
        jobs: folds that are trained at once.
        seed: of the folds.
        last: score the weights after the last epoch. The held-out cases then validate, once, when nothing is left to
            choose, and all others train (unless the bundle calibrates on its validation part, which it then keeps).

    Raises:
        UserError: for a mistake that a person can mend, before any fold is trained where that can be told; or a fold
            failed.
    """
    from rich.console import Console

    quiet()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pipelines").setLevel(logging.INFO)
    threads = processes.threads_of_each(jobs)
    whole = prepare_run(bundle, overrides, folds, name, seed, last)
    with termination_as_interrupt():
        _run(whole, jobs, threads)
    print_results(whole.folder, Console())
    logger.info("The results are in %s.", whole.folder)
    return whole.folder


def prepare_run(
    bundle: Bundle, overrides: Mapping[str, Any], folds: int, name: str | None, seed: int, last: bool
) -> CrossValidation:
    """Check everything that can be told before a fold is trained, and make or reopen the folder.

    Raises:
        UserError: see :func:`cross_validate`.
    """
    _refuse_decided(bundle, overrides, last)
    parser = session.checked_config(bundle.config("train"), overrides)
    config = parser.config
    read_cases = bundle.function("cases")
    cases = read_cases(**{k: config[k] for k in inspect.signature(read_cases).parameters if k in config})
    name = name or f"crossval-{unique_name()}"
    plan = draw_plan(bundle, name, cases, config, overrides, folds, seed, last)
    folder = _open_folder(plan, config)
    return CrossValidation(bundle, plan, config, cases, folder, parser.get_parsed_content("max_epochs"))


def _refuse_decided(bundle: Bundle, overrides: Mapping[str, Any], last: bool) -> None:
    decided = dict(_DECIDED)
    if last:
        decided["val_interval"] = "--last validates after the last epoch alone"
        if not bundle.calibrates:
            decided["val_cases"] = "with --last the held-out cases validate, after the last epoch"
    for setting, instead in decided.items():
        if setting in overrides:
            raise UserError(f"{setting} cannot be set in this cross-validation: {instead}.")


def _open_folder(plan: Plan, config: Mapping[str, Any]) -> Path:
    """Make the folder of a cross-validation, or reopen it, and hold it against other processes."""
    folder = Path(config["output_dir"]) / plan.name
    if folder.exists() and not (folder / CROSSVAL).is_file():
        raise UserError(f"{folder} exists already and is no cross-validation. Choose another --name.")
    if not folder.exists():
        new_run_dir(config["output_dir"], plan.name)
    log_to(folder / LOG)
    if list(folder.glob(f"fold_*/{LAST}")):
        stored = session.config_of(folder, config["bundle_root"])
        require_same(folder, plan, yaml.safe_load(yaml.safe_dump(dict(config))), stored)
    else:  # no fold has got anywhere yet
        session.write_config(config, folder)
        plan.write(folder)
    return folder


def _run(whole: CrossValidation, jobs: int, threads: int) -> None:
    """Run the folds that are not done, and pool all, as one MLflow run."""
    run_dirs = [whole.run_dir(fold) for fold in range(1, whole.plan.folds + 1)]
    held_out = [whole.plan.sides(fold)["held_out"] for fold in range(1, whole.plan.folds + 1)]
    left = [i + 1 for i, run_dir in enumerate(run_dirs) if not is_scored(run_dir, held_out[i])]
    with recorded(whole.folder, whole.plan, whole.config, threads) as tracker:
        if left:
            _prepare_images(whole)
            story = Story(whole.folder, whole.plan, len(left), jobs)

            def start(fold: int) -> processes.Running:
                story.begin(fold)
                forget_broken_off(whole.run_dir(fold), tracker)
                return processes.FoldProcess(fold, whole.job(fold, tracker.run_id), threads)

            processes.run_side_by_side(left, jobs, start, story.end)
        pool(whole.folder, run_dirs, whole.bundle, whole.plan, whole.cases)
        found = tracker.log_datasets({"crossval": whole.cases}, whole.config["dataset_dir"])
        log_results(tracker, whole.folder, "crossval", found["crossval"])
        tracker.log_tags({DESCRIPTION: describe(whole.folder)})


def _prepare_images(whole: CrossValidation) -> None:
    """Read X-rays once, with all cores, before folds that need the same ones start side by side."""
    if whole.bundle.scan:
        from pipelines.datasets.images import prepare_cases

        config = whole.config
        settings = [config[name] for name in ("cache_dir", "size", "dataset_dir")]
        failures = prepare_cases(whole.cases, *settings).failures
        # before hours of training: a fold is scored on all that it holds out, or not at all
        if len(failures):
            first = failures.iloc[0]
            raise UserError(
                f"{len(failures)} X-rays cannot be read, the first is {first['case']} ({first['reason']}).\n"
                "Take them out of the data set's table; `python -m pipelines check` lists all."
            )
