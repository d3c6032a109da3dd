"""Pages of runs written by hand; tests/bundles makes them of trainings, and tests/browser looks at them."""

from __future__ import annotations

import json
import shutil

import mlflow
import numpy as np
import pytest
from conftest import ROOT
from made_up import make_crossval, make_run, write_scores
from PIL import Image, PngImagePlugin

from pipelines.errors import UserError
from pipelines.reports.page import MOST_BYTES, photographs, size_of
from pipelines.reports.record import read_record
from pipelines.reports.report import log_report, report_content, write_report
from pipelines.runs import find_run, read_tracking

DICE = [0.75, 0.5, 0.875]


def draw(path, title=None, side=64, seed=0):
    """Noise, which no format makes small."""
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    known = PngImagePlugin.PngInfo()
    if title:
        known.add_text("Title", title)
    Image.fromarray(pixels).save(path, pnginfo=known)


def draw_notable(folder):
    for name in ("best", "median", "worst"):
        draw(folder / "figures" / f"overlay_{name}.png", f"{folder.name} {name}")


@pytest.fixture
def run(tmp_path):
    folder = make_run(tmp_path / "runs" / "atrium" / "run", DICE)
    draw_notable(folder)
    draw(folder / "figures" / "learning_curves.png")
    draw(folder / "figures" / "dice_by_case.png")
    return folder


def test_a_page_holds_scores_curves_figures_cases_settings_and_limits(run):
    content = report_content(read_record(run))
    assert content["headline"]["Dice"]["value"] == pytest.approx(sum(DICE) / 3)
    assert [picture.caption for picture in content["pictures"]] == ["run worst", "run median", "run best"]
    assert (len(content["curves"]), len(content["figures"])) == (1, 1)
    assert content["table"]["rows"][0] == ["la_102", "0.5"]
    assert content["missing"] == {}
    assert content["facts"]["Cases"] == "3 train, 3 val"
    page = write_report(read_record(run)).read_text()
    assert page.startswith("<!DOCTYPE html>")
    for text in (
        "Scored on 3 validation cases of Task02_Heart.",
        "Not a medical device",
        "3 patients are few",
    ):
        assert text in page
    assert "/data/someone" not in page  # where data lie is nobody else's business


def test_a_page_shows_each_part_of_the_cases_once_with_its_intervals(run):
    path = run / "metrics.json"
    content = json.loads(path.read_text())
    score = {"value": 0.625, "ci95": [0.5, 0.75], "unit": None}
    content["metrics"] |= {"auroc_view_AP": score, "baseline_auroc": score}
    content["parts"] = {
        "view_AP": {"cases": 2, "positives": 1, "metrics": {"auroc": score}},
        "age_80_and_above": {"cases": 1, "positives": 0, "metrics": {}},
    }
    path.write_text(json.dumps(content))
    page = write_report(read_record(run)).read_text()
    row = page[page.index('data-part="view_AP"') :].split("</tr>")[0]
    assert all(text in row for text in (">2<", ">1<", "0.625", "0.500 to 0.750"))
    assert 'data-part="age_80_and_above"' in page
    assert 'data-metric="baseline_auroc"' in page
    assert 'data-metric="auroc_view_AP"' not in page


def test_a_page_asks_nothing_of_the_network(run):
    page = write_report(read_record(run)).read_text()
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count('src="') == page.count('src="data:')


def test_what_is_missing_is_said_and_how_to_get_it(tmp_path):
    folder = make_run(tmp_path / "bare")
    (folder / "environment.json").unlink()
    page = write_report(read_record(folder)).read_text()
    for text in (
        "This run was not evaluated yet. Score it with",
        f"--config_file bundles/atrium/evaluate.yaml --ckpt_path {folder}",
        "There are no learning curves",
        "There are no pictures of cases",
        "There are no figures",
        "does not keep what it ran on",
    ):
        assert text in page
    (folder / "model.pt").unlink()
    assert "This run has no finished weights yet." in write_report(read_record(folder)).read_text()


def test_before_an_evaluation_the_pictures_of_the_training_are_shown(tmp_path):
    folder = make_run(tmp_path / "bare")
    draw(folder / "figures" / "validation_la_004.png", "la_004, epoch 3")
    assert [p.caption for p in report_content(read_record(folder))["pictures"]] == ["la_004, epoch 3"]


def test_a_cross_validation_shows_its_folds_curves_and_notable_cases(tmp_path):
    folder = make_crossval(tmp_path / "five", [DICE, [0.25]])
    for fold in ("fold_1", "fold_2"):
        draw_notable(folder / fold)
        draw(folder / fold / "figures" / "learning_curves.png")
    content = report_content(read_record(folder))
    assert [p.caption for p in content["pictures"]] == [
        f"fold_{fold} {name}" for name in ("worst", "median", "best") for fold in (1, 2)
    ]
    assert [p.caption.split(", ")[-1] for p in content["curves"]] == ["fold 1", "fold 2"]
    page = write_report(read_record(folder)).read_text()
    assert "Scored on 4 cases, each by the network of the fold that did not train on it." in page
    assert "trained this network" not in page


def test_scored_cases_that_were_trained_on_are_a_limit(tmp_path):
    record = read_record(make_run(tmp_path / "run", DICE, train=["la_101"]))
    assert any(text.startswith("1 of the 3 scored cases") for text in report_content(record)["limits"])


