"""All folds' held-out cases together, as one result."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.crossval.plan import Plan
from pipelines.datasets.datalist import Case
from pipelines.evaluation.results import read_results, write_results
from pipelines.files import sha256_json
from pipelines.registry import Bundle

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
Metrics = dict[str, dict[str, Any]]


def pool(folder: Path, run_dirs: Sequence[Path], bundle: Bundle, plan: Plan, cases: Sequence[Case]) -> None:
    """Write the result contract and the figures of a cross-validation into its folder.

    Each metric is of all held-out cases together, with an interval over patients; under ``folds`` it has the
    ``values`` of the folds, each by its own network, and their standard deviation ``sd``. The column ``fold`` of
    ``cases.csv`` says which network scored a case.

    Args:
        folder: of the cross-validation.
        run_dirs: of the folds, in their order.
        bundle: the task.
        plan: the folds.
        cases: of the data set.
    """
    results = [read_results(run_dir) for run_dir in run_dirs]
    table = pooled_cases([found for _, found in results])
    groups = {case["case"]: case.get("group", case["case"]) for case in cases}
    patients = [groups[name] for name in table["case"]]
    metrics = bundle.metrics(table, patients)
    metrics = with_folds(metrics, [content["metrics"] for content, _ in results])
    weights = [content["checkpoint"] for content, _ in results]
    digests = [checkpoint["sha256"] for checkpoint in weights]
    together = {"path": str(folder), "sha256": sha256_json(digests), "folds": weights}
    parts = bundle.function("by_part")(table, patients) if bundle.by_part else None
    write_results(folder, bundle.name, together, plan.dataset, table, metrics, parts)
    bundle.function("figures")(table, folder / "figures")


def pooled_cases(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the folds' tables as one, with the column ``fold`` after ``case``.

    A column that a fold lacks (say, a decision whose threshold its validation could not choose) is left out, which is
    told in the log: what is known of some folds' patients alone is no result of all.
    """
    import pandas as pd

    columns = [name for name in tables[0] if all(name in table for table in tables)]
    if left := sorted({name for table in tables for name in table} - set(columns)):
        logger.warning("Not known in every fold, and left out of the result: %s.", ", ".join(left))
    numbered = [table[columns].assign(fold=fold) for fold, table in enumerate(tables, start=1)]
    pooled = pd.concat(numbered, ignore_index=True)
    return pooled[["case", "fold", *columns[1:]]]


def with_folds(metrics: Mapping[str, Mapping[str, Any]], folds: Sequence[Metrics]) -> Metrics:
    """Return ``metrics`` with ``folds``: the ``values`` of each fold (NaN: undefined there) and their sample ``sd``."""
    found: Metrics = {}
    for name, metric in metrics.items():
        values = [fold.get(name, {}).get("value") for fold in folds]
        values = [math.nan if value is None else float(value) for value in values]
        known = [value for value in values if not math.isnan(value)]
        spread = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
        found[name] = {**metric, "folds": {"values": values, "sd": spread}}
    return found
