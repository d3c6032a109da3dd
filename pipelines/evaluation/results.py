"""The result contract: ``metrics.json`` and ``cases.csv``, the same for every bundle."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluation.bootstrap import bootstrap_ci, caution, defined, percentiles, resampled
from pipelines.evaluation.numbers import number
from pipelines.evaluation.parts import print_parts
from pipelines.files import sha256_file, write_json, write_text

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

METRICS_FILE = "metrics.json"
CASES_FILE = "cases.csv"
_STATISTICS = {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}
# Resamples repeat the extreme that was seen and never show a further one: their quantiles are no interval.
_WITHOUT_INTERVAL = ("min", "max")
_MEND = "evaluate again, or name a folder that an evaluation wrote"


def estimate(
    values: np.ndarray | Sequence,
    statistic: Callable[[np.ndarray], float] = np.mean,
    unit: str | None = None,
    groups: Sequence[Hashable] | None = None,
    interval: bool = True,
) -> dict[str, Any]:
    """Return one metric of the contract: ``{"value", "ci95", "unit", "cases"}``.

    Args:
        values: (N,) or (N, K) numbers, a row a case. Rows with a NaN are excluded; ``cases`` counts those
            that remain.
        statistic: takes rows of ``values``, gives one number.
        unit: "mm", "mL", "%", … or None for a ratio.
        groups: (N,) patient of each row, or None where each row is a patient.
        interval: whether a bootstrap interval is meaningful; ``ci95`` is None otherwise, and for a single
            patient.
    """
    rows, patients = defined(values, groups)
    value = float(statistic(rows)) if len(rows) else math.nan
    ci95 = bootstrap_ci(rows, statistic, patients) if interval else None
    return {"value": value, "ci95": ci95, "unit": unit, "cases": len(rows)}


def estimates(
    values: np.ndarray | Sequence,
    statistics: Mapping[str, Callable[[np.ndarray], float]],
    groups: Sequence[Hashable] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return several metrics of the same rows, each as ``estimate`` gives it, from one set of resamples.

    Args:
        values: see :func:`estimate`.
        statistics: name to statistic of a ratio.
        groups: see :func:`estimate`.
    """
    rows, patients = defined(values, groups)

    def all_of_them(rows: np.ndarray) -> list[float]:
        return [statistic(rows) for statistic in statistics.values()]

    found = all_of_them(rows) if len(rows) else [math.nan] * len(statistics)
    drawn = resampled(rows, all_of_them, patients).reshape(-1, len(statistics)).T
    return {
        name: {"value": float(value), "ci95": percentiles(column), "unit": None, "cases": len(rows)}
        for name, value, column in zip(statistics, found, drawn, strict=True)
    }


