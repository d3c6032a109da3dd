"""Everything that a run folder says of its run, whether it is a training or a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.datasets.splits import SPLITS
from pipelines.errors import UserError
from pipelines.evaluation.results import METRICS_FILE, read_results
from pipelines.registry import get_bundle
from pipelines.runs import CONFIG, CROSSVAL, DATALIST, ENVIRONMENT, read_json, read_tracking

if TYPE_CHECKING:
    import pandas as pd

# where a run and its data lie and are recorded; of the data, the cases count
_PLACES = ("run_name", "run_dir", "resume", "output_dir", "dataset_dir", "cache_dir", "tracking_uri")
_PLACES += ("experiment_name", "tracker", "_meta_")
OF_FOLDS = ("train_cases", "val_cases")


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it. What is missing is empty.

    Attributes:
        folder: the run folder.
        results: the folder of the evaluation that counts; ``folder`` itself for the validation part.
        config: ``config.yaml``; of a cross-validation that of its first fold.
        datalist: ``datalist.json``.
        environment: versions, commit and machine that it ran on.
        crossval: ``crossval.json``; empty for a training.
        folds: the records of a cross-validation's folds.
        content: ``metrics.json``, or None where nothing was evaluated.
        cases: ``cases.csv`` of that evaluation, or None.
    """

    folder: Path
    results: Path
    config: Mapping[str, Any]
    datalist: Mapping[str, Any]
    environment: Mapping[str, str]
    crossval: Mapping[str, Any]
    folds: tuple[RunRecord, ...] = ()
    content: Mapping[str, Any] | None = None
    cases: pd.DataFrame | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The run's name; a fold's begins with that of its cross-validation."""
        parent = self.folder.absolute().parent
        return (
            f"{parent.name}/{self.folder.name}"
            if (parent / CROSSVAL).is_file()
            else self.folder.absolute().name
        )

    @property
    def bundle(self) -> str:
        """The bundle's name."""
        known = self.crossval.get("bundle") or (self.content or {}).get("bundle")
        return str(known or Path(str(self.config.get("bundle_root", ""))).name)

    @property
    def tracking(self) -> Mapping[str, Any]:
        """What the folder knows of its MLflow run."""
        return read_tracking(self.folder)

    @property
    def settings(self) -> dict[str, Any]:
        """The config without where things lie, nested keys joined by dots."""
        return flattened({key: value for key, value in self.config.items() if key not in _PLACES})

    @property
    def chose_weights(self) -> bool:
        """Whether the scored cases are those that chose which epoch's weights were kept."""
        if self.crossval:  # folds may have validated on others, or not at all
            return not (self.crossval.get("validates") or self.crossval.get("last"))
        return self.cases is not None and bool(self.split["val"] & set(self.cases["case"]))

    @cached_property
    def split(self) -> dict[str, set[str]]:
        """The names of the cases on each side; of a cross-validation each validates once."""
        if self.crossval:
            return {"train": set(), "val": set(map(str, self.crossval.get("folds_of", {}))), "test": set()}
        return {side: {str(c.get("case")) for c in self.datalist.get(side, [])} for side in SPLITS}

    @cached_property
    def groups(self) -> dict[str, str]:
        """The patient of each case where several cases are of one."""
        lists = [self.datalist, *(fold.datalist for fold in self.folds)]
        return {
            str(case.get("case")): str(case["group"])
            for part in lists
            for side in SPLITS
            for case in part.get(side, [])
            if case.get("group")
        }

    def trained_on(self, case: str) -> bool:
        """Whether the weights that score ``case`` were trained on it, or on another case of its patient."""
        fold = self.crossval.get("folds_of", {}).get(case)
        if self.crossval:
            inside = [record for record in self.folds if record.folder.name == f"fold_{fold}"]
            return any(record.trained_on(case) for record in inside)
        return case in self.split["train"] or self.groups.get(case) in self._trained_groups

    @property
    def tells_training(self) -> bool:
        """Whether it is known which cases the weights were trained on."""
        return all(fold.tells_training for fold in self.folds) if self.crossval else bool(self.datalist)

    @cached_property
    def _trained_groups(self) -> set[str]:
        return {self.groups[case] for case in self.split["train"] if case in self.groups}


