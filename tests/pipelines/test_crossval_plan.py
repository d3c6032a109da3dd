from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from pipelines.crossval import run
from pipelines.crossval.plan import draw_plan, read_plan, require_same
from pipelines.datasets import images
from pipelines.errors import UserError
from pipelines.registry import get_bundle
from pipelines.runs import CROSSVAL

ATRIUM, PNEUMONIA = get_bundle("atrium"), get_bundle("pneumonia")
SETTINGS = {"dataset_dir": "data/heart", "max_epochs": 3, "lr": 0.1, "device": "cpu", "seed": 0}
CASES = [{"case": f"la_{i:03d}"} for i in range(1, 13)]
XRAYS = [{"case": f"x{i}", "group": f"p{i // 2}", "label": i % 2} for i in range(24)]


def plan(bundle=ATRIUM, cases=CASES, overrides=(), **options):
    return draw_plan(bundle, "cv", cases, SETTINGS, dict(overrides), **{"folds": 3, **options})


@pytest.mark.parametrize(
    "drawn", [plan(), plan(overrides={"val_cases": 3}), plan(PNEUMONIA, XRAYS, last=True)]
)
def test_no_case_that_a_fold_is_scored_on_trains_or_validates_in_it(drawn):
    for fold in (1, 2, 3):
        sides = drawn.sides(fold)
        assert {name for name, of in drawn.folds_of.items() if of == fold} == set(sides["held_out"])
        assert sorted(name for names in sides.values() for name in names) == sorted(drawn.folds_of)
    assert drawn.part == "test"


def test_val_cases_is_how_many_patients_validate_in_each_fold():
    assert [len(plan(overrides={"val_cases": 3}).sides(fold)["val"]) for fold in (1, 2, 3)] == [3, 3, 3]
    with pytest.raises(UserError, match=r"val_cases must be how many .* got \['la_001'\]"):
        plan(overrides={"val_cases": ["la_001"]})


def test_after_the_last_epoch_the_held_out_cases_validate_and_all_others_train():
    drawn = plan(last=True)
    assert drawn.sides(1)["val"] == drawn.sides(1)["held_out"]
    assert len(drawn.sides(1)["train"]) == 8
    assert drawn.part == "val"


def test_the_hash_is_of_the_folds_of_who_validates_and_of_the_data():
    assert plan().hash == plan(cases=CASES[::-1], overrides={"lr": 0.2}).hash
    others = [plan(seed=1), plan(overrides={"val_cases": 2}), plan(cases=[*CASES[1:], {"case": "new"}])]
    others.append(plan(cases=[*CASES[1:], {**CASES[0], "note": "another content"}]))
    assert len({plan().hash, *(other.hash for other in others)}) == 5


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan(overrides={"lr": 0.1}).write(tmp_path)
    assert read_plan(tmp_path) == plan(overrides={"lr": 0.1})
    plan(overrides={"tracking_uri": "http://me:secret@server"}).write(tmp_path)
    content = json.loads((tmp_path / CROSSVAL).read_text())
    assert content["overrides"] == {}
    assert {"bundle", "name", "folds", "seed", "hash", "overrides", "folds_of"} <= set(content)


@pytest.mark.parametrize(
    "damage", [lambda text: "{", lambda text: text.replace('"folds_of": {', '"folds_of": 3, "x": {')]
)
def test_a_damaged_plan_is_refused(tmp_path, damage):
    plan().write(tmp_path)
    (tmp_path / CROSSVAL).write_text(damage((tmp_path / CROSSVAL).read_text()))
    with pytest.raises(UserError, match=r"crossval\.json is missing or damaged"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    ("now", "settings", "message"),
    [
        (plan(folds=2), SETTINGS, r"folds was 3 and is 2\."),
        (plan(seed=4), SETTINGS, r"fold_seed was 0 and is 4\."),
        (plan(last=True), SETTINGS, r"last was False and is True\."),
        (plan(overrides={"val_cases": 2}), SETTINGS, r"other cases are held out or validate \(val_cases"),
        (
            plan(),
            {**SETTINGS, "max_epochs": 4, "lr": 1},
            r"max_epochs was 3 and is 4; lr was 0\.1 and is 1\.",
        ),
        (plan(), {**SETTINGS, "seed": list(range(99))}, r"seed was 0 and is \[0, 1, 2, .*\.\.\.\."),
        (plan(cases=CASES[1:]), SETTINGS, r"1 of its cases are gone from the data set, such as 'la_001'\."),
        (plan(cases=[*CASES, {"case": "z"}]), SETTINGS, r"1 cases of the data set are new, such as 'z'\."),
        (
            plan(cases=[*CASES[1:], {**CASES[0], "note": 1}]),
            SETTINGS,
            r"the files or tables of the data set have changed\.",
        ),
    ],
)
def test_what_differs_from_a_begun_cross_validation_is_named(tmp_path, now, settings, message):
    plan().write(tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        require_same(tmp_path, now, settings, SETTINGS)
    assert "or another --name" in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


def test_where_it_is_computed_and_where_the_data_lie_may_change(tmp_path):
    plan().write(tmp_path)
    moved = {**SETTINGS, "device": "cuda", "dataset_dir": "elsewhere/heart", "num_workers": 2}
    require_same(tmp_path, replace(plan(), overrides={"device": "cuda"}), moved, SETTINGS)


def test_xrays_that_cannot_be_read_are_told_before_any_fold_trains(monkeypatch):
    failures = pd.DataFrame([{"case": "p7", "reason": "cut short"}])
    monkeypatch.setattr(images, "prepare_cases", lambda *_: SimpleNamespace(failures=failures))
    config = {"cache_dir": "cache", "size": 64, "dataset_dir": "rsna"}
    with pytest.raises(UserError, match=r"^1 X-rays cannot be read, the first is p7 \(cut short\)\."):
        run._prepare_images(SimpleNamespace(bundle=PNEUMONIA, config=config, cases=[]))