def summarise(
    cases: pd.DataFrame,
    units: Mapping[str, str | None],
    statistics: Sequence[str] = ("mean",),
    groups: Sequence[Hashable] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the metric ``<statistic>_<column>`` for every named column, as ``estimate`` gives it.

    Args:
        cases: a row a case.
        units: the unit of each column to summarise.
        statistics: of "mean", "median", "min" and "max"; the last two carry no interval.
        groups: (N,) patient of each row, or None where each row is a patient.
    """
    return {
        f"{name}_{column}": estimate(
            cases[column], _STATISTICS[name], unit, groups, interval=name not in _WITHOUT_INTERVAL
        )
        for column, unit in units.items()
        for name in statistics
    }


def write_results(
    folder: str | os.PathLike[str],
    bundle: str,
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    dataset: Mapping[str, Any],
    cases: pd.DataFrame,
    metrics: Mapping[str, Mapping[str, Any]],
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write ``cases.csv`` and then ``metrics.json`` into ``folder``, each whole or not at all.

    Args:
        folder: made when missing.
        bundle: such as "atrium".
        checkpoint: the file that was evaluated, whose SHA-256 is recorded; or what to record, ``path`` and ``sha256``,
            where the cases were not all scored by one.
        dataset: ``dir`` and ``hash``; ``cases`` is counted here.
        cases: a row a case, first column ``case``, each case once; NaN becomes an empty cell, numbers keep 6
            digits.
        metrics: name to ``{"value", "ci95", "unit", …}``; NaN and infinity become null.
        parts: of the cases, name to ``{"cases", "positives", "metrics"}``, where a bundle scores any.

    Raises:
        UserError: no cases, a case twice, a missing checkpoint or a folder that cannot be written.
        ValueError: the first column is not ``case``.
    """
    _require_cases(cases)
    content = {
        "bundle": bundle,
        "checkpoint": checkpoint if isinstance(checkpoint, Mapping) else _identified(Path(checkpoint)),
        "dataset": {**dataset, "cases": len(cases)},
        "metrics": metrics,
        **({"parts": parts} if parts else {}),
    }
    try:
        write_text(Path(folder, CASES_FILE), cases.to_csv(index=False, float_format="%.6g"))
        write_json(Path(folder, METRICS_FILE), _plain(content))
    except OSError as error:
        raise UserError(
            f"cannot write results into {folder} ({error.strerror}); give a writable folder"
        ) from error


def _identified(checkpoint: Path) -> dict[str, str]:
    if not checkpoint.is_file():
        raise UserError(f"expected the evaluated checkpoint at {checkpoint}, found no file; give its path")
    return {"path": str(checkpoint), "sha256": sha256_file(checkpoint)}


def read_results(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the content of ``metrics.json``, and the cases as a table whose column ``case`` holds strings.

    Raises:
        UserError: a file is missing, malformed, or of another evaluation than its neighbour.
    """
    content, cases = _read_metrics(Path(folder, METRICS_FILE)), _read_cases(Path(folder, CASES_FILE))
    if content["dataset"].get("cases") != len(cases):
        raise UserError(
            f"expected one evaluation in {folder}, got {METRICS_FILE} of {content['dataset'].get('cases')} "
            f"cases and {CASES_FILE} of {len(cases)}; evaluate again"
        )
    return content, cases


def print_results(folder: str | os.PathLike[str], console: Console) -> None:
    """Print the metrics of ``folder``: value, unit, 95% interval, and how many cases count where not all do.

    Of a cross-validation also the standard deviation over the folds. A ``baseline_<metric>`` stands beside its metric,
    and parts of the cases in a table of their own.

    Raises:
        UserError: as ``read_results``.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    content, cases = read_results(folder)
    title = Text(f"{content['bundle']}: {len(cases)} case{'s' * (len(cases) != 1)}")
    metrics, parts = content["metrics"], content.get("parts", {})
    folds = any("folds" in metric for metric in metrics.values())
    baselines = {name: metrics[key] for name in metrics if (key := f"baseline_{name}") in metrics}
    counted = {
        name: metric["cases"]
        for name, metric in metrics.items()
        if metric.get("cases", len(cases)) != len(cases)
    }
    headers = [
        "value",
        "",
        "95% interval",
        *(["fold sd"] if folds else []),
        *(["baseline"] if baselines else []),
    ]
    headers += ["cases"] if counted else []
    # without lines between columns, so that it fits 80 of them
    table = Table(box=box.SIMPLE, title=title, title_justify="left", padding=0)
    table.add_column("metric", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    for name, metric in metrics.items():
        if name.removeprefix("baseline_") in baselines and name.startswith("baseline_"):
            continue
        if any(name.endswith(f"_{part}") for part in parts):
            continue  # the table of parts has it
        unit = metric.get("unit")
        cells = [number(metric["value"], unit), "" if unit in (None, "cases") else unit]
        cells.append(" to ".join(number(end, unit) for end in metric.get("ci95") or ()) or "-")
        cells += [number(metric.get("folds", {}).get("sd"), unit)] if folds else []
        cells += [number(baselines[name]["value"], unit) if name in baselines else ""] if baselines else []
        cells += [str(counted.get(name, ""))] if counted else []
        table.add_row(Text(name), *cells)
    console.print(table)
    if few := caution(len(cases), "case"):
        console.print(few)
    if parts:
        print_parts(parts, console)


def _plain(content: Any) -> Any:
    """Return ``content`` in JSON's own types, NaN and infinity as None."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple, np.ndarray)):
        return [_plain(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, os.PathLike):
        return str(content)
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _require_cases(cases: pd.DataFrame) -> None:
    if not len(cases.columns) or cases.columns[0] != "case":
        raise ValueError(f"the first column must be 'case', got {list(cases.columns)[:1]}")
    if cases.empty:
        raise UserError("expected at least one case to evaluate, got none; check the data set and the split")
    if (twice := cases["case"][cases["case"].duplicated()]).size:
        raise UserError(f"expected each case once, got '{twice.iloc[0]}' twice; check the data list")


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        others = sorted(str(other.parent) for other in path.parent.glob(f"*/{path.name}"))
        mend = f"there are results in {', '.join(others)}" if others else _MEND
        raise UserError(f"expected results at {path}, cannot read them ({error.strerror}); {mend}") from error
    except ValueError as error:
        raise UserError(f"expected JSON in {path}, got something else ({error}); {_MEND}") from error
    wrong = [
        key
        for key, kind in (("bundle", str), ("checkpoint", dict), ("dataset", dict), ("metrics", dict))
        if not isinstance(content, dict) or not isinstance(content.get(key), kind)
    ]
    if wrong:
        raise UserError(f"{path} lacks {', '.join(wrong)}, so it is not a result of an evaluation; {_MEND}")
    parts = content.get("parts", {})
    if not isinstance(parts, dict) or not all(_is_part(part) for part in parts.values()):
        raise UserError(f"expected cases, positives and metrics of each of the parts in {path}; {_MEND}")
    of_parts = (metric for part in parts.values() for metric in part["metrics"].items())
    for name, metric in (*content["metrics"].items(), *of_parts):
        if not isinstance(metric, dict) or not isinstance(metric.get("value", ""), (int, float, NoneType)):
            raise UserError(f"expected a number as value of '{name}' in {path}, got {metric}; {_MEND}")
        if not _is_interval(metric.get("ci95")):
            raise UserError(
                f"expected two numbers as ci95 of '{name}' in {path}, got {metric['ci95']!r}; {_MEND}"
            )
    return content


def _is_part(part: Any) -> bool:
    counts = [part.get("cases"), part.get("positives")] if isinstance(part, dict) else [None]
    return all(isinstance(count, int) for count in counts) and isinstance(part.get("metrics"), dict)


def _is_interval(value: Any) -> bool:
    ends = value if isinstance(value, list) else ()
    return value is None or (len(ends) == 2 and all(isinstance(end, (int, float, NoneType)) for end in ends))


def _read_cases(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        # cases may be called "007" or "NA"
        cases = pd.read_csv(path, dtype={"case": str}, keep_default_na=False, na_values=[""])
    except OSError as error:
        raise UserError(
            f"expected a table of cases at {path}, cannot read it ({error.strerror}); {_MEND}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"expected a table of cases in {path}, got something else ({error}); {_MEND}"
        ) from error
    if not len(cases.columns) or cases.columns[0] != "case":
        raise UserError(
            f"expected 'case' as the first column of {path}, got {list(cases.columns)[:1]}; {_MEND}"
        )
    if (twice := cases["case"][cases["case"].duplicated()]).size:
        raise UserError(f"expected each case once in {path}, got '{twice.iloc[0]}' twice; {_MEND}")
    return cases
