"""A bundle as its own YAML makes it, in a folder that is gone afterwards."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from pipelines.console import quiet
from pipelines.errors import UserError
from pipelines.registry import Bundle


class BundleObjects(ConfigWorkflow):
    """The objects that a bundle's YAML makes.

    Args:
        config_file: e.g. ``bundles/atrium/train.yaml``.
        **overrides: as on the command line; those that the YAML does not have are left away.
    """

    def __init__(self, config_file: str | Path, **overrides: Any) -> None:
        quiet()
        warnings.filterwarnings("ignore", message="parsing config_file")
        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
        super().__init__(str(config_file), logging_file=False)
        known = {name: value for name, value in overrides.items() if name in self.parser.config}
        self.parser.update(known)
        self.initialize()

    def component(self, name: str) -> Any:
        """Return an object by its id, e.g. ``train#trainer``; the same each time."""
        return self.parser.get_parsed_content(name)

    def has(self, name: str) -> bool:
        """Whether the YAML has such an id."""
        return name in self.parser


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for one benchmark: runs, caches and an MLflow store of its own are written there.

    Raises:
        UserError: ``TMPDIR`` names a folder that cannot be used; Python would take another one, maybe on another disk.
    """
    asked = os.environ.get("TMPDIR")
    if asked and Path(tempfile.gettempdir()).resolve() != Path(asked).resolve():
        raise UserError(
            f"expected a folder that can be written as TMPDIR, got {asked}\nMake it, or name another."
        )
    before = {name: os.environ.pop(name, None) for name in ("MLFLOW_TRACKING_URI",)}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        try:
            yield Path(folder)
        finally:
            os.environ.update({name: value for name, value in before.items() if value is not None})


def phantom(bundle: Bundle, folder: Path, cases: int, size: int | None = None) -> Path:
    """Write ``cases`` phantoms in the layout of the bundle's data set and return their folder.

    Args:
        bundle: whose data set it imitates.
        folder: the phantom becomes a folder in it.
        cases: how many.
        size: pixels or voxels a side; None is the size of real images.
    """
    target = folder / "phantom"
    given: dict[str, Any] = {} if size is None else {"size": size if bundle.scan else (size,) * 3}
    bundle.function("phantom")(target, cases, 0, **given)
    return target


def image_folder(dataset_dir: Path) -> Path:
    """Return the folder of a data set's images in the layouts that there are; ``dataset_dir`` itself in others."""
    folders = (dataset_dir / name for name in ("imagesTr", "stage_2_train_images"))
    return next((folder for folder in folders if folder.is_dir()), dataset_dir)


def training(bundle: Bundle, folder: Path, dataset_dir: Path | None, images: int, **overrides: Any) -> Any:
    """Return the :class:`BundleObjects` of a training in ``folder``.

    Args:
        bundle: what trains.
        folder: for its runs, caches and MLflow store.
        images: of an epoch.
        **overrides: of ``train.yaml``.
        dataset_dir: None makes a phantom that fills an epoch of ``images`` images; a real one keeps its image cache.
    """
    given: dict[str, Any] = {}
    if dataset_dir is None:
        validating = max(8, images // 8) if bundle.scan else 2
        cases = images + validating if bundle.scan else 8
        dataset_dir = phantom(bundle, folder, cases)
        given = {"train_cases": cases - validating, "val_cases": validating}
        given["cache_dir"] = str(folder / "cache")
    given |= {"dataset_dir": str(dataset_dir), "output_dir": str(folder / "runs"), "run_name": "benchmark"}
    given |= {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "experiment_name": "benchmark"}
    return BundleObjects(bundle.config("train"), **{**given, **overrides})
