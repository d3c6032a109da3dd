"""Confidence intervals by resampling patients."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

# a 95% percentile interval of a normal mean holds it 50% of the time with 2 patients, 85% with 5 and 90% with 10
FEW = 10


def caution(patients: int, of: str = "patient") -> str:
    """Return a sentence about intervals over so few patients; empty where there are enough for one, or none.

    Args:
        patients: how many are resampled.
        of: what they are called: "case" where their patients are not known.
    """
    if not 1 < patients < FEW:
        return ""
    return f"{patients} {of}s are few: their 95% intervals are narrower than they should be."


def bootstrap_ci(
    values: np.ndarray | Sequence,
    statistic: Callable[[np.ndarray], float] = np.mean,
    groups: Sequence[Hashable] | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of ``statistic``, resampling patients rather than rows.

    Without ``groups`` it equals ``scipy.stats.bootstrap(method="percentile", vectorized=False)`` for the same
    seed; the loop is ours because SciPy's knows no groups and gives NaN as soon as one resample has no
    defined statistic.

    Args:
        values: (N,) numbers or an (N, K) table, a row a case. Rows with a NaN are left out (see ``defined``).
        statistic: takes rows of ``values`` (any number of them, at least one), gives one number.
        groups: (N,) patient of each row; None where each row is a patient. A drawn patient brings all its
            rows.
        n: number of resamples. Those whose statistic is NaN (say, an AUC of one class) are left out.
        level: coverage, in (0, 1).
        seed: the same seed gives the same interval.

    Returns:
        ``(low, high)``; None when fewer than two patients have defined values (one patient says nothing about
        how patients differ) or when no resample has a defined statistic.

    Raises:
        ValueError: ``groups`` and ``values`` differ in length.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    return percentiles(resampled(values, statistic, groups, n, seed), level)


def resampled(
    values: np.ndarray | Sequence,
    statistic: Callable[[np.ndarray], float | Sequence[float]],
    groups: Sequence[Hashable] | None = None,
    n: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Return ``statistic`` of each of ``n`` resamples: (n,), or (n, K) where it gives K numbers at once.

    Empty when fewer than two patients have defined values. See :func:`bootstrap_ci`.
    """
    rows, patients = defined(values, groups)
    _, patients = np.unique(patients, return_inverse=True)
    count = patients.max() + 1 if len(patients) else 0
    if count < 2:
        return np.empty(0)
    rng, each = np.random.default_rng(seed), np.arange(len(rows))
    draws = (np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(n))
    # a row comes as often as its patient was drawn; in which order does not matter to a statistic
    return np.array([statistic(rows[np.repeat(each, draw[patients])]) for draw in draws], dtype=float)


def percentiles(estimates: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval that holds the middle ``level`` of (n,) estimates, NaN left out; None where none is left."""
    estimates = estimates[~np.isnan(estimates)]
    if not len(estimates):
        return None
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def defined(
    values: np.ndarray | Sequence, groups: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of ``values`` that hold no NaN, and the patient of each as an integer.

    A case whose score is undefined (a distance to an empty mask) is thus excluded, never counted as 0 or as
    infinite; say how many remain wherever the statistic is shown.

    Args:
        values: (N,) or (N, K) numbers.
        groups: (N,) patient of each row, or None where each row is a patient.

    Raises:
        ValueError: ``groups`` and ``values`` differ in length.
    """
    rows = np.asarray(values, dtype=float)
    patients = (
        np.arange(len(rows)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    if len(patients) != len(rows):
        raise ValueError(f"groups must name the patient of each of {len(rows)} rows, got {len(patients)}")
    keep = ~np.isnan(rows).any(axis=tuple(range(1, rows.ndim)))
    return rows[keep], patients[keep]
