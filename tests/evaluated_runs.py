"""Of each bundle a tiny training and one like it with other weights, both evaluated, for tests that compare runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from conftest import EDGES, RESNET, TINY_XRAYS

CARDIAC = {**TINY_XRAYS, "max_epochs": 1, "network_def": EDGES}
PNEUMONIA = {**TINY_XRAYS, "max_epochs": 1, "train_cases": 8, "val_cases": 8, "network_def": RESNET}


def make_pairs(atrium: Path, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return bundle to two evaluated run folders, ``old`` and ``new``.

    Args:
        atrium: a finished training of the atrium bundle, of which copies are evaluated.
        folder: where everything goes.
    """
    from pipelines.phantoms.xray import write_heart_phantom, write_pneumonia_phantom

    write_heart_phantom(folder / "hearts", cases=16, seed=0, size=64)
    write_pneumonia_phantom(folder / "chests", cases=16, seed=0, size=96)
    runs = folder / "runs"
    shutil.copytree(atrium, runs / "atrium" / "old")
    (runs / "atrium" / "old" / "mlflow.json").unlink()  # its MLflow run is somebody else's
    _train("cardiac", folder / "hearts", runs, folder / "cache", CARDIAC)
    _train("pneumonia", folder / "chests", runs, folder / "cache", PNEUMONIA)
    return {bundle: _pair(runs / bundle) for bundle in ("atrium", "cardiac", "pneumonia")}


def _train(bundle: str, dataset_dir: Path, runs: Path, cache: Path, settings: dict[str, Any]) -> None:
    from pipelines.launch import run_bundle

    places = {"dataset_dir": dataset_dir, "output_dir": runs / bundle, "run_name": "old", "cache_dir": cache}
    run_bundle(f"bundles/{bundle}/train.yaml", **places, **settings)


def _pair(folder: Path) -> tuple[Path, Path]:
    from pipelines.launch import run_bundle

    old, new = folder / "old", folder / "new"
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("mlflow.json", "last.pt"))
    _change(new)
    for run in (old, new):
        run_bundle(f"bundles/{folder.name}/evaluate.yaml", ckpt_path=run, device="cpu", cases="val")
    return old, new


def _change(run: Path) -> None:
    """Give a run other weights and another learning rate."""
    import torch

    torch.manual_seed(0)
    state = torch.load(run / "model.pt", weights_only=True)
    changed = {
        k: v * (1 + 0.2 * torch.randn_like(v)) if v.is_floating_point() else v for k, v in state.items()
    }
    torch.save(changed, run / "model.pt")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "lr": 0.5}, sort_keys=False))
