"""The bundles: every folder under ``bundles/`` with a ``data.yaml``, which says what is particular about it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError, nearest
from pipelines.runs import read_json

if TYPE_CHECKING:
    import pandas as pd

DATA = "data.yaml"


@dataclass(frozen=True)
class Bundle:
    """One task.

    Attributes:
        name: the folder's name under ``bundles/``.
        dataset_dir: the default data set folder.
        fetch: ``module:function(target)`` that gets the real data set; empty where there is none yet.
        phantom: ``module:function(target, cases, seed)`` that makes a phantom of it; benchmarks also give ``size``, the
            pixels a side of an X-ray or the voxels along each axis of a volume.
        check: ``module:function(dataset_dir, **knobs)`` that gives a :class:`~pipelines.checks.report.Report`.
        scan: ``module:function(dataset_dir)`` that gives the cases whose X-rays ``prepare`` reads, and what is wrong
            with the tables; empty where nothing is to be prepared, since the bundle reads volumes.
        cases: ``module:function(dataset_dir, …)`` that gives the cases of a data set; it raises for what is wrong.
        summarise: ``module:function(cases, …)`` that gives the metrics of the result contract, see :meth:`metrics`.
        by_part: ``module:function(cases, groups)`` that gives the scores of parts of the cases, for ``metrics.json``.
        figures: ``module:function(cases, folder)`` that draws what a table of ``cases.csv`` shows.
        strata: a case's field whose values every part of a data set should have in the same shares; empty for none.
        calibrates: whether a run's validation part also turns the network's output into probabilities and decisions, so
            that it cannot be the part that is scored, whatever chose the weights.
        headline: the metrics that stand first in a report, with what they are called; empty for those that two runs
            are compared by.
        limits: what the scores do not mean, a sentence each, for a report.
    """

    name: str
    dataset_dir: str
    fetch: str = ""
    phantom: str = ""
    check: str = ""
    scan: str = ""
    cases: str = ""
    summarise: str = ""
    by_part: str = ""
    figures: str = ""
    strata: str = ""
    calibrates: bool = False
    headline: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()

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

    @property
    def metadata(self) -> dict[str, Any]:
        """What MONAI's ``metadata.json`` says of the bundle; empty where there is none."""
        return read_json(find_bundles()[self.name].with_name("metadata.json"))

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


def find_bundles() -> dict[str, Path]:
    """Return the ``data.yaml`` of each bundle of this project and of the folder that the command is run in, by name."""
    roots = dict.fromkeys((Path(__file__).parents[1] / "bundles", Path("bundles").absolute()))
    return {path.parent.name: path for root in roots for path in sorted(root.glob(f"*/{DATA}"))}


def get_bundle(name: str) -> Bundle:
    """Return the bundle called ``name``.

    Raises:
        UserError: when there is none, or its ``data.yaml`` is damaged.
    """
    import yaml

    bundles = find_bundles()
    if name not in bundles:
        raise UserError(f"There is no bundle '{name}'{nearest(name, bundles)}\nKnown: {', '.join(bundles)}.")
    try:
        return Bundle(name=name, **yaml.safe_load(bundles[name].read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        names = ", ".join(field.name for field in fields(Bundle) if field.name != "name")
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{bundles[name]} is damaged: {reason}\nIt may hold {names}.") from error
