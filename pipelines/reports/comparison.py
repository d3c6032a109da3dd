"""Runs compared: what differs, every metric side by side, and paired differences against the first of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.evaluation.bootstrap import caution
from pipelines.evaluation.meanings import meaning
from pipelines.evaluation.paired import SCORES, Difference, paired_differences
from pipelines.reports.differences import Rows, differences, unknown
from pipelines.reports.record import RunRecord, evaluated_parts
from pipelines.reports.words import in_words

# what a case's reference is in each table: it must be the same where the case is
_REFERENCES = ("reference_volume_ml", "label", "reference_ratio")


@dataclass(frozen=True)
class Pair:
    """Two runs on the cases that both have scored.

    Attributes:
        a: the first run; positive gains mean that ``b`` is better.
        b: the other.
        cases: A's rows of the shared cases and B's, in one order.
        patients: of how many patients these are.
        scores: the differences.
        warnings: what makes them mean less.
    """

    a: RunRecord
    b: RunRecord
    cases: tuple[pd.DataFrame, pd.DataFrame]
    patients: int
    scores: list[Difference]
    warnings: list[str]

    @property
    def sentences(self) -> list[str]:
        """The differences in plain words, the one that decides first."""
        return [in_words(score, self.a.name, self.b.name, len(self.cases[0])) for score in self.scores]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        records: the runs.
        differences: see :func:`~pipelines.reports.differences.differences`.
        metrics: name to the metric of each run, as in the result contract; None where it has none.
        pairs: each other run against the first.
        notes: what could not be compared.
    """

    records: list[RunRecord]
    differences: dict[str, Rows]
    metrics: dict[str, list[dict[str, Any] | None]]
    pairs: list[Pair]
    notes: list[str]


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Compare runs of one bundle, each with the first.

    Raises:
        UserError: fewer than two runs, a run twice, runs of two bundles, or two that share no scored case.
    """
    records = list(records)
    _require_comparable(records)
    notes = [_unpaired(record) for record in records if record.content is None]
    notes += [f"{name} does not say on which code and versions it ran." for name in unknown(records)]
    notes += [
        f"{record.name} does not say which cases it was trained on: a shared one may be among them."
        for record in records
        if not record.tells_training
    ]
    scored = [record for record in records if record.content is not None]
    pairs = [pair(records[0], other) for other in scored if other is not records[0] and records[0] in scored]
    return Comparison(records, differences(records), _side_by_side(records), pairs, notes)


def _unpaired(record: RunRecord) -> str:
    if parts := evaluated_parts(record.folder):
        return f"{record.name} was evaluated on {', '.join(parts)} alone: compare that with --part, or evaluate val."
    return f"{record.name} was not evaluated: nothing of it can be paired."


def pair(a: RunRecord, b: RunRecord) -> Pair:
    """Pair two evaluated runs case by case.

    Raises:
        UserError: when they share no case.
    """
    theirs = set(b.cases["case"])
    shared = [case for case in a.cases["case"] if case in theirs]
    if not shared:
        raise UserError(
            f"{a.name} and {b.name} share no scored case, so they cannot be paired: they scored "
            f"{len(a.cases)} and {len(b.cases)} others.\n"
            "Evaluate both on the same ones, e.g. with --cases all or the same names, and name that --part."
        )
    tables = tuple(record.cases.set_index("case").loc[shared].reset_index() for record in (a, b))
    groups = [a.groups.get(case) or b.groups.get(case) or f"case {case}" for case in shared]
    scored = [s for s in SCORES if all(s.name in record.content["metrics"] for record in (a, b))]
    scores = paired_differences(scored, *tables, groups)
    patients = len(set(groups))
    return Pair(a, b, tables, patients, scores, _warnings(a, b, shared, patients, tables))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison in JSON's types, for scripts."""
    return {
        "runs": [
            {
                "name": r.name,
                "bundle": r.bundle,
                "run_id": r.tracking.get("run_id"),
                "crossval": bool(r.crossval),
            }
            for r in comparison.records
        ],
        "differences": comparison.differences,
        "metrics": {
            name: {"better": meaning(name).better, "runs": values}
            for name, values in comparison.metrics.items()
        },
        "pairs": [_pair_to_json(pair) for pair in comparison.pairs],
        "notes": comparison.notes,
    }


