"""What the three trainings do on a GPU, as far as it can be told without one."""

from __future__ import annotations

import os

import pytest
import torch
from conftest import ROOT
from monai.bundle import ConfigParser

from pipelines.devices import on_gpu, worker_count
from pipelines.registry import find_bundles


@pytest.fixture(params=sorted(find_bundles()))
def resolved(request, monkeypatch):
    """``resolved(device, "id", …)``: what ids of a bundle's train.yaml are on a device."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3)), raising=False)

    def get(device, *ids, **overrides):
        parser = ConfigParser()
        parser.read_config(f"bundles/{request.param}/train.yaml")
        parser.config.update({"device": device, **overrides})
        return [parser.get_parsed_content(name) for name in ids]

    return get


AHEAD = "train#dataloader#num_workers", "train#dataloader#pin_memory", "train#trainer#non_blocking"
MIXED = "train#trainer#amp", "validate#evaluator#amp"


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_on_a_gpu_batches_are_made_ahead_and_moved_from_locked_pages_and_precision_is_mixed(resolved, device):
    assert resolved(device, *AHEAD) == [3, True, True]
    assert resolved(device, *MIXED) == [True, True]


def test_on_a_cpu_the_network_has_the_cores_to_itself(resolved):
    assert resolved("cpu", *AHEAD) == [0, False, True]
    assert resolved("cpu", *MIXED) == [False, False]


def test_a_number_of_workers_that_is_asked_for_is_taken(resolved):
    assert resolved("cuda", AHEAD[0], num_workers=0) == [0]
    assert resolved("cpu", AHEAD[0], num_workers=2) == [2]


def test_there_are_no_more_than_four_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert worker_count(None, "cuda") == 4


def test_a_device_is_known_by_name_or_as_it_is():
    assert on_gpu(torch.device("cuda", 1))
    assert not on_gpu(torch.device("cpu"))
    assert not on_gpu("mps")
