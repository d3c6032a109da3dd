"""Comparisons of run folders written by hand."""

from __future__ import annotations

import io
import itertools
import json
import shutil

import pytest
from made_up import ENVIRONMENT, TRAIN, make_crossval, make_run, write_scores
from rich.console import Console

from pipelines.__main__ import main
from pipelines.errors import UserError
from pipelines.evaluation.meanings import meaning
from pipelines.reports.compare_page import default_path, print_comparison, write_comparison
from pipelines.reports.comparison import compare, to_json
from pipelines.reports.record import from_store, read_record

DICE = [0.5, 0.625, 0.75, 0.5, 0.625, 0.75, 0.875, 0.5, 0.625, 0.75, 0.25, 0.5]
BETTER = [value + 0.125 for value in DICE]


def compared(*folders, part="val"):
    return compare([read_record(folder, part) for folder in folders])


@pytest.fixture
def runs(tmp_path):
    return make_run(tmp_path / "old", DICE), make_run(tmp_path / "new", BETTER, lr=0.002)


def test_a_comparison_says_what_is_better_by_how_much_and_what_differs(runs):
    found = to_json(compared(*runs))
    score = found["pairs"][0]["scores"]["mean_dice"]
    assert (score["a"], score["b"]) == pytest.approx((sum(DICE) / 12, sum(BETTER) / 12))
    assert score["words"].startswith(
        "new is better by 0.125 Dice, 95% interval 0.125 to 0.125, on 12 shared cases"
    )
    assert found["pairs"][0]["warnings"] == []
    assert found["differences"] == {
        "config": {"lr": [0.001, 0.002]},
        "data": {},
        "split": {},
        "code": {},
        "environment": {},
    }
    assert found["metrics"]["mean_dice"]["better"] == "higher"
    assert [run["value"] for run in found["metrics"]["mean_dice"]["runs"]] == [score["a"], score["b"]]
    assert found["notes"] == []
    json.dumps(found, allow_nan=False)


def test_code_versions_and_nested_settings_that_differ_are_told(runs):
    other = {**ENVIRONMENT, "git.commit": "e" * 40, "version.torch": "2.14.0"}
    (runs[1] / "environment.json").write_text(json.dumps(other))
    with open(runs[1] / "config.yaml", "a") as file:
        file.write("loss: {_target_: DiceLoss, batch: true}\n")
        file.write("tracker: {tags: {fold: '1'}}\n")  # where it is recorded is no part of the recipe
    found = compared(*runs).differences
    assert found["code"] == {"git.commit": ["a" * 40, "e" * 40]}
    assert found["environment"] == {"version.torch": ["2.13.0", "2.14.0"]}
    assert found["config"]["loss.batch"] == ["-", True]
    assert "tracker.tags.fold" not in found["config"]


def test_cases_are_paired_by_name_whatever_their_order(tmp_path):
    one = make_run(tmp_path / "one", [0.5, 0.75], val=["a", "b"])
    other = make_run(tmp_path / "other", [0.875, 0.5, 0.125], val=["b", "a", "c"])
    pair = compared(one, other).pairs[0]
    assert [table["case"].tolist() for table in pair.cases] == [["a", "b"], ["a", "b"]]
    assert pair.scores[0].value == pytest.approx(0.125 / 2)
    assert pair.warnings[1:] == [
        "other scored 1 more case that one did not: it is left out here.",
        "2 patients are few: their 95% intervals are narrower than they should be.",
    ]


def test_runs_that_share_no_case_are_not_paired(tmp_path):
    folders = make_run(tmp_path / "one", [0.5], val=["a"]), make_run(tmp_path / "other", [0.5], val=["b"])
    with pytest.raises(UserError, match=r"one and other share no scored case.*\n.*--part") as caught:
        compared(*folders)
    assert str(caught.value).count("\n") <= 2


def test_the_same_run_twice_and_runs_of_two_bundles_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="old was named twice"):
        compared(runs[0], runs[0])
    (runs[1] / "metrics.json").write_text((runs[1] / "metrics.json").read_text().replace("atrium", "cardiac"))
    with pytest.raises(UserError, match="old is a run of atrium, new one of cardiac"):
        compared(*runs)
    with pytest.raises(UserError, match="at least two runs, got 1"):
        compared(runs[0])


def test_a_scored_case_that_one_of_them_trained_on_is_warned_about(tmp_path):
    fair = make_run(tmp_path / "fair", DICE)
    unfair = make_run(tmp_path / "unfair", BETTER, train=[*TRAIN, "la_101", "la_102"])
    warnings = compared(fair, unfair).pairs[0].warnings
    assert warnings[0].startswith("unfair was trained on 2 of the 12 shared cases or their patients")
    assert warnings[1] == "The split differs: only one of the two runs has 2 cases of train."
    assert not any(warning.startswith("fair") for warning in warnings)


