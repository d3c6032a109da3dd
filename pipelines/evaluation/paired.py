"""Two evaluations of the same cases: the difference of their scores, its interval over patients, and a paired test."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluation import classification
from pipelines.evaluation.bootstrap import defined
from pipelines.evaluation.boxes import ratio_counts
from pipelines.evaluation.meanings import meaning
from pipelines.evaluation.results import estimate

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 6  # patients; with five the smallest p-value of a signed-rank test is 0.06


@dataclass(frozen=True)
class Score:
    """What is paired of two runs.

    Attributes:
        name: the metric of the result contract, whose direction holds.
        label: for people.
        rows: takes a table of cases, gives (N,) a score a case, or (N, K) what ``statistic`` needs of each; NaN where
            a case has none. Raises KeyError where the table lacks a column.
        statistic: from rows to one number; the mean for a score a case.
        unit: "mm", … or None.
    """

    name: str
    label: str
    rows: Callable[[pd.DataFrame], np.ndarray]
    statistic: Callable[[np.ndarray], float] = np.mean
    unit: str | None = None


@dataclass(frozen=True)
class Difference:
    """One score of A and B on the cases that both have scored.

    Attributes:
        score: which.
        a: A's value on these cases.
        b: B's.
        value: b - a.
        ci95: the interval of ``value`` over patients; None with fewer than two.
        p: of Wilcoxon's signed-rank test over patients; None where there is no score a case, or no difference.
        cases: how many cases count.
        patients: of how many patients they are.
        equal: whether every case scores the same.
    """

    score: Score
    a: float
    b: float
    value: float
    ci95: tuple[float, float] | None
    p: float | None
    cases: int
    patients: int
    equal: bool

    @property
    def gain(self) -> float:
        """By how much B is better, whichever direction that is."""
        return -self.value if meaning(self.score.name).better == "lower" else self.value

    @property
    def gain_ci95(self) -> tuple[float, float] | None:
        """The interval of ``gain``."""
        if self.ci95 is None or meaning(self.score.name).better != "lower":
            return self.ci95
        return -self.ci95[1], -self.ci95[0]

    @property
    def verdict(self) -> str:
        """ "better" or "worse" (B than A), "equal", "unclear" (too few patients), or "noise"."""
        if self.equal:
            return "equal"
        if self.gain_ci95 is None or self.patients < FEWEST:
            return "unclear"
        low, high = self.gain_ci95
        return "noise" if low <= 0 <= high else "better" if low > 0 else "worse"


def _column(name: str, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Callable[..., np.ndarray]:
    return lambda cases: change(cases[name].to_numpy(float))


def _scored(statistic: Callable[..., float]) -> Callable[[np.ndarray], float]:
    return lambda rows: statistic(rows[:, 0], rows[:, 1])


def _labelled(column: str) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda cases: cases[["label", column]].to_numpy(float)


def _squared_error(cases: pd.DataFrame) -> np.ndarray:
    # as in the metrics: where the temperature was fitted on these very cases, that of other patients counts
    column = "cross_fitted" if "cross_fitted" in cases else "probability"
    return (cases[column] - cases["label"]).to_numpy(float) ** 2


def _ratio_error(cases: pd.DataFrame) -> np.ndarray:
    error = (cases["ratio"] - cases["reference_ratio"]).abs()
    return error.where(ratio_counts(cases["view"])).to_numpy(float)


# of those that two evaluations give, the first is the one that decides
SCORES = (
    Score("mean_dice", "Dice", _column("dice")),
    Score("mean_iou", "IoU", _column("iou")),
    Score("mean_hd95_mm", "HD95", _column("hd95_mm"), unit="mm"),
    Score("mean_asd_mm", "surface distance", _column("asd_mm"), unit="mm"),
    Score("mean_absolute_volume_error_ml", "volume error", _column("volume_error_ml", np.abs), unit="mL"),
    Score("auroc", "AUROC", _labelled("probability"), _scored(classification.auroc)),
    Score(
        "average_precision",
        "average precision",
        _labelled("probability"),
        _scored(classification.average_precision),
    ),
    Score("brier", "Brier score", _squared_error),
    *(
        Score(
            f"{rate.__name__}_balanced",
            f"{rate.__name__} (balanced)",
            _labelled("decision_balanced"),
            _scored(rate),
        )
        for rate in (classification.sensitivity, classification.specificity)
    ),
    Score("centre_shift_px", "shift of the centre", _column("centre_shift_px"), unit="px"),
    Score("mae_width_px", "width error", _column("error_width_px", np.abs), unit="px"),
    Score("mae_height_px", "height error", _column("error_height_px", np.abs), unit="px"),
    Score("mae_width_mm", "width error", _column("error_width_mm", np.abs), unit="mm"),
    Score("ratio_mae", "error of the cardiothoracic ratio", _ratio_error),
)


def paired_differences(
    scores: Iterable[Score], a: pd.DataFrame, b: pd.DataFrame, groups: Sequence[Hashable] | None = None
) -> list[Difference]:
    """Return the difference of each score that both tables have.

    Args:
        scores: of :data:`SCORES` those that both evaluations give.
        a: A's table of the result contract, a row a case.
        b: B's, the same cases in the same order.
        groups: (N,) patient of each case; None where each is of a patient of their own.

    Raises:
        UserError: a score of a case is no number.
    """
    found = []
    for score in scores:
        try:
            rows = score.rows(a), score.rows(b)
        except KeyError:  # say, a ratio that one of them has not learnt
            continue
        except (TypeError, ValueError) as error:
            raise UserError(
                f"expected numbers for {score.label} in the cases.csv of both runs, got something else "
                f"({str(error)[:100]}); evaluate again"
            ) from error
        difference = paired_difference(score, *rows, groups)
        if math.isfinite(difference.value):  # say, no AUROC of one label
            found.append(difference)
    return found


def paired_difference(
    score: Score, a: np.ndarray, b: np.ndarray, groups: Sequence[Hashable] | None = None
) -> Difference:
    """Return how a score of B differs from A's.

    Args:
        score: its ``statistic`` is taken of A's and of B's rows.
        a: (N,) or (N, K) rows of A.
        b: the same of B, the same cases in the same order. A case with a NaN in either is left out.
        groups: (N,) patient of each case; None where each is of a patient of their own.

    The interval is a percentile bootstrap over patients, each of whom brings their cases' rows of A and of B. The test
    is of the patients' mean differences. Source: Wilcoxon, Biometrics Bulletin 1945; 1: 80-83.
    """
    sides = [np.asarray(rows, float).reshape(len(rows), -1) for rows in (a, b)]
    width = sides[0].shape[1]
    rows, patients = defined(np.concatenate(sides, axis=1), groups)

    def of(chosen: np.ndarray, side: int) -> float:
        part = chosen[:, side * width : (side + 1) * width]
        return float(score.statistic(part[:, 0] if width == 1 else part))

    difference = estimate(rows, lambda chosen: of(chosen, 1) - of(chosen, 0), groups=patients)
    values = [of(rows, side) if len(rows) else math.nan for side in (0, 1)]
    per_case = rows[:, 1] - rows[:, 0] if width == 1 else None
    return Difference(
        score=score,
        a=values[0],
        b=values[1],
        value=difference["value"],
        ci95=difference["ci95"],
        p=None if per_case is None else signed_rank_p(per_case, patients),
        cases=len(rows),
        patients=len(np.unique(patients)),
        equal=bool((rows[:, :width] == rows[:, width:]).all()),
    )


def signed_rank_p(differences: np.ndarray, patients: Sequence[Hashable]) -> float | None:
    """Return the two-sided p-value of Wilcoxon's signed-rank test over patients; None where nothing differs.

    Args:
        differences: (N,) one a case; those of a patient are averaged.
        patients: (N,) whose it is.
    """
    from scipy.stats import wilcoxon

    _, of = np.unique(np.asarray(patients), return_inverse=True)
    means = np.bincount(of, differences) / np.maximum(np.bincount(of), 1) if len(of) else np.zeros(0)
    # rounding leaves crumbs where two cases are equally far apart, and ties have to stay ties
    means = np.round(means, 12)
    means = means[means != 0]
    return float(wilcoxon(means).pvalue) if len(means) else None
