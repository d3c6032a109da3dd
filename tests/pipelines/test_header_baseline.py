from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from pipelines.evaluation import header_baseline


@pytest.fixture
def headers():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "view": rng.choice(["AP", "PA", None], 300),
            "sex": rng.choice(["F", "M", None], 300),
            "age": np.where(rng.random(300) < 0.1, np.nan, rng.uniform(1, 90, 300)),
        }
    )


def test_what_is_unknown_counts_as_nothing():
    headers = pd.DataFrame({"view": ["AP", None], "sex": ["M", None], "age": [75.0, np.nan]})
    np.testing.assert_array_equal(header_baseline.features(headers), [[1, 0, 0, 1, 1, 0.5], [0] * 6])


def test_weights_and_probabilities_are_scikit_learns(headers):
    labels = (headers["view"] == "AP").to_numpy() ^ (np.random.default_rng(1).random(300) < 0.2)
    weights = header_baseline.fit(headers, labels)
    table = header_baseline.features(headers)
    theirs = LogisticRegression(tol=1e-8).fit(table, labels)
    np.testing.assert_allclose(weights, [theirs.intercept_[0], *theirs.coef_[0]], atol=1e-3)
    ours = header_baseline.probability(weights, headers)
    np.testing.assert_allclose(ours, theirs.predict_proba(table)[:, 1], atol=1e-3)


def test_a_run_folder_without_usable_weights_has_no_baseline(tmp_path):
    assert header_baseline.load(tmp_path) is None
    (tmp_path / "header_baseline.json").write_text('{"weights": [1, 2]}')
    assert header_baseline.load(tmp_path) is None