def test_another_image_of_a_patient_that_was_trained_on_is_warned_about(tmp_path):
    groups = {"la_001": "p1", "la_101": "p1", "la_102": "p2", "la_103": "p2"}
    run = make_run(tmp_path / "run", DICE, groups=groups)
    other = make_run(tmp_path / "other", BETTER, groups=groups)
    pair = compared(run, other).pairs[0]
    assert pair.patients == 11
    assert [w.split(":")[0] for w in pair.warnings] == [
        f"{name} was trained on 1 of the 12 shared cases or their patients" for name in ("run", "other")
    ]


def test_cases_of_one_name_with_another_reference_are_warned_about(tmp_path):
    volumes = [50.0] * 12
    one = make_run(tmp_path / "one", DICE, cases={"reference_volume_ml": volumes})
    other = make_run(tmp_path / "other", DICE, cases={"reference_volume_ml": [60.0, *volumes[1:]]})
    warnings = compared(one, other).pairs[0].warnings
    assert warnings == ["The reference of 1 shared case differs (reference_volume_ml): not the same data."]


def test_a_run_that_was_evaluated_on_another_part_alone_is_told_so(runs, tmp_path):
    bare = make_run(tmp_path / "bare")
    shutil.copytree(runs[0], bare / "all")
    assert compared(bare, *runs).notes[0] == (
        "bare was evaluated on all alone: compare that with --part, or evaluate val."
    )


def test_a_run_that_does_not_say_who_trained_it_is_told_so(runs):
    (runs[1] / "datalist.json").unlink()
    found = compared(*runs)
    assert found.notes == ["new does not say which cases it was trained on: a shared one may be among them."]
    assert found.pairs[0].warnings == []


def test_a_run_that_was_not_evaluated_is_compared_in_what_it_has(runs, tmp_path):
    bare = make_run(tmp_path / "bare", lr=0.1)
    (bare / "environment.json").unlink()
    found = compared(bare, *runs)
    assert found.pairs == []
    assert found.notes == [
        "bare was not evaluated: nothing of it can be paired.",
        "bare does not say on which code and versions it ran.",
    ]
    assert found.differences["config"]["lr"] == [0.1, 0.001, 0.002]
    assert found.metrics["mean_dice"][0] is None


def test_three_runs_are_each_compared_with_the_first(runs, tmp_path):
    pairs = compared(*runs, make_run(tmp_path / "third", DICE)).pairs
    assert [(pair.a.name, pair.b.name) for pair in pairs] == [("old", "new"), ("old", "third")]
    assert pairs[1].sentences[0] == "No difference: Dice is the same in old and third, on 12 shared cases."


def test_another_part_is_compared_where_both_have_it(runs):
    for run, value in zip(runs, (0.5, 0.75), strict=True):
        (run / "test").mkdir()
        shutil.copy(run / "model.pt", run / "test")
        write_scores(run / "test", ["t1", "t2"], [value, value])
    assert compared(*runs, part="test").pairs[0].scores[0].value == pytest.approx(0.25)
    with pytest.raises(UserError, match=r"'all' of old was not evaluated.*\nThere are: test"):
        compared(*runs, part="all")


def test_a_cross_validation_is_scored_by_the_fold_that_did_not_see_the_case(tmp_path):
    five = make_crossval(tmp_path / "five", [DICE[:4], DICE[4:]])
    again = make_crossval(tmp_path / "again", [BETTER[:4], BETTER[4:]])
    found = compared(five, again)
    assert found.pairs[0].warnings == []
    assert found.pairs[0].scores[0].value == pytest.approx(0.125)
    other_folds = compared(five, make_crossval(tmp_path / "other", [DICE[:2], DICE[2:]]))
    assert other_folds.pairs[0].warnings == ["The folds differ: the runs trained on different cases."]


@pytest.mark.parametrize("content", ["{", '{"folds_of": 3}'])
def test_a_damaged_cross_validation_is_not_taken_for_a_training(tmp_path, content):
    five = make_crossval(tmp_path / "five", [DICE[:4], DICE[4:]])
    (five / "crossval.json").write_text(content)
    with pytest.raises(UserError, match=r"crossval\.json is damaged: it does not say who is in which fold"):
        read_record(five)


def test_a_cross_validation_and_a_training_say_that_their_splits_differ(runs, tmp_path):
    five = make_crossval(tmp_path / "five", [DICE[:4], DICE[4:]])
    with open(runs[1] / "config.yaml", "a") as file:
        file.write("train_cases: 16\n")  # told as a difference of the split
    found = compared(five, runs[1])
    assert found.pairs[0].warnings == [
        "One is a cross-validation and the other is not: they trained on different cases."
    ]
    assert found.differences["split"]["kind"] == ["cross-validation, 2 folds", "one split"]
    assert found.differences["config"] == {"lr": [0.001, 0.002]}


