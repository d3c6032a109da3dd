"""Folds by patient, and which of the other patients validate.

A *case* has its name under ``case`` and, where several are of one patient, that patient under ``group``. The order of
the cases does not matter: the same cases and seed give the same folds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipelines.datasets.datalist import Case
from pipelines.errors import UserError

VALIDATION_SHARE = 1 / 8  # of the patients that a fold does not hold out


def draw_folds(cases: Sequence[Case], folds: int, seed: int = 0, strata: str = "") -> dict[str, int]:
    """Return the fold, 1 to ``folds``, of each case; a patient's cases are in one.

    Args:
        cases: each once.
        folds: how many, from 2.
        seed: the same one gives the same folds.
        strata: a field of the cases whose values each fold should hold in the same shares; folds are then about as
            large in cases, and otherwise in patients.

    Raises:
        UserError: fewer patients than folds, or fewer with one of the values of ``strata``, or there is but one value.

    Source: scikit-learn's ``StratifiedGroupKFold`` and ``GroupKFold``.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    cases = _ordered(cases)
    patients = [_patient(case) for case in cases]
    _require_patients(cases, folds, strata)
    splitter = (StratifiedGroupKFold if strata else GroupKFold)(folds, shuffle=True, random_state=seed)
    values = [case[strata] for case in cases] if strata else None
    parts = splitter.split(cases, values, patients)
    return {cases[i]["case"]: fold for fold, (_, held_out) in enumerate(parts, start=1) for i in held_out}


def draw_validation(
    cases: Sequence[Case], patients: int | None = None, seed: int = 0, strata: str = ""
) -> list[str]:
    """Return the names of the cases of some patients, who validate while the others train.

    Args:
        cases: those that a fold does not hold out.
        patients: how many; None is ``VALIDATION_SHARE`` of them.
        seed: the same one gives the same patients.
        strata: a field of the cases whose highest values a patient is sorted by, so that both sides have them in the
            same shares.

    Raises:
        UserError: too few patients for both sides.
    """
    from sklearn.model_selection import train_test_split

    highest: dict[str, Any] = {}
    for case in _ordered(cases):
        highest[_patient(case)] = max(highest.get(_patient(case), 0), case[strata]) if strata else 0
    kinds = list(highest.values())
    least = len(set(kinds))
    count = max(round(VALIDATION_SHARE * len(kinds)), least) if patients is None else patients
    if not least <= count <= len(kinds) - least or min(Counter(kinds).values()) < 2:
        kind = f" of each {strata}" if least > 1 else ""
        raise UserError(
            f"{count} of the {len(kinds)} patients that a fold does not hold out cannot validate: at least one{kind}\n"
            "must validate and one train. Take another val_cases, fewer folds, or more patients."
        )
    _, chosen = train_test_split(
        list(highest), test_size=count, random_state=seed, stratify=kinds if least > 1 else None
    )
    return [case["case"] for case in _ordered(cases) if _patient(case) in set(chosen)]


def _ordered(cases: Sequence[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: case["case"])


def _patient(case: Case) -> str:
    return str(case.get("group", case["case"]))


def _require_patients(cases: Sequence[Case], folds: int, strata: str) -> None:
    if folds < 2:
        raise UserError(f"a cross-validation needs at least 2 folds, got {folds}")
    whole = len({_patient(case) for case in cases})
    if whole < folds:
        raise UserError(f"{folds} folds need at least as many patients, got {whole}; take fewer folds")
    values = sorted({case[strata] for case in cases}) if strata else []
    if len(values) == 1:  # no fold could learn to tell them apart
        raise UserError(
            f"folds need cases of each {strata}, all {len(cases)} have {strata} {values[0]}; add the others"
        )
    for value in values:
        found = len({_patient(case) for case in cases if case[strata] == value})
        if found < folds:
            raise UserError(
                f"{folds} folds need at least as many patients of each {strata}, got {found} with {strata} {value};\n"
                "take fewer folds"
            )
