"""The bundles, and where the functions of each stand: what the command line offers follows from this table."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UserError, nearest


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
    """

    name: str
    dataset_dir: str
    fetch: str
    phantom: str
    check: str
    scan: str = ""

    def function(self, kind: str) -> Callable[..., Any]:
        """Return the function of ``kind`` ("fetch", "phantom", "check" or "scan"), imported only now.

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
    ),
    "pneumonia": Bundle(
        name="pneumonia",
        dataset_dir="data/rsna-pneumonia",
        fetch="pipelines.fetch_kaggle:fetch_pneumonia",
        phantom="pipelines.phantoms.xray:write_pneumonia_phantom",
        scan="pipelines.datasets.rsna:scan_cases",
        check="pipelines.checks.pneumonia:check_pneumonia",
    ),
    "cardiac": Bundle(
        name="cardiac",
        dataset_dir="data/rsna-heart",
        fetch="pipelines.fetch_heart:fetch_cardiac",
        phantom="pipelines.phantoms.xray:write_heart_phantom",
        scan="pipelines.datasets.heart:scan_cases",
        check="pipelines.checks.cardiac:check_cardiac",
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
