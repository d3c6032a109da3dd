from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.registry import BUNDLES, Bundle, get_bundle

FUNCTIONS = ("fetch", "phantom", "check", "cases", "summarise", "figures")


@pytest.mark.parametrize("name", BUNDLES)
def test_every_function_that_a_bundle_names_is_there(name):
    bundle = get_bundle(name)
    assert all(callable(bundle.function(kind)) for kind in FUNCTIONS if getattr(bundle, kind))
    assert bundle.name == name


def test_atrium_is_whole():
    assert all(getattr(BUNDLES["atrium"], kind) for kind in FUNCTIONS)
    assert all(BUNDLES["atrium"].config(kind).is_file() for kind in ("train", "evaluate", "inference"))


def test_what_a_bundle_does_not_have_yet_is_said(tmp_path, monkeypatch):
    bundle = Bundle(name="lung", dataset_dir="data/lung", fetch="", phantom="", check="")
    with pytest.raises(UserError, match="The lung bundle has no `fetch` yet"):
        bundle.function("fetch")
    with pytest.raises(UserError, match="The lung bundle cannot be trained or used yet"):
        bundle.config("train")


def test_unknown_bundle_is_answered_with_the_nearest_and_all():
    with pytest.raises(UserError, match=r"no bundle 'artium'; did you mean 'atrium'\?\nKnown: atrium"):
        get_bundle("artium")


def test_config_outside_the_projects_folder_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no bundles/atrium/train.yaml in .* in the project's folder"):
        get_bundle("atrium").config("train")


def test_metrics_of_a_table_take_patients_where_the_task_knows_of_them(monkeypatch):
    table = {"case": ["a", "b"]}
    calls = []
    monkeypatch.setattr(
        "pipelines.evaluation.segmentation.summarise_cases", lambda cases: calls.append(cases)
    )
    monkeypatch.setattr(
        "pipelines.evaluation.classification_report.summarise", lambda cases, groups: calls.append(groups)
    )
    BUNDLES["atrium"].metrics(table, ["p", "p"])
    BUNDLES["pneumonia"].metrics(table, ["p", "p"])
    BUNDLES["pneumonia"].metrics(table)
    assert calls == [table, ["p", "p"], ["a", "b"]]
