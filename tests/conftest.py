"""A tiny phantom, an MLflow store and tiny trainings on them, shared by the tests."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401 - before what `run_bundle` imports is frozen: it looks for referrers, see gc.freeze
import pytest

ROOT = Path(__file__).parents[1]
# a network of a few thousand weights on coarse axial slices: an epoch takes a quarter of a second on one core
TINY = {
    "train_cases": 3,
    "val_cases": 1,
    "max_epochs": 4,
    "val_interval": 2,
    "batch_size": 4,
    "labelled_share": 0.75,
    "empty_share": 0.5,
    "num_workers": 0,
    "pixdim": 8.0,
    "planes": [2],
    "slice_offsets": [-1, 0, 1],
    "patch_size": [32, 32, 32],
    "device": "cpu",
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 2,
        "in_channels": "$len(@slice_offsets)",
        "out_channels": 1,
        "channels": [4, 8, 8],
        "strides": [2, 2],
    },
}
# On 32 x 32 pixels an epoch of these takes a tenth of a second. With fewer than 8 channels torch 2.13 writes beyond its
# memory where a processor has AVX2 and no AVX-512: in the gradient of a channels-last 1 x 1 convolution with a stride.
RESNET = {
    "_target_": "monai.networks.nets.ResNet",
    "block": "basic",
    "layers": [1, 1, 1, 1],
    "block_inplanes": [8, 8, 16, 16],
    "spatial_dims": 2,
    "n_input_channels": 1,
    "conv1_t_stride": 2,
    "num_classes": 1,
}
EDGES = {
    "_target_": "pipelines.heatmaps.EdgeResNet",
    "axes": "$heatmaps.edge_axes(@thorax)",
    "widen_factor": 0.125,
}
TINY_XRAYS = {"batch_size": 4, "size": 32, "device": "cpu"}


def pytest_configure(config: pytest.Config) -> None:
    """Let pass what MLflow 3.17 does to SQLAlchemy 2.1, and no user sees: Python hides such warnings by default."""
    config.addinivalue_line("filterwarnings", "ignore:.*loader strategy is deprecated:DeprecationWarning")


class HereAndNow:
    """Runs a fold in this process: importing MONAI anew takes ten times as long as a fold of a phantom."""

    error = ""

    def __init__(self, fold: int, job: dict[str, Any], threads: int) -> None:
        from pipelines.crossval.fold import run_fold

        run_fold(json.loads(json.dumps(job)))

    def poll(self) -> int:
        return 0


@pytest.fixture
def folds_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cross-validation run its folds in this process."""
    monkeypatch.setattr("pipelines.crossval.processes.FoldProcess", HereAndNow)


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run a command of ``python -m pipelines`` in this process and return its exit code."""
    from pipelines.__main__ import main

    monkeypatch.setattr(sys, "argv", ["cardiothorax", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small patients in the Decathlon's layout."""
    from pipelines.phantoms.atrium import write_phantom

    folder = tmp_path_factory.mktemp("phantom") / "Task02_Heart"
    write_phantom(folder, cases=4, seed=0, size=(24, 24, 10))
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: making one takes seconds, copying it does not."""
    import mlflow

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def use_store(folder: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put an empty store into ``folder``, point MLflow and the project's folder there, and return its URI."""
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(ROOT)
    return uri


def run_tiny(phantom: Path, runs: Path, **overrides: Any) -> Path:
    """Train through MONAI's own entry point and return the run folder; a resumed run needs no other override."""
    from pipelines.launch import run_bundle

    if "resume" not in overrides:
        overrides = {
            **TINY,
            "dataset_dir": str(phantom),
            "output_dir": str(runs),
            "run_name": "run",
            **overrides,
        }
    run_bundle("bundles/atrium/train.yaml", **overrides)
    return Path(overrides.get("resume") or runs / overrides["run_name"])


@pytest.fixture
def store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, untouched: None) -> str:
    """The URI of an MLflow store for one test, which MLFLOW_TRACKING_URI names."""
    return use_store(tmp_path, empty_store, monkeypatch)


@pytest.fixture
def train(phantom: Path, store: str, tmp_path: Path) -> Callable[..., Path]:
    """``train(**overrides) -> run folder``; it draws no pictures, which take longer than the training itself."""

    def run(**overrides: Any) -> Path:
        extras = {} if "resume" in overrides else {"whole_run#extras": []}
        return run_tiny(phantom, tmp_path / "runs", **extras, **overrides)

    return run


@pytest.fixture(scope="session")
def finished(phantom: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An uninterrupted tiny training, all of its four epochs: its run folder and its store. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch, kept_logging():
        # often enough to see anything in a run of two seconds
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
        uri = use_store(folder, empty_store, monkeypatch)
        run_dir = run_tiny(phantom, folder / "runs", run_name="reference")
    return run_dir, uri


@pytest.fixture(scope="session")
def evaluated(
    finished: tuple[Path, str], empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path]]:
    """Bundle to two evaluated runs on the same cases, see :mod:`evaluated_runs`. Not to be changed."""
    from evaluated_runs import make_pairs

    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as monkeypatch, kept_logging():
        use_store(folder, empty_store, monkeypatch)
        return make_pairs(finished[0], folder)


@pytest.fixture
def untouched() -> Iterator[None]:
    """Restore what a bundle's run changes in this process: its logging, and the number of threads."""
    with kept_logging():
        yield


class kept_logging:  # noqa: N801 - used like contextlib's own
    """Give the root logger its handlers and level back."""

    def __enter__(self) -> None:
        root = logging.getLogger()
        self.before = root.handlers[:], root.level

    def __exit__(self, *_: Any) -> None:
        root = logging.getLogger()
        for handler in set(root.handlers) - set(self.before[0]):
            handler.close()
        root.handlers[:], _ = self.before
        root.setLevel(self.before[1])


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Compute with one thread: tiny networks are faster so, and results are the same on every machine's count."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
