"""From a network's logit to a probability that can be taken at its word, and to a decision."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.ensemble import paths
from pipelines.errors import UserError, nearest
from pipelines.evaluation.classification import (
    OPERATING_POINTS,
    choose_thresholds,
    sensitivity,
    specificity,
)
from pipelines.files import sha256_file, write_json
from pipelines.runs import read_json

FILE = "calibration.json"
FOLDS = 5
_LIMITS = (0.05, 20.0)  # of the temperature
_SPREAD = 0.5  # standard deviation of the temperature's logarithm before any case was seen
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """How a logit becomes a probability and a decision: ``probability = sigmoid((logit - offset) / temperature)``.

    Attributes:
        temperature: above 1 makes the network less certain (Guo et al., ICML 2017).
        offset: the logarithm of the loss's ``pos_weight``: what weighting positives added to the logit.
        operating_points: name to ``{"threshold", "sensitivity", "specificity"}`` on the cases it was fitted on; empty
            where it was fitted on none.
        cases: how many it was fitted on; 0 is a network as it is.
        model_sha256: of the weights that it belongs to.
    """

    temperature: float = 1.0
    offset: float = 0.0
    operating_points: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cases: int = 0
    model_sha256: str = ""

    def probability(self, logits: Any) -> np.ndarray:
        """Return the probability of each logit, float64 of the same shape."""
        from scipy.special import expit

        return expit((np.asarray(logits, dtype=float) - self.offset) / self.temperature)

    def threshold(self, name: str) -> float:
        """Return the threshold of an operating point; 0.5 where none were chosen.

        Raises:
            UserError: there is no such operating point.
        """
        if name not in OPERATING_POINTS:
            hint = nearest(name, OPERATING_POINTS)
            raise UserError(
                f"operating_point must be one of {', '.join(OPERATING_POINTS)}, got '{name}'{hint}"
            )
        return float(self.operating_points[name]["threshold"]) if self.operating_points else 0.5


def fit(logits: Sequence[float], labels: Sequence[float], offset: float = 0.0) -> Calibration:
    """Return the calibration that some cases make most probable, and thresholds chosen on them.

    The temperature is the maximum a posteriori: log loss, and a log-normal prior about 1 that weighs as much as some
    forty cases do. Fifty cases alone would tell little more than whether they happened to be easy ones, and a network
    that was right on nearly all of them would be made far too certain; of thousands the prior is not to be seen.

    Args:
        logits: (N,) of a network.
        labels: (N,) 0 or 1.
        offset: see :class:`Calibration`; not fitted.

    Raises:
        UserError: only one of the labels is there.
    """
    logits, labels = np.asarray(logits, dtype=float), np.asarray(labels, dtype=float)
    if len(set(labels.tolist())) < 2:
        raise UserError(f"a calibration needs cases of both labels, got {len(labels)} of one; add the other")
    calibration = Calibration(
        temperature=_temperature(logits - offset, labels), offset=offset, cases=len(logits)
    )
    points = _points(labels, calibration.probability(logits))
    return Calibration(calibration.temperature, offset, points, len(logits))


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    signed = np.where(labels > 0, logits, -logits)  # the log loss of sigmoid is log(1 + exp(-signed))
    found = minimize_scalar(
        lambda log_t: np.logaddexp(0, -signed / np.exp(log_t)).sum() + (log_t / _SPREAD) ** 2 / 2,
        bounds=np.log(_LIMITS),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def _points(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, dict[str, float]]:
    points = {}
    for name, threshold in choose_thresholds(labels, probabilities).items():
        positive = probabilities >= threshold
        rates = {"sensitivity": sensitivity(labels, positive), "specificity": specificity(labels, positive)}
        points[name] = {"threshold": threshold, **rates}
    return points


def cross_fitted(
    logits: Sequence[float],
    labels: Sequence[float],
    groups: Sequence[Hashable],
    offset: float = 0.0,
    folds: int = FOLDS,
    seed: int = 0,
) -> np.ndarray:
    """Return the probability of each case by a temperature that was fitted on other patients' cases.

    What remains of a calibration error is then not too small for having been fitted on the cases it is measured on.

    Args:
        logits: (N,).
        labels: (N,) 0 or 1.
        groups: (N,) patient of each case.
        offset: see :class:`Calibration`.
        folds: parts of about as many patients.
        seed: of the parts.
    """
    logits, labels = np.asarray(logits, dtype=float), np.asarray(labels, dtype=float)
    _, patients = np.unique(np.asarray(groups), return_inverse=True)
    part = np.random.default_rng(seed).permutation(patients.max() + 1)[patients] % folds
    probabilities = np.empty(len(logits))
    for fold in np.unique(part):
        rest = part != fold
        temperature = _temperature(logits[rest] - offset, labels[rest]) if rest.any() else 1.0
        probabilities[~rest] = Calibration(temperature, offset).probability(logits[~rest])
    return probabilities


def save(calibration: Calibration, checkpoint: str | Path) -> None:
    """Write ``calibration.json`` beside the weights that it belongs to."""
    content = asdict(calibration) | {"model_sha256": sha256_file(checkpoint)}
    write_json(Path(checkpoint).parent / FILE, content)


def load_all(ckpt_path: str | Path | Sequence[str | Path]) -> list[Calibration]:
    """Return the calibration of each of the weights that a config's ``ckpt_path`` names, see :func:`load`."""
    return [load(path) for path in paths(ckpt_path)]


def load(checkpoint: str | Path) -> Calibration:
    """Return the calibration beside ``checkpoint``; a network as it is, told in the log, where there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(checkpoint).parent / FILE
    advice = "Probabilities are the network's own; `evaluate.yaml --cases val` calibrates them."
    if not path.is_file():
        logger.warning("%s has no %s beside it. %s", checkpoint, FILE, advice)
        return Calibration()
    calibration = _parsed(path)
    if calibration.model_sha256 != sha256_file(checkpoint):
        logger.warning("%s was fitted to other weights than %s. %s", path, Path(checkpoint).name, advice)
        return Calibration()
    return calibration


def _parsed(path: Path) -> Calibration:
    content = read_json(path)
    try:
        calibration = Calibration(**content)
        numbers = [calibration.temperature, calibration.offset]
        numbers += [calibration.operating_points[name]["threshold"] for name in OPERATING_POINTS]
        if calibration.temperature > 0 and all(math.isfinite(number) for number in numbers):
            return calibration
        reason = f"expected finite numbers, got {json.dumps(numbers)}"
    except (TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise UserError(f"{path} is damaged ({reason});\nremove it and run evaluate.yaml with --cases val")