def read_record(folder: Path, part: str = "val") -> RunRecord:
    """Read a run folder.

    Args:
        folder: of a training or a cross-validation, see :func:`~pipelines.runs.find_run`.
        part: whose evaluation counts: "val", or "test", "all", "train" or "cases", which have a folder of their own.

    Raises:
        UserError: the config or the evaluation is damaged, the bundle unknown, or ``part`` was not evaluated.
    """
    crossval = read_json(folder / CROSSVAL)
    if (folder / CROSSVAL).is_file() and not isinstance(crossval.get("folds_of"), dict):
        raise UserError(
            f"{folder / CROSSVAL} is damaged: it does not say who is in which fold. Use another run."
        )
    folds = tuple(read_record(path) for path in _folds(folder)) if crossval else ()
    results = folder if part == "val" else folder / part
    evaluated = (results / METRICS_FILE).is_file()
    if part != "val" and not evaluated:
        there = evaluated_parts(folder)
        hint = f"There are: {', '.join(there)}." if there else f"Evaluate it with --cases {part} first."
        raise UserError(
            f"'{part}' of {folder.name} was not evaluated: there is no {results / METRICS_FILE}.\n{hint}"
        )
    content, cases = read_results(results) if evaluated else (None, None)
    record = RunRecord(
        folder=folder,
        results=results,
        config=_config(folder) or (folds[0].config if folds else {}),
        datalist=_datalist(folder),
        environment=read_json(folder / ENVIRONMENT) or (dict(folds[0].environment) if folds else {}),
        crossval=crossval,
        folds=folds,
        content=content,
        cases=cases,
    )
    get_bundle(record.bundle)
    return record


def evaluated_parts(folder: Path) -> list[str]:
    """Return the parts other than "val" whose evaluation is in a run's folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{METRICS_FILE}"))


def _folds(folder: Path) -> list[Path]:
    folds = [path for path in folder.glob("fold_*") if path.name.removeprefix("fold_").isdigit()]
    return sorted(folds, key=lambda path: int(path.name.removeprefix("fold_")))


def _datalist(folder: Path) -> dict[str, Any]:
    """Return who was on which side; of a damaged file nobody could be said to have trained."""
    content = read_json(folder / DATALIST)
    sides = [content.get(side, []) for side in SPLITS]
    listed = all(isinstance(side, list) and all(isinstance(case, dict) for case in side) for side in sides)
    if not listed or ((folder / DATALIST).is_file() and not content):
        raise UserError(f"{folder / DATALIST} is damaged: it does not list who trained. Use another run.")
    return content


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}). Use another run.") from error
    return content if isinstance(content, dict) else {}


def flattened(content: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries and lists of them as one, its keys joined by dots; lists of plain values stay."""
    if isinstance(content, dict) and content:
        parts = content.items()
    elif isinstance(content, list) and any(isinstance(part, dict | list) for part in content):
        parts = enumerate(content)
    else:
        return {prefix: content}
    found: dict[str, Any] = {}
    for key, value in parts:
        found |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def from_store(record: RunRecord, tracking_uri: str) -> dict[str, str]:
    """Return the environment of a run from its MLflow tags, for folders that do not keep it; empty where it cannot."""
    run_id, sqlite = record.tracking.get("run_id"), tracking_uri.startswith("sqlite:///")
    if not run_id or (sqlite and not Path(tracking_uri.removeprefix("sqlite:///")).is_file()):
        return {}
    import mlflow

    from pipelines.tracking_store import AWAY, BRIEF, patience

    try:
        with patience(BRIEF):
            tags = mlflow.MlflowClient(tracking_uri=tracking_uri).get_run(run_id).data.tags
    except AWAY:
        return {}
    return {key: value for key, value in tags.items() if key.startswith(("version.", "git.", "host."))}
