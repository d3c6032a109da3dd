from __future__ import annotations

import math

import pytest

from pipelines.datasets.heart_edges import knows_thorax, with_edges

NAN = math.nan
BOX = {"case": "a.b", "image": "/x/a.b.dcm", "box": [0.1, 0.2, 0.3, 0.4]}


def test_edges_are_the_box_and_where_asked_for_the_thorax():
    known = {**BOX, "thorax": [0.0, 1.0], "cardiothoracic_ratio": 0.2}
    (case,), (alone,) = with_edges([known], thorax=True), with_edges([known], thorax=False)
    assert {**case, "label": None} == {
        "case": "a.b", "image": "/x/a.b.dcm", "path": "/x/a.b.dcm", "label": None,
    }  # fmt: skip
    assert case["label"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.0, 1.0])
    assert alone["label"] == pytest.approx(BOX["box"])


def test_a_range_that_is_not_known_is_nan():
    (case,) = with_edges([BOX], thorax=True)
    assert case["label"][:4] == pytest.approx(BOX["box"])
    assert all(math.isnan(edge) for edge in case["label"][4:])


def test_the_thorax_is_known_where_any_case_has_it():
    unknown, known = {**BOX, "thorax": [NAN, NAN]}, {**BOX, "thorax": [0.1, 0.9]}
    assert not knows_thorax([])
    assert not knows_thorax([BOX, unknown])
    assert knows_thorax([BOX, unknown, known])
