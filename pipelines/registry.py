"""The bundles, and where the functions of each stand: what the command line offers follows from this table."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Bundle:
    """One task.

    Attributes:
        name: the folder's name under ``bundles/``.
        dataset_dir: the default data set folder.
        fetch: ``module:function(target)`` that gets the real data set; empty where there is none yet.
        phantom: ``module:function(target, cases, seed)`` that makes a phantom of it.
        check: ``module:function(dataset_dir, **knobs)`` that gives a :class:`~pipelines.checks.report.Report`.
        scan: ``module:function(dataset_dir)`` that gives the cases whose X-rays ``prepare`` reads, and what is wrong
            with the tables; empty where nothing is to be prepared.
        cases: ``module:function(dataset_dir, …)`` that gives the cases of a data set; it raises for what is wrong.
        summarise: ``module:function(cases, …)`` that gives the metrics of the result contract, see :meth:`metrics`.
        figures: ``module:function(cases, folder)`` that draws what a table of ``cases.csv`` shows.
        strata: a case's field whose values every part of a data set should have in the same shares; empty for none.
        calibrates: whether a run's validation part also turns the network's output into probabilities and decisions, so
            that it cannot be the part that is scored, whatever chose the weights.
    """

    name: str
    dataset_dir: str
    fetch: str
    phantom: str
    check: str
    scan: str = ""
    cases: str = ""
    summarise: str = ""
    figures: str = ""
    strata: str = ""
    calibrates: bool = False

    def function(self, kind: str) -> Callable[..., Any]:
        """Return the function of ``kind`` ("fetch", "phantom", "check", "scan", …), imported only now.

        Raises:
            UserError: when the bundle has no such function, or none yet.
        """
        if kind == "scan" and not self.scan:
            raise UserError(f"The {self.name} bundle needs no `prepare`: it reads its data set as it is.")
        if not getattr(self, kind):
            raise UserError(
                f"The {self.name} bundle has no `{kind}` yet. Its data set is looked for in {self.dataset_dir}."
            )
        module, name = getattr(self, kind).split(":")
        return getattr(importlib.import_module(module), name)

    def metrics(
        self, cases: pd.DataFrame, groups: Sequence[Hashable] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the metrics of the result contract for a table of cases, as an evaluation or ``cases.csv`` has it.

        Args:
            cases: a row a case.
            groups: (N,) patient of each case; None where each case is a patient, as always where a data set does not
                know of patients.
        """
        summarise = self.function("summarise")
        if "groups" in inspect.signature(summarise).parameters:
            return summarise(cases, list(cases["case"]) if groups is None else groups)
        return summarise(cases)

    def config(self, kind: str) -> Path:
        """Return the path of ``train``, ``evaluate`` or ``inference``'s YAML file.

        Raises:
            UserError: when the command is not run where the ``bundles`` folder is.
        """
        path = Path("bundles") / self.name / f"{kind}.yaml"
        if Path("bundles").is_dir() and not path.parent.is_dir():
            raise UserError(f"The {self.name} bundle cannot be trained or used yet: there is no {path}.")
        if not path.is_file():
            raise UserError(
                f"There is no {path} in {Path.cwd()}. Run this command in the project's folder, the one that "
                "holds `bundles` and `mlflow.yaml`."
            )
        return path


BUNDLES = {
    "atrium": Bundle(
        name="atrium",
        dataset_dir="data/Task02_Heart",
        fetch="pipelines.fetch:fetch_atrium",
        phantom="pipelines.phantoms.atrium:write_phantom",
        check="pipelines.checks.atrium:check_atrium",
        cases="pipelines.datasets.msd:read_cases",
        summarise="pipelines.evaluation.segmentation:summarise_cases",
        figures="pipelines.evaluation.figures:segmentation_figures",
    ),
    "pneumonia": Bundle(
        name="pneumonia",
        dataset_dir="data/rsna-pneumonia",
        fetch="pipelines.fetch_kaggle:fetch_pneumonia",
        phantom="pipelines.phantoms.xray:write_pneumonia_phantom",
        scan="pipelines.datasets.rsna:scan_cases",
        check="pipelines.checks.pneumonia:check_pneumonia",
        cases="pipelines.datasets.rsna:read_cases",
        summarise="pipelines.evaluation.classification_report:summarise",
        figures="pipelines.evaluation.classification_figures:classification_figures",
        strata="label",
        calibrates=True,
    ),
    "cardiac": Bundle(
        name="cardiac",
        dataset_dir="data/rsna-heart",
        fetch="pipelines.fetch_heart:fetch_cardiac",
        phantom="pipelines.phantoms.xray:write_heart_phantom",
        scan="pipelines.datasets.heart:scan_cases",
        check="pipelines.checks.cardiac:check_cardiac",
        cases="pipelines.datasets.heart:read_cases",
        summarise="pipelines.evaluation.boxes:summarise_boxes",
        figures="pipelines.evaluation.boxes_figures:box_figures",
    ),
}


def get_bundle(name: str) -> Bundle:
    """Return the bundle called ``name``.

    Raises:
        UserError: when there is none.
    """
    if name not in BUNDLES:
        raise UserError(f"There is no bundle '{name}'{nearest(name, BUNDLES)}\nKnown: {', '.join(BUNDLES)}.")
    return BUNDLES[name]
