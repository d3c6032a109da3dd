from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.special import expit

from pipelines.errors import UserError
from pipelines.evaluation import calibration as calibrations
from pipelines.evaluation.calibration import Calibration, cross_fitted, fit, load, save
from pipelines.evaluation.classification import calibration_error


def overconfident(count=20_000, factor=3.0, offset=0.0, seed=0):
    """Logits that are ``factor`` times too large, and labels drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, count)
    return factor * honest + offset, (rng.random(count) < expit(honest)).astype(int)


def test_temperature_is_the_factor_by_which_logits_are_too_large():
    logits, labels = overconfident(factor=3.0)
    fitted = fit(logits, labels)
    assert fitted.temperature == pytest.approx(3.0, rel=0.05)
    assert fitted.cases == len(logits)
    assert calibration_error(labels, fitted.probability(logits)) < 0.02
    assert calibration_error(labels, expit(logits)) > 0.08


def test_the_losss_weight_of_positives_is_taken_off_the_logit():
    logits, labels = overconfident(factor=1.0, offset=math.log(4))
    fitted = fit(logits, labels, offset=math.log(4))
    assert fitted.temperature == pytest.approx(1.0, rel=0.05)
    assert fitted.probability(math.log(4)) == pytest.approx(0.5)


def test_a_network_that_is_always_right_gets_a_finite_temperature():
    fitted = fit([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    grid = np.linspace(0.3, 3, 27_001)  # the least of the log loss and a log-normal prior's share
    losses = 2 * np.log1p(np.exp(-3 / grid)) + 2 * np.log1p(np.exp(-2 / grid)) + (np.log(grid) / 0.5) ** 2 / 2
    assert fitted.temperature == pytest.approx(grid[losses.argmin()], abs=1e-3)
    assert 0.8 < fitted.temperature < 1  # four easy cases say little
    assert fitted.operating_points["balanced"]["sensitivity"] == 1.0


def test_operating_points_hold_what_they_reach_on_these_cases():
    logits, labels = overconfident(2000)
    points = fit(logits, labels).operating_points
    assert list(points) == ["rule_out", "balanced", "rule_in"]
    assert points["rule_out"]["sensitivity"] == pytest.approx(0.95, abs=0.002)
    assert points["rule_in"]["specificity"] == pytest.approx(0.95, abs=0.002)
    assert points["rule_out"]["threshold"] < points["balanced"]["threshold"] < points["rule_in"]["threshold"]


def test_one_label_alone_cannot_calibrate():
    with pytest.raises(UserError, match="needs cases of both labels, got 2 of one"):
        fit([0.0, 1.0], [1, 1])


def test_cross_fitted_probabilities_come_from_temperatures_of_other_patients(monkeypatch):
    logits, labels = np.arange(12.0) - 6, np.array([0, 1] * 6)
    groups = np.repeat(["a", "b", "c", "d", "e", "f"], 2)
    seen = []
    monkeypatch.setattr(
        calibrations, "_temperature", lambda chosen, _: seen.append(set(chosen)) or float(len(seen))
    )
    probabilities = cross_fitted(logits, labels, groups, folds=3)
    assert len(seen) == 3
    for number, rest in enumerate(seen, start=1):
        left_out = np.array([logit not in rest for logit in logits])
        assert {*groups[left_out]}.isdisjoint(groups[~left_out])
        np.testing.assert_allclose(probabilities[left_out], expit(logits[left_out] / number))


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_a_calibration_is_read_as_it_was_written(checkpoint):
    fitted = fit(*overconfident(200))
    save(fitted, checkpoint)
    read = load(checkpoint)
    assert (read.temperature, read.offset, read.cases) == (fitted.temperature, fitted.offset, 200)
    assert read.operating_points == fitted.operating_points


def test_weights_without_a_calibration_are_told_and_taken_as_they_are(checkpoint, caplog):
    assert load(checkpoint) == Calibration()
    assert "has no calibration.json beside it" in caplog.text
    assert Calibration().probability(0.0) == 0.5
    assert Calibration().threshold("rule_in") == 0.5


def test_a_calibration_of_other_weights_is_told_and_not_used(checkpoint, caplog):
    save(fit(*overconfident(200)), checkpoint)
    torch.save({"weight": torch.ones(1)}, checkpoint)
    assert load(checkpoint) == Calibration()
    assert "was fitted to other weights than model.pt" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": None},
        {"operating_points": {}},
        {"operating_points": {"balanced": {"threshold": "high"}}},
        {"unknown": 1},
    ],
)
def test_a_damaged_calibration_says_how_to_make_it_anew(checkpoint, change):
    save(fit(*overconfident(200)), checkpoint)
    path = checkpoint.parent / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"is damaged .*[\s\S]*evaluate\.yaml with --cases val"):
        load(checkpoint)


def test_an_unknown_operating_point_is_answered_with_the_nearest():
    with pytest.raises(
        UserError, match=r"one of rule_out, balanced, rule_in, got 'ruleout'; did you mean 'rule_out'"
    ):
        Calibration().threshold("ruleout")
