"""`compare` and `report` on trainings of every bundle, tiny ones on phantoms."""

from __future__ import annotations

import json

import pytest

from pipelines.evaluation.bootstrap import caution
from pipelines.evaluation.meanings import meaning
from pipelines.evaluation.paired import SCORES
from pipelines.reports.compare_page import write_comparison
from pipelines.reports.comparison import compare
from pipelines.reports.record import read_record
from pipelines.reports.report import report_content, write_report

BUNDLES = ("atrium", "pneumonia", "cardiac")


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())["metrics"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_paired_difference_is_that_of_the_metrics_where_both_scored_the_same_cases(
    evaluated, bundle, tmp_path
):
    old, new = evaluated[bundle]
    found = compare([read_record(run) for run in (old, new)])
    assert found.differences["config"] == {"lr": [read_record(old).config["lr"], 0.5]}
    assert found.differences["split"] == found.differences["environment"] == {}
    (pair,) = found.pairs
    assert [w for w in pair.warnings if w != caution(pair.patients)] == []
    before, after = metrics_of(old), metrics_of(new)
    values = {difference.score.name: difference.value for difference in pair.scores}
    assert len(values) >= 3
    for name, value in values.items():
        expected = after[name]["value"] - before[name]["value"]
        assert value == pytest.approx(expected, abs=2e-4 * max(1, abs(after[name]["value"]))), name
    page = write_comparison(found, tmp_path / "page.html").read_text()
    assert pair.sentences[0].split(",")[0] in page


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_metric_has_a_meaning_and_every_score_a_direction(evaluated, bundle):
    assert [name for name in metrics_of(evaluated[bundle][0]) if not meaning(name).words] == []
    assert all(meaning(score.name).better in ("higher", "lower") for score in SCORES)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_report_has_every_part_and_is_small(evaluated, bundle, tmp_path):
    record = read_record(evaluated[bundle][0])
    content = report_content(record)
    assert content["missing"] == {}
    assert content["headline"]
    # one validation case of the atrium is the worst alone
    assert "(worst)" in content["pictures"][0].caption
    assert len(content["pictures"]) == min(3, len(record.cases))
    assert {p.chart for p in content["figures"]} == ({True} if bundle == "atrium" else {True, False})
    assert content["curves"]
    assert write_report(record, tmp_path / "report.html").stat().st_size < 5_000_000
