"""What `initialize` does in the three YAMLs; the trainings of tests/bundles show the rest."""

from __future__ import annotations

import shutil
import warnings

import pytest
import yaml
from conftest import ROOT

from pipelines.errors import UserError
from pipelines.session import begin_training, running_parser


@pytest.fixture
def workflow(monkeypatch, untouched):
    """``workflow(kind, **overrides)`` starts a bundle as ``monai.bundle run`` does, up to and with `initialize`."""
    from monai.bundle import create_workflow

    monkeypatch.chdir(ROOT)

    def start(kind, **overrides):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="parsing config_file")
            return create_workflow(config_file=f"bundles/atrium/{kind}.yaml", device="cpu", **overrides)

    return start


def message(raised):
    from pipelines.console import user_error

    return str(user_error(raised.value))


def test_outside_a_bundle_a_session_cannot_begin():
    with pytest.raises(RuntimeError, match="meant to be called by an expression of a bundle"):
        running_parser()
    with pytest.raises(RuntimeError, match="meant to be called by an expression of a bundle"):
        begin_training()


def test_weights_meet_the_settings_they_were_trained_with(workflow, finished):
    config = workflow("inference", ckpt_path=str(finished[0] / "model.pt")).parser.config
    assert config["network_def"]["channels"] == [4, 8, 8]
    assert config["pixdim"] == 8.0
    assert config["planes"] == [2]


def test_what_the_command_line_gives_goes_before_the_training_s_settings(workflow, finished):
    config = workflow("evaluate", ckpt_path=str(finished[0]), pixdim=4.0).parser.config
    assert config["pixdim"] == 4.0
    assert config["slice_offsets"] == [-1, 0, 1]
    assert config["ckpt_path"] == str(finished[0] / "model.pt")


def test_a_part_that_the_command_line_gives_changes_the_training_s_own_block(workflow, finished):
    config = workflow("evaluate", ckpt_path=str(finished[0]), **{"network_def#act": "RELU"}).parser.config
    assert config["network_def"]["act"] == "RELU"
    assert config["network_def"]["channels"] == [4, 8, 8]


def test_without_a_checkpoint_the_newest_finished_run_is_taken_and_named(workflow, finished, capfd):
    config = workflow("inference", runs_dir=str(finished[0].parent)).parser.config
    assert config["ckpt_path"] == str(finished[0] / "model.pt")
    assert f"Checkpoint: {finished[0] / 'model.pt'}" in capfd.readouterr().err


def test_weights_without_a_config_beside_them_use_the_bundle_s_own_and_say_so(
    workflow, finished, tmp_path, capfd
):
    shutil.copy(finished[0] / "model.pt", tmp_path / "model.pt")
    config = workflow("inference", ckpt_path=str(tmp_path)).parser.config
    bundle = yaml.safe_load((ROOT / "bundles/atrium/inference.yaml").read_text())
    assert config["pixdim"] == bundle["pixdim"]
    assert "the bundle's own settings are used" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kind", "overrides", "expected"),
    [
        ("inference", {"ckpt_path": "{run}/modl.pt"}, "There is no checkpoint .*; did you mean '.*model.pt'"),
        ("evaluate", {"ckpt_path": "{run}/nothing"}, "There is no checkpoint"),
        ("evaluate", {"runs_dir": "{run}"}, "No finished training was found"),
        ("evaluate", {"case": "test"}, "There is no setting 'case'; did you mean 'cases'"),
        ("inference", {"flip": []}, "There is no setting 'flip'; did you mean 'flips'"),
        ("inference", {"batch_size": 0}, "batch_size must be a whole number above 0"),
    ],
)
def test_a_mistake_in_the_use_of_weights_is_told(workflow, finished, kind, overrides, expected):
    given = {name: v.format(run=finished[0]) if isinstance(v, str) else v for name, v in overrides.items()}
    with pytest.raises(RuntimeError) as raised:
        workflow(kind, **given)
    with pytest.raises(UserError, match=expected):
        raise UserError(message(raised))


def test_weights_of_another_bundle_s_run_are_refused(workflow, finished, tmp_path):
    shutil.copy(finished[0] / "model.pt", tmp_path / "model.pt")
    (tmp_path / "config.yaml").write_text("bundle_root: bundles/pneumonia")
    with pytest.raises(RuntimeError) as raised:
        workflow("inference", ckpt_path=str(tmp_path))
    assert "is a run of bundles/pneumonia, not of bundles/atrium" in message(raised)
