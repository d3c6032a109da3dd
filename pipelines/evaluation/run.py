"""Evaluate a checkpoint: which cases, where the results go, and the MLflow run of the training that they join."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events

from pipelines.datasets.datalist import Case, Split, dataset_hash, read_datalist
from pipelines.datasets.splits import SPLITS
from pipelines.errors import UserError, nearest
from pipelines.evaluation.results import CASES_FILE, METRICS_FILE, read_results
from pipelines.progress import track
from pipelines.runs import DATALIST, TRACKING

if TYPE_CHECKING:
    from pipelines.tracking import RunTracker


class Target:
    """What an evaluation is of.

    Args:
        ckpt_path: the weights, in their run folder or elsewhere.
        read_cases: gives the cases of a data set folder.
        cases: a part of the run's split ("train", "val" or "test"); "all" of a data set; or case names, as a list or
            separated by commas.
        dataset_dir: ``None`` is the training's. Where a part of the split is asked for, it is where the training's
            data set is now; with "all" or case names it may be another one.
        output_dir: ``None`` is the run's folder for ``val``, and a folder in it for anything else.

    Attributes:
        cases: what is scored.
        part: "val", "test", …; "cases" where they were named one by one.
        folder: where the results go.
        dataset: ``dir`` and ``hash``, for the result contract.

    Raises:
        UserError: a part or case that there is none of, a split that is not known, or several checkpoints.
    """

    def __init__(
        self,
        ckpt_path: str | Path,
        read_cases: Callable[[str | Path], list[Case]],
        cases: str | Sequence[str] = "val",
        dataset_dir: str | Path | None = None,
        output_dir: str | Path | None = None,
    ) -> None:
        if not isinstance(ckpt_path, str | Path):
            raise UserError(
                "An evaluation is of one training: name one checkpoint. Of a cross-validation the scores are in "
                "its own folder already."
            )
        self.run_dir, self._read_cases = Path(ckpt_path).parent, read_cases
        names = _names(cases)
        self.part = names[0] if len(names) == 1 and names[0] in (*SPLITS, "all") else "cases"
        in_split = self.part in SPLITS
        found = self._split(dataset_dir)[self.part] if in_split else self._of_all(names, dataset_dir)
        if not found:
            raise UserError(f"The part '{self.part}' of the split has no case. Choose another with --cases.")
        root = dataset_dir or Path(found[0]["image"]).parents[1]
        self.cases = found
        self.dataset = {"dir": Path(root).absolute().name, "hash": dataset_hash(found)}
        default = self.run_dir if self.part == "val" else self.run_dir / self.part
        self.folder = Path(output_dir) if output_dir else default

    def _of_all(self, names: list[str], dataset_dir: str | Path | None) -> list[Case]:
        if dataset_dir:
            cases = self._read_cases(dataset_dir)
        else:
            cases = [case for part in self._split(None).values() for case in part]
        if self.part == "all":
            return cases
        by_name = {case["case"]: case for case in cases}
        for name in names:
            if name not in by_name:
                hint = nearest(name, [*SPLITS, "all", *by_name])
                raise UserError(f"--cases: there is no part of the split and no case '{name}'{hint}")
        return [by_name[name] for name in names]

    def _split(self, dataset_dir: str | Path | None) -> Split:
        if not (self.run_dir / DATALIST).is_file():
            raise UserError(
                f"{self.run_dir} holds no {DATALIST}, so the split of the training is not known.\n"
                "Give --dataset_dir, and --cases all or the cases' names."
            )
        return read_datalist(self.run_dir / DATALIST, dataset_dir)


def with_reference(cases: Sequence[Case]) -> list[Case]:
    """Return cases whose label is called ``reference``, which no deterministic transform touches."""
    return [{"case": c["case"], "image": c["image"], "reference": c["label"]} for c in cases]


def _names(cases: Any) -> list[str]:
    """Return each name once; the command line gives text, a list, or what looks like a number as a number."""
    parts = (
        cases.split(",") if isinstance(cases, str) else cases if isinstance(cases, list | tuple) else [cases]
    )
    return list(dict.fromkeys(str(part).strip() for part in parts))


def run(evaluator: Engine, target: Target, tracking_uri: str, experiment_name: str) -> None:
    """Run ``evaluator``, print the table, and log the results to the training's MLflow run where there is one.

    Raises:
        UserError: when nothing can be scored; or when MLflow's database cannot be used, after the results were
            written. What an MLflow server that is away misses waits in the run folder.
    """
    from rich.console import Console

    from pipelines.evaluation.results import print_results

    with closing(case for case in track(target.cases, f"Evaluating {len(target.cases)} cases")) as bar:
        next(bar, None)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: next(bar, None))
        evaluator.run()
    print_results(target.folder, Console(stderr=True))
    if (target.run_dir / TRACKING).is_file():
        _log(target, tracking_uri, experiment_name)


def _log(target: Target, tracking_uri: str, experiment_name: str) -> None:
    from mlflow.exceptions import MlflowException

    from pipelines.description import DESCRIPTION, describe
    from pipelines.tracking import RunTracker

    try:
        with RunTracker(target.run_dir, experiment_name, tracking_uri).rejoined() as tracker:
            found = tracker.log_datasets({target.part: target.cases}, target.dataset["dir"])
            log_results(tracker, target.folder, target.part, found[target.part])
            tracker.log_tags({DESCRIPTION: describe(target.run_dir)})
    except (UserError, MlflowException) as error:
        raise UserError(
            f"{str(error).splitlines()[0][:300]}\n"
            f"The results are in {target.folder}, but not in MLflow: mend the store and evaluate again."
        ) from error


def log_results(tracker: RunTracker, folder: Path, part: str, dataset: tuple[str, str] | None = None) -> None:
    """Log the result contract and the figures that are in ``folder`` to the open run of ``tracker``.

    Args:
        tracker: the run.
        folder: see :func:`pipelines.evaluation.results.read_results`.
        part: what was scored: "val", "test", …, "crossval".
        dataset: name and digest of the data set, as MLflow has it.
    """
    content, _ = read_results(folder)
    tracker.log_metrics(evaluation_metrics(part, content["metrics"]), dataset=dataset)
    where = f"evaluation/{part}"
    tracker.log_files(folder / CASES_FILE, folder / METRICS_FILE, folder=where)
    tracker.log_files(*sorted((folder / "figures").glob("*.png")), folder=f"{where}/figures")


def evaluation_metrics(part: str, metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return metrics of the result contract under MLflow names: ``evaluation/test/mean_dice`` and the like."""
    return {f"evaluation/{part}/{name}": m["value"] for name, m in metrics.items() if m["value"] is not None}