def test_the_terminal_shows_warnings_scores_metrics_and_differences(runs, tmp_path):
    unfair = make_run(tmp_path / "unfair", BETTER, train=["la_101"], max_epochs=9)
    console = Console(file=io.StringIO(), width=100, color_system=None)
    print_comparison(compared(runs[0], unfair), console)
    printed = console.file.getvalue()
    for text in (
        "Warning: unfair was trained on 1 of",
        "unfair is better by 0.125 Dice",
        "Dice ↑",
        "mean_dice ↑",
    ):
        assert text in printed
    assert "max_epochs" in printed
    assert "Code: no difference." in printed


@pytest.mark.parametrize("count", [2, 3])
def test_a_narrow_terminal_keeps_names_and_intervals_whole(tmp_path, count):
    scores = {"a": DICE, "b": BETTER, "c": DICE}
    runs = [make_run(tmp_path / (name * 20), dice) for name, dice in scores.items()][:count]
    long = "mean_absolute_volume_error_percent"
    for run in runs:
        content = json.loads((run / "metrics.json").read_text())
        content["metrics"][long] = content["metrics"]["mean_dice"]
        (run / "metrics.json").write_text(json.dumps(content))
    console = Console(file=io.StringIO(), width=80, color_system=None)
    print_comparison(compared(*runs), console)
    printed = console.file.getvalue()
    assert "…" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    row, below = next(itertools.pairwise(printed[printed.index(long[:20]) :].splitlines()))
    cells = [cell.strip() for cell in below.split("│")]
    assert f"{row.split()[0]}{cells[1]}" in (long, f"{long}↓", f"{long} ↓")
    ends = json.loads((runs[0] / "metrics.json").read_text())["metrics"][long]["ci95"]
    assert cells[2] == f"{ends[0]:.3f} to {ends[1]:.3f}"


def test_a_terminal_leaves_scores_of_parts_to_the_page(runs):
    content = json.loads((runs[0] / "metrics.json").read_text())
    content["metrics"]["auroc_view_AP"] = content["metrics"]["mean_dice"]
    content["parts"] = {"view_AP": {"cases": 2, "positives": 1, "metrics": {}}}
    (runs[0] / "metrics.json").write_text(json.dumps(content))
    console = Console(file=io.StringIO(), width=100, color_system=None)
    print_comparison(compared(*runs), console)
    assert "auroc_view_AP" not in console.file.getvalue()
    assert "Scores of parts of the cases are on the page." in console.file.getvalue()
    assert "auroc_view_AP" in to_json(compared(*runs))["metrics"]


def test_the_page_stands_beside_the_first_run_and_says_the_same(runs):
    found = compared(*runs)
    path = write_comparison(found, default_path(found))
    assert path == runs[0].parent / "compare_old_new.html"
    page = path.read_text()
    assert "new is better by 0.125 Dice, 95% interval 0.125 to 0.125, on 12 shared cases" in page
    assert '<tr class="better" data-score="mean_dice">' in page
    assert "http://" not in page.replace("http-equiv", "")
    assert 'src="data:image/png;base64,' in page


def test_what_runs_are_called_is_text_in_a_page_and_no_markup(tmp_path):
    runs = (
        make_run(tmp_path / "<b>a&", DICE),
        make_run(tmp_path / "$x_1$", BETTER, note="<script>alert(1)</script>"),
    )
    page = write_comparison(compared(*runs), tmp_path / "page.html").read_text()
    assert "&lt;b&gt;a&amp;" in page
    assert "<b>a" not in page
    assert "<script>alert" not in page


def test_the_command_takes_names_and_gives_json_without_writing_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run("runs/atrium/old", DICE)
    make_run("runs/atrium/new", BETTER)
    monkeypatch.setattr("sys.argv", ["pipelines", "compare", "old", "new", "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["pairs"][0]["scores"]["mean_dice"]["verdict"] == "better"
    assert list(tmp_path.glob("**/*.html")) == []
    monkeypatch.setattr("sys.argv", ["pipelines", "compare", "old", "new", "--html", "page.html"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.strip().endswith("The page is page.html")
    assert (tmp_path / "page.html").is_file()


def test_the_environment_of_an_older_run_comes_from_its_mlflow_tags(finished, runs):
    folder, uri = finished
    found = from_store(read_record(folder), uri)
    assert found == read_record(folder).environment
    assert {"git.commit", "version.torch", "host.kind"} <= set(found)
    assert from_store(read_record(runs[0]), uri) == {}
    assert from_store(read_record(runs[0]), f"sqlite:///{runs[0]}/none.db") == {}
    assert not (runs[0] / "none.db").exists()


def test_metrics_know_their_direction():
    directions = {
        "mean_dice": "higher",
        "mean_hd95_mm": "lower",
        "volume_bias_ml": "zero",
        "mean_volume_ml": None,
        "auroc_view_AP": "higher",
        "brier_uncalibrated": "lower",
        "auroc_header_only": None,
        "baseline_mae_x0_px": None,
        "mae_x0_px": "lower",
        "cardiomegaly_specificity": "higher",
        "unheard_of": None,
    }
    assert {name: meaning(name).better for name in directions} == directions
