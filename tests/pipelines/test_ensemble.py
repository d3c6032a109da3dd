from __future__ import annotations

import json

import pytest
import torch

from pipelines.checkpoints import save
from pipelines.ensemble import Ensemble, find_checkpoints, members, require_alike
from pipelines.errors import UserError
from pipelines.prediction import load_network


def run(folder, finished=True):
    folder.mkdir(parents=True)
    if finished:
        (folder / "model.pt").touch()
    return folder


def cross_validation(folder, folds):
    folder.mkdir()
    (folder / "crossval.json").write_text(json.dumps({"folds": folds}))
    return folder


def test_files_run_folders_and_cross_validations_are_found_in_their_order(tmp_path):
    folder = cross_validation(tmp_path / "folds", 11)
    folds = [run(folder / f"fold_{number}") / "model.pt" for number in range(1, 12)]
    one = run(tmp_path / "one")
    (one / "last.pt").touch()
    assert find_checkpoints(str(one), tmp_path) == [one / "model.pt"]
    assert find_checkpoints([one / "last.pt", folder], tmp_path) == [one / "last.pt", *folds]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["folds"], "folds has not ended: no final model.pt in fold_2, fold_3"),
        (["damaged"], r"crossval\.json is damaged: it does not say how many folds"),
        (["one", "one/model.pt"], "one/model.pt is named twice"),
        (["one", "onne"], "no checkpoint .*onne; did you mean '.*one'"),
    ],
)
def test_what_cannot_answer_together_is_refused(tmp_path, monkeypatch, named, message):
    monkeypatch.chdir(tmp_path)
    folder = cross_validation(tmp_path / "folds", 3)
    run(folder / "fold_1")
    run(folder / "fold_2", finished=False)
    run(tmp_path / "one")
    cross_validation(tmp_path / "damaged", "three")
    with pytest.raises(UserError, match=message) as refused:
        find_checkpoints(named, "runs")
    assert len(str(refused.value).splitlines()) <= 3


def test_the_best_weights_so_far_of_a_fold_that_still_trains_are_not_its_last_word(tmp_path):
    folder = cross_validation(tmp_path / "folds", 2)
    for number, status in ((1, "FINISHED"), (2, "RUNNING")):
        path = run(folder / f"fold_{number}") / "mlflow.json"
        path.write_text(json.dumps({"run_id": "1", "status": status}))
    with pytest.raises(UserError, match=r"no final model\.pt in fold_2\."):
        find_checkpoints(folder, "runs")
    (
        folder / "metrics.json"
    ).touch()  # all folds were scored since, though one could not say that it had ended
    assert len(find_checkpoints(folder, "runs")) == 2


def test_models_of_one_recipe_belong_together_and_others_are_told_by_what_differs():
    network = {"_target_": "UNet", "channels": [4, 8], "strides": [2]}
    recipe = {"pixdim": 1.0, "network_def": network, "transforms": [{"keys": "image"}, {"k": 16}]}
    require_alike({"a": recipe})
    require_alike({"a": recipe, "b": dict(recipe), "c": dict(recipe)})
    for name, value, shown in [
        ("pixdim", 2.0, "a: 1.0\nc: 2.0"),
        ("network_def", network | {"channels": [4]}, r"a: {'channels': \[4, 8\]}\nc: {'channels': \[4\]}"),
        ("transforms", [{"keys": "image"}, {"k": 8}], "a: {'k': 16}\nc: {'k': 8}"),
    ]:
        with pytest.raises(UserError, match=f"{name} differs.\n{shown}$"):
            require_alike({"a": recipe, "b": recipe, "c": recipe | {name: value}})


def test_each_of_several_checkpoints_gets_a_network_of_its_own(tmp_path):
    paths = [str(tmp_path / f"{bias}.pt") for bias in (1.0, 2.0)]
    for path, bias in zip(paths, (1.0, 2.0), strict=True):
        save({"weight": torch.ones(1, 1), "bias": torch.tensor([bias])}, path)
    together = load_network(torch.nn.Linear(1, 1), paths, "cpu")
    assert isinstance(together, Ensemble)
    assert not together.training
    assert [network.bias.item() for network in members(together)] == [1.0, 2.0]
    assert together(torch.zeros(1, 1)).item() == 1.5
    alone = load_network(torch.nn.Linear(1, 1), paths[0], "cpu")
    assert members(alone) == [alone]
