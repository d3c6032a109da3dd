"""In what runs differ: config, data, split, code and environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.datasets.splits import SPLITS
from pipelines.reports.record import OF_FOLDS, RunRecord

Rows = dict[str, list[Any]]
MISSING = "-"


def differences(records: Sequence[RunRecord]) -> dict[str, Rows]:
    """Return what differs among runs: section ("config", "data", …) to what, to a value a run; "-" where it has none.

    Of the data everything that identifies them is told, of the split its sizes where its hash differs.
    """
    # where one is a cross-validation, who trains is a difference of the split
    left_out = OF_FOLDS if any(record.crossval for record in records) else ()
    sections = {
        "config": [_without(record.settings, left_out) for record in records],
        "data": [_data(record) for record in records],
        "split": [_split(record, records[0]) for record in records],
        "code": [_part(record.environment, "git.") for record in records],
        "environment": [_part(record.environment, "version.", "host.") for record in records],
    }
    return {name: differing(of_runs) for name, of_runs in sections.items()}


def differing(of_runs: Sequence[Mapping[str, Any]]) -> Rows:
    """Return the keys whose values are not all equal, in the order of their first appearance, with a value a run."""
    keys = dict.fromkeys(key for of_run in of_runs for key in of_run)
    rows = {key: [of_run.get(key, MISSING) for of_run in of_runs] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def unknown(records: Sequence[RunRecord]) -> list[str]:
    """Return the names of the runs that do not say what they ran on."""
    return [record.name for record in records if not record.environment]


def _without(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.partition(".")[0] not in names}


def _data(record: RunRecord) -> dict[str, Any]:
    scored = (record.content or {}).get("dataset", {})
    return {
        "scored data set": scored.get("dir", MISSING),
        "scored cases": scored.get("cases", MISSING),
        "hash of what was scored": str(scored.get("hash", MISSING))[:12],
    }


def _split(record: RunRecord, first: RunRecord) -> dict[str, Any]:
    if record.crossval:
        return {
            "kind": f"cross-validation, {len(record.folds)} folds",
            "hash": str(record.crossval.get("hash", MISSING))[:12],
            "out-of-fold cases": len(record.split["val"]),
        }
    rows = {"kind": "one split", "hash": str(record.datalist.get("hash", MISSING))[:12]}
    for side in SPLITS:
        rows[f"{side} cases"] = str(len(record.split[side]))
        others = len(record.split[side] - first.split[side])
        if others and not first.crossval:
            rows[f"{side} cases"] += f", {others} of them not in {side} of {first.name}"
    return rows


def _part(environment: Mapping[str, str], *prefixes: str) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key.startswith(prefixes)}