def _pair_to_json(pair: Pair) -> dict[str, Any]:
    scores = {
        d.score.name: {
            "a": d.a,
            "b": d.b,
            "difference": d.value,
            "ci95": d.ci95,
            "p": d.p,
            "cases": d.cases,
            "patients": d.patients,
            "verdict": d.verdict,
            "words": words,
        }
        for d, words in zip(pair.scores, pair.sentences, strict=True)
    }
    return {
        "a": pair.a.name,
        "b": pair.b.name,
        "shared_cases": pair.cases[0]["case"].tolist(),
        "patients": pair.patients,
        "warnings": pair.warnings,
        "scores": scores,
    }


def _require_comparable(records: list[RunRecord]) -> None:
    if len(records) < 2:
        raise UserError(f"A comparison needs at least two runs, got {len(records)}.")
    for one, other in itertools.combinations(records, 2):
        if one.results.resolve() == other.results.resolve():
            raise UserError(f"{one.name} was named twice. Name two different runs.")
        if one.bundle != other.bundle:
            raise UserError(
                f"{one.name} is a run of {one.bundle}, {other.name} one of {other.bundle}: their scores mean "
                "different things.\nName runs of one bundle."
            )


def _side_by_side(records: Sequence[RunRecord]) -> dict[str, list[dict[str, Any] | None]]:
    of_runs = [(record.content or {}).get("metrics", {}) for record in records]
    names = dict.fromkeys(name for metrics in of_runs for name in metrics)
    return {name: [metrics.get(name) for metrics in of_runs] for name in names}


def _warnings(
    a: RunRecord, b: RunRecord, shared: list[str], patients: int, tables: tuple[pd.DataFrame, pd.DataFrame]
) -> list[str]:
    found = []
    for record in (a, b):
        if seen := [case for case in shared if record.trained_on(case)]:
            found.append(
                f"{record.name} was trained on {len(seen)} of the {len(shared)} shared cases or their "
                "patients: its scores there say nothing about new patients."
            )
    if differently := _split_differs(a, b):
        found.append(differently)
    for record, other in ((a, b), (b, a)):
        if alone := len(record.cases) - len(shared):
            found.append(
                f"{record.name} scored {alone} more case{'s' * (alone > 1)} that {other.name} did not: "
                f"{'they are' if alone > 1 else 'it is'} left out here."
            )
    for column in (name for name in _REFERENCES if all(name in table for table in tables)):
        one, other = (pd.to_numeric(table[column], errors="coerce") for table in tables)
        if moved := int((~np.isclose(one, other, rtol=1e-3, equal_nan=True)).sum()):
            found.append(
                f"The reference of {moved} shared case{'s' * (moved > 1)} differs ({column}): not the same data."
            )
    return [*found, *filter(None, [caution(patients)])]


def _split_differs(a: RunRecord, b: RunRecord) -> str:
    if bool(a.crossval) != bool(b.crossval):
        return "One is a cross-validation and the other is not: they trained on different cases."
    if not (a.tells_training and b.tells_training):
        return ""
    if a.crossval:
        same = a.crossval.get("folds_of") == b.crossval.get("folds_of")
        return "" if same else "The folds differ: the runs trained on different cases."
    moved = {side: len(a.split[side] ^ b.split[side]) for side in ("train", "val")}
    told = " and ".join(
        f"{count} case{'s' * (count > 1)} of {side}" for side, count in moved.items() if count
    )
    return f"The split differs: only one of the two runs has {told}." if told else ""