def test_another_part_has_a_page_of_its_own_and_chose_no_weights(run):
    (run / "test").mkdir()
    shutil.copy(run / "model.pt", run / "test")
    write_scores(run / "test", ["t1"], [0.5])
    page = write_report(read_record(run, "test"))
    assert page == run / "test" / "report.html"
    assert "Scored on 1 test cases" in page.read_text()
    assert "also chose which epoch" not in page.read_text()


def test_a_page_stays_below_5_mb_whatever_it_shows(run):
    for seed, name in enumerate(("worst", "median", "best")):
        draw(run / "figures" / f"overlay_{name}.png", side=1200, seed=seed)
    page = write_report(read_record(run))
    assert page.stat().st_size < 5_000_000
    assert page.read_text().count("data:image/webp") == 3


def test_pictures_that_do_not_fit_even_small_are_left_out(tmp_path):
    for seed in range(3):
        draw(tmp_path / f"{seed}.png", side=500, seed=seed)
    paths = [(tmp_path / f"{seed}.png", str(seed)) for seed in range(3)]
    all_of_them = photographs(paths)
    assert size_of(all_of_them) <= MOST_BYTES
    one = photographs(paths, most_bytes=size_of(photographs(paths[:1], 100_000)))
    assert len(one) < 3
    assert photographs([(tmp_path / "none.png", "gone")]) == []


def test_names_and_settings_are_text_in_a_page_and_no_markup(tmp_path):
    folder = make_run(tmp_path / "<i>x", DICE, note="<script>alert(1)</script>")
    page = write_report(read_record(folder)).read_text()
    assert "<i>x" not in page
    assert "<script>alert" not in page
    assert "&lt;i&gt;x" in page


def test_a_damaged_config_is_named(run):
    (run / "config.yaml").write_text("{")
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        read_record(run)


@pytest.mark.parametrize("content", ['{"train": [', '{"train": 3}', '{"train": ["la_001"]}'])
def test_a_damaged_datalist_is_named_as_nobody_would_seem_to_have_trained(run, content):
    (run / "datalist.json").write_text(content)
    with pytest.raises(UserError, match=r"datalist\.json is damaged: it does not list who trained"):
        read_record(run)


def test_a_folder_of_no_known_bundle_is_refused(tmp_path):
    folder = make_run(tmp_path / "run", bundle_root="bundles/kidney")
    with pytest.raises(UserError, match="no bundle 'kidney'"):
        read_record(folder)


def test_a_page_is_logged_to_the_runs_mlflow_run_where_there_is_one(store, tmp_path):
    folder = make_run(tmp_path / "run", DICE)
    record = read_record(folder)
    page = write_report(record)
    assert "not logged to MLflow: Run with id=" in log_report(record, page, store)
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.create_experiment("mine", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    (folder / "mlflow.json").write_text(json.dumps({"run_id": run_id}))
    assert log_report(record, page, store) == f"It is an artifact of the MLflow run {run_id} as well."
    assert [artifact.path for artifact in client.list_artifacts(run_id)] == ["report.html"]
    for damaged in ("[", '{"run_id": 7}'):
        (folder / "mlflow.json").write_text(damaged)
        assert log_report(record, page, store) == ""


def test_a_store_that_is_not_there_is_not_made(run, tmp_path):
    record = read_record(run)
    told = log_report(record, write_report(record), f"sqlite:///{tmp_path}/none.db")
    assert told.startswith("It was not logged to MLflow: there is no store")
    assert not (tmp_path / "none.db").exists()


# ---- finding a run


def test_a_run_is_found_by_folder_file_name_bundle_and_id(run, tmp_path):
    root = tmp_path / "runs"
    ways = (run, run / "model.pt", "run", "atrium/run", read_tracking(run)["run_id"])
    assert [find_run(way, root) for way in ways] == [run] * 5


def test_a_fold_is_found_below_its_cross_validation(tmp_path):
    five = make_crossval(tmp_path / "atrium" / "five", [DICE, DICE])
    assert find_run("five", tmp_path) == five
    assert find_run("five/fold_2", tmp_path) == five / "fold_2"
    assert read_record(five / "fold_2").name == "five/fold_2"


def test_a_name_of_two_runs_or_of_none_is_refused(run, tmp_path):
    root = tmp_path / "runs"
    with pytest.raises(UserError, match=r"There is no run 'rum' in runs; did you mean 'run'\?\n"):
        find_run("rum", root)
    with pytest.raises(
        UserError, match=r"is no run folder: it holds neither config\.yaml nor crossval\.json"
    ):
        find_run(tmp_path, root)
    make_run(root / "cardiac" / "run")
    with pytest.raises(UserError, match=r"'run' names 2 runs: .*atrium.run, .*cardiac.run\. Name one with"):
        find_run("run", root)
    assert find_run("cardiac/run", root) == root / "cardiac" / "run"


def test_templates_are_part_of_the_package():
    from setuptools.config.setupcfg import read_configuration

    data = read_configuration(ROOT / "setup.cfg")["options"]["package_data"]
    assert data == {"pipelines.reports": ["templates/*"]}


def test_a_page_that_cannot_be_written_is_answered(run, tmp_path):
    with pytest.raises(UserError, match=r"Cannot write the page .*: Is a directory\.\nGive another file"):
        write_report(read_record(run), tmp_path)
    assert not list(tmp_path.parent.glob(".tmp-*"))


def test_a_store_whose_driver_is_missing_costs_no_report(run, monkeypatch):
    def without_driver(**_):
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(mlflow, "MlflowClient", without_driver)
    page = write_report(read_record(run))
    logged = log_report(read_record(run), page, "postgresql://me:pw@host/db")
    assert logged == "It was not logged to MLflow: No module named 'psycopg'"
