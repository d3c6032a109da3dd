from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.settings import check_values, is_expression, parameters, refuse_unknown, resumed

CONFIG = {
    "imports": ["$import torch"],
    "max_epochs": 3,
    "lr": 0.1,
    "network": {"_target_": "UNet", "lr": "@lr"},
    "train": {"volumes": {"_target_": "Cache"}, "handlers": []},
    "run": "$@network",
}


def test_an_override_of_what_the_files_define_passes():
    refuse_unknown(
        CONFIG | {"max_epochs": 1},
        {"max_epochs": 1, "train#volumes#limit": 2, "+train#handlers": [1]},
        CONFIG,
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_epoch", "max_epochs"),
        ("maxepochs", "max_epochs"),
        ("train#volume", "train::volumes"),
        ("Lr", "lr"),
    ],
)
def test_an_override_of_nothing_names_the_nearest_id(name, meant):
    with pytest.raises(UserError, match=f"There is no setting '.*'; did you mean '{meant}'") as refused:
        refuse_unknown(CONFIG, {name: 1}, CONFIG)
    assert len(str(refused.value).splitlines()) == 2


def test_the_known_ids_are_told_without_the_wiring():
    with pytest.raises(UserError, match=r"Known: lr, max_epochs, network, train\.$"):
        refuse_unknown(CONFIG, {"zzz": 1}, CONFIG)


def test_a_replaced_block_may_leave_a_setting_of_the_file_without_use():
    scheduled = CONFIG | {
        "total_steps": 9,
        "scheduler": {"steps": "@total_steps"},
        "run": "$@network, @scheduler",
    }
    refuse_unknown(scheduled | {"scheduler": {"factor": 1.0}}, {"scheduler": {"factor": 1.0}}, scheduled)


def test_a_setting_of_the_file_that_nothing_uses_is_refused():
    with pytest.raises(UserError, match="There is no setting 'max_epoch'; did you mean 'max_epochs'"):
        refuse_unknown(CONFIG | {"max_epoch": 1}, {}, {})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("max_epochs", [1, 75], [0, -1, 1.5, True, "ten", None]),
        ("num_workers", [0, 4, None], [-1, "a", True]),
        ("lr", [1e-3, 1], [0, -1, "banana", float("nan"), None, True]),
        ("ema_momentum", [0.01], [0, 1, 2]),
        ("empty_share", [0, 0.5, 1], [-0.1, 1.1, "all"]),
        ("patch_size", [[96, 64, 32]], [96, [], [96, 64], [0, 1, 1], ["a"] * 3]),
        ("planes", [[2], [0, 1, 2]], [[3], [], 2]),
        ("slice_offsets", [[0], [-1, 0, 1]], [[], [0.5], 3]),
        ("dataset_dir", ["data", None, ["a", "b"]], ["", 5, [], [""]]),
        ("resume", [None, "runs/a"], [True, 1]),
        ("run_name", [None, "a"], [12, 1.5]),
        ("device", ["cpu"], ["gpu", "cuda:99", "cpuu", 3.5]),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_expected(name, good, bad):
    for value in good:
        check_values({name: value}.get, {name})
    for value in bad:
        with pytest.raises(UserError, match=rf"^{name} must be .+, got "):
            check_values({name: value}.get, {name})


@pytest.mark.parametrize(
    ("value", "expected"), [("$1 + 1", True), ("@lr", True), ("%a", True), ("a", False), (1, False)]
)
def test_expressions_are_told_from_values(value, expected):
    assert is_expression(value) is expected


def test_a_resumed_run_takes_its_own_config_and_tells_what_changes():
    config, told = resumed({"max_epochs": 3, "lr": 0.1}, {"resume": "runs/a", "max_epochs": 5, "lr": 0.1})
    assert config == {"max_epochs": 5, "lr": 0.1}
    assert told == ["Resuming with max_epochs = 5 instead of 3."]


@pytest.mark.parametrize("name", ["lr", "seed", "train#volumes", "run_name", "output_dir"])
def test_what_makes_a_run_what_it_is_cannot_change_when_it_is_resumed(name):
    with pytest.raises(UserError, match=f"{name} cannot change when a run is resumed"):
        resumed({"lr": 0.1, "seed": 0}, {name: 7})


def test_parameters_are_the_plain_settings():
    config = CONFIG | {
        "planes": [[0], [1]],
        "device": "$'cpu'",
        "run_dir": "a",
        "resume": "b",
        "handlers": [{"a": 1}],
    }
    assert parameters(config) == {"max_epochs": 3, "lr": 0.1, "planes": [[0], [1]]}


COMPONENTS = CONFIG | {"pad": {"_target_": "Flipd", "keys": "image"}, "steps": [{"_target_": "Flipd"}]}


@pytest.mark.parametrize(
    ("name", "meant"),
    [("pad#key", "pad::keys"), ("pad::spatial_axes", "pad::spatial_axis"), ("steps#0#key", "steps::0::keys")],
)
def test_an_argument_that_a_component_does_not_take_names_the_nearest_one(name, meant):
    with pytest.raises(UserError, match=f"did you mean '{meant}'") as refused:
        refuse_unknown(COMPONENTS | {"x": ["@pad", "@steps"]}, {name: 1}, COMPONENTS)
    assert "_target_" not in str(refused.value)


def test_a_part_that_a_list_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"There is no setting 'steps::7'[\s\S]*Known: steps::0\."):
        refuse_unknown(COMPONENTS, {"steps#7": 1}, COMPONENTS)
