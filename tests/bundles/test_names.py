"""Runs of all bundles are recorded under the same names, so that MLflow's tables and charts need no set-up."""

from __future__ import annotations

import pytest
import yaml
from conftest import ROOT

from pipelines.mlflow_yaml import experiment
from pipelines.registry import find_bundles

# what a run of any bundle is told by; DESIGN's knobs
COMMON = ["dataset_dir", "output_dir", "max_epochs", "batch_size", "lr", "seed", "val_interval", "device"]
COMMON += ["train_cases", "val_cases", "num_workers", "ema_momentum", "tracking_uri", "experiment_name"]


@pytest.fixture(params=sorted(find_bundles()))
def config(request):
    text = (ROOT / "bundles" / request.param / "train.yaml").read_text(encoding="utf-8")
    return request.param, yaml.safe_load(text)


def test_what_bundles_share_has_the_same_parameter_name_in_each(config):
    assert [name for name in COMMON if name not in config[1]] == []


def test_losses_have_the_same_metric_name_in_each(config):
    assert "loss" in config[1]["train"]["key_metric"]
    assert "loss" in config[1]["validate"]["additional_metrics"]
    assert len(config[1]["validate"]["key_metric"]) == 1  # of which `best/…` is


def test_a_run_is_tagged_with_its_bundle_in_each(config):
    name, content = config
    assert content["tracker"]["tags"] == {"bundle": name}
    assert content["experiment_name"] is None
    assert experiment(name) == name
