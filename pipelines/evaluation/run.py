"""Evaluate a checkpoint: which cases, where the results go, and the MLflow run of the training that they join."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from pipelines.datasets.msd import dataset_hash, read_cases, read_datalist
from pipelines.errors import UserError, nearest
from pipelines.evaluation.results import read_results
from pipelines.progress import track
from pipelines.runs import DATALIST, TRACKING

logger = logging.getLogger(__name__)


class Target:
    """What an evaluation is of.

    Args:
        ckpt_path: the weights, in their run folder or elsewhere.
        cases: a part of the run's split ("train", "val" or "test"), "all" of a data set, or case names.
        dataset_dir: ``None`` is the training's; another one is scored whole unless cases are named.
        output_dir: ``None`` is the run's folder for ``val``, and a folder in it for anything else.

    Attributes:
        items: the data list, with ``case``, ``image`` and ``reference``.
        part: "val", "test", …; "cases" where they were named one by one.
        folder: where the results go.
        dataset: ``dir`` and ``hash``, for the result contract.
    """

    def __init__(
        self,
        ckpt_path: str | Path,
        cases: str | Sequence[str] = "val",
        dataset_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
    ) -> None:
        self.run_dir = Path(ckpt_path).parent
        self.part = cases if isinstance(cases, str) and "," not in cases else "cases"
        found = self._chosen(cases, dataset_dir)
        if not found:
            raise UserError(
                f"The part '{self.part}' of the split has no case. Choose another with --cases, or another data set."
            )
        root = dataset_dir or Path(found[0]["image"]).parents[1]
        self.items = [{"case": c["case"], "image": c["image"], "reference": c["label"]} for c in found]
        self.dataset = {"dir": Path(root).name, "hash": dataset_hash(found)}
        default = self.run_dir if self.part == "val" else self.run_dir / self.part
        self.folder = Path(output_dir) if output_dir else default

    def _chosen(self, cases: str | Sequence[str], dataset_dir: str | Path | None) -> list[dict[str, str]]:
        if self.part in ("train", "val", "test"):
            if not (self.run_dir / DATALIST).is_file():
                raise UserError(
                    f"{self.run_dir} holds no {DATALIST}, so its split is not known. Give --dataset_dir and --cases all."
                )
            return read_datalist(self.run_dir / DATALIST, dataset_dir)[self.part]
        everything = read_cases(dataset_dir) if dataset_dir else self._of_run()
        if self.part == "all":
            return everything
        by_name = {case["case"]: case for case in everything}
        names = [cases] if isinstance(cases, str) and self.part != "cases" else cases
        names = names.split(",") if isinstance(names, str) else names
        for name in names:
            if name not in by_name:
                parts = ("train", "val", "test", "all", *by_name)
                raise UserError(f"--cases: there is no part or case '{name}'{nearest(name, parts)}")
        self.part = "cases"
        return [by_name[name] for name in names]

    def _of_run(self) -> list[dict[str, str]]:
        split = read_datalist(self.run_dir / DATALIST) if (self.run_dir / DATALIST).is_file() else {}
        return [case for part in split.values() for case in part]


def run(evaluator: Engine, target: Target, tracking_uri: str, experiment_name: str) -> None:
    """Run ``evaluator``, print the table, and log the results to the training's MLflow run where there is one."""
    from rich.console import Console

    from pipelines.evaluation.results import print_results

    bar = iter(track(range(len(target.items)), f"Evaluating {len(target.items)} cases"))
    next(bar, None)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: next(bar, None))
    evaluator.run()
    print_results(target.folder, Console(stderr=True))
    logger.info("Results are in %s", target.folder)
    if (target.run_dir / TRACKING).is_file():
        _log(target, tracking_uri, experiment_name)


def _log(target: Target, tracking_uri: str, experiment_name: str) -> None:
    from pipelines.tracking import RunTracker

    tracker = RunTracker(target.run_dir, experiment_name, tracking_uri)
    with tracker.rejoined():
        content, _ = read_results(target.folder)
        tracker.log_metrics(evaluation_metrics(target.part, content["metrics"]))
        folder = f"evaluation/{target.part}"
        tracker.log_files(target.folder / "cases.csv", target.folder / "metrics.json", folder=folder)
        tracker.log_files(*sorted((target.folder / "figures").glob("*.png")), folder=f"{folder}/figures")


def evaluation_metrics(part: str, metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return metrics of the result contract under MLflow names: ``evaluation/test/mean_dice`` and the like."""
    return {f"evaluation/{part}/{name}": m["value"] for name, m in metrics.items() if m["value"] is not None}
