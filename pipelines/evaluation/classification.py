"""Scores of a probability against labels of 0 and 1, and the thresholds that turn it into a decision.

A case is positive where its probability is at least the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BINS = 10
# what a person may ask a decision to be: name to the least sensitivity or specificity, or the best of both
OPERATING_POINTS = ("rule_out", "balanced", "rule_in")
_WANTED = 0.95


def auroc(labels: Sequence[float], scores: Sequence[float]) -> float:
    """Return the area under the ROC curve; NaN without both labels.

    It is the chance that a positive scores higher than a negative, ties counted half (Hanley and McNeil, Radiology
    1982; 143: 29-36).

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) any scale, higher is likelier positive.
    """
    _, caught, false_alarms = _by_threshold(labels, scores)
    if not len(caught) or not caught[-1] or not false_alarms[-1]:
        return math.nan
    # a negative is below all positives of higher scores, and below half of those of its own score
    below = caught - np.diff(caught, prepend=0) / 2
    return float(np.sum(np.diff(false_alarms, prepend=0) * below) / (caught[-1] * false_alarms[-1]))


def average_precision(labels: Sequence[float], scores: Sequence[float]) -> float:
    """Return the mean precision over the positives, each at its own score as threshold; NaN without a positive.

    The area under the precision-recall curve in steps, without interpolation, as in scikit-learn.
    """
    _, caught, false_alarms = _by_threshold(labels, scores)
    if not len(caught) or not caught[-1]:
        return math.nan
    precision = caught / (caught + false_alarms)
    return float(np.sum(np.diff(caught, prepend=0) * precision) / caught[-1])


def roc_curve(labels: Sequence[float], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the false and true positive rates from the strictest threshold to the laxest, beginning at (0, 0)."""
    _, caught, false_alarms = _by_threshold(labels, scores)
    return tuple(np.concatenate([[0], n]) / max(1, n[-1]) for n in (false_alarms, caught))


def precision_recall_curve(labels: Sequence[float], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision from the strictest threshold to the laxest."""
    _, caught, false_alarms = _by_threshold(labels, scores)
    return caught / max(1, caught[-1]), caught / (caught + false_alarms)


def brier(labels: Sequence[float], probabilities: Sequence[float]) -> float:
    """Return the mean squared difference of probability and label (Brier, Mon. Weather Rev. 1950; 78: 1-3)."""
    return float(np.mean((np.asarray(probabilities, float) - np.asarray(labels, float)) ** 2))


def calibration_error(labels: Sequence[float], probabilities: Sequence[float], bins: int = BINS) -> float:
    """Return the expected calibration error: how far a bin's share of positives is from its mean probability.

    Bins are of equal width; each counts by its number of cases (Naeini et al., AAAI 2015; of the positive class).
    It is above 0 by chance too: of a perfectly calibrated network about 0.07 for 200 cases and 0.04 for 640.
    """
    count, share, mean = reliability(labels, probabilities, bins)
    return float(np.sum(count * np.abs(share - mean)) / count.sum())


def reliability(
    labels: Sequence[float], probabilities: Sequence[float], bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each bin that is not empty the number of cases, the share of positives and the mean probability."""
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    of = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    count, positives, total = (np.bincount(of, w, bins) for w in (None, labels, probabilities))
    filled = count > 0
    return count[filled], positives[filled] / count[filled], total[filled] / count[filled]


def sensitivity(labels: Sequence[float], decisions: Sequence[float]) -> float:
    """Return the share of positives (label 1) with decision 1; NaN without a positive."""
    return _share(decisions, np.asarray(labels) > 0)


def specificity(labels: Sequence[float], decisions: Sequence[float]) -> float:
    """Return the share of negatives (label 0) with decision 0; NaN without a negative."""
    return 1 - _share(decisions, np.asarray(labels) <= 0)


def choose_thresholds(labels: Sequence[float], probabilities: Sequence[float]) -> dict[str, float]:
    """Return a threshold for each of ``OPERATING_POINTS``, halfway between two probabilities that occur.

    - ``rule_out``: the highest with a sensitivity of at least 95%;
    - ``balanced``: the one with the largest sum of sensitivity and specificity (Youden, Cancer 1950; 3: 32-35);
    - ``rule_in``: the lowest with a specificity of at least 95%.

    Args:
        labels: (N,) 0 or 1, both among them.
        probabilities: (N,) 0 to 1.
    """
    known, caught, false_alarms = _by_threshold(labels, probabilities)
    # from above all (nothing is positive) to below all (everything is)
    edges = np.concatenate([[max(1.0, known[0])], known, [min(0.0, known[-1])]])
    thresholds = (edges[:-1] + edges[1:]) / 2
    thresholds[0] = max(thresholds[0], np.nextafter(known[0], 2))
    caught, false_alarms = (np.concatenate([[0], n]) for n in (caught, false_alarms))
    positives, negatives = caught[-1], false_alarms[-1]
    enough = caught >= math.ceil(_WANTED * positives - 1e-9)
    few = negatives - false_alarms >= math.ceil(_WANTED * negatives - 1e-9)
    balance = caught * negatives - false_alarms * positives  # in whole numbers, so that equals are equal
    return {
        "rule_out": float(thresholds[np.flatnonzero(enough)[0]]),
        "balanced": float(thresholds[np.argmax(balance)]),
        "rule_in": float(thresholds[np.flatnonzero(few)[-1]]),
    }


def _by_threshold(
    labels: Sequence[float], scores: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, highest first, and how many positives and negatives score as high or higher."""
    labels, scores = np.asarray(labels) > 0, np.asarray(scores, float)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    caught = np.cumsum(labels[order])[last]
    return scores[order][last], caught, last + 1 - caught


def _share(decisions: Sequence[float], chosen: np.ndarray) -> float:
    return float(np.asarray(decisions, float)[chosen].mean()) if chosen.any() else math.nan
