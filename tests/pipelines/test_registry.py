from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.registry import Bundle, find_bundles, get_bundle

FUNCTIONS = ("fetch", "phantom", "check", "cases", "summarise", "figures")


@pytest.mark.parametrize("name", find_bundles())
def test_every_function_that_a_bundle_names_is_there(name):
    bundle = get_bundle(name)
    assert all(callable(bundle.function(kind)) for kind in FUNCTIONS if getattr(bundle, kind))
    assert bundle.name == name


def test_atrium_is_whole():
    assert all(getattr(get_bundle("atrium"), kind) for kind in FUNCTIONS)
    assert all(get_bundle("atrium").config(kind).is_file() for kind in ("train", "evaluate", "inference"))


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
    get_bundle("atrium").metrics(table, ["p", "p"])
    get_bundle("pneumonia").metrics(table, ["p", "p"])
    get_bundle("pneumonia").metrics(table)
    assert calls == [table, ["p", "p"], ["a", "b"]]


def test_a_folder_with_a_data_yaml_is_a_bundle(tmp_path, monkeypatch):
    (tmp_path / "bundles" / "lung").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "lung" not in find_bundles()
    (tmp_path / "bundles" / "lung" / "data.yaml").write_text(
        "dataset_dir: data/lungs\nphantom: os.path:join\n"
    )
    bundle = get_bundle("lung")
    assert bundle == Bundle("lung", "data/lungs", phantom="os.path:join")
    assert bundle.function("phantom")("a", "b") == "a/b"
    assert {"atrium", "pneumonia", "cardiac"} < set(find_bundles())


@pytest.mark.parametrize("content", ["", "- a", "{", "fetch: a:b", "dataset_dir: data\nphantoms: a:b"])
def test_a_damaged_data_yaml_names_what_it_may_hold(tmp_path, monkeypatch, content):
    (tmp_path / "bundles" / "lung").mkdir(parents=True)
    (tmp_path / "bundles" / "lung" / "data.yaml").write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"lung/data.yaml is damaged: [\s\S]*It may hold dataset_dir, fetch"
    ) as refused:
        get_bundle("lung")
    assert len(str(refused.value).splitlines()) <= 3
