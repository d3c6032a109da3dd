"""A trained bundle at work: network, transforms and inferer of its ``inference.yaml`` on one input after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

from pipelines import checkpoints
from pipelines.engines import with_engine
from pipelines.files import sha256_file, sha256_json
from pipelines.predict import predict_cases, result_record
from pipelines.readers.geometry import from_ras
from pipelines.readers.inputs import VolumeInput, find_inputs
from pipelines.readers.volume import Volume, read_volume, save_mask
from pipelines.session import running_parser
from pipelines.tasks.overlay import save_overlay

logger = logging.getLogger(__name__)
# ids of a config that change nothing about a result
_WHERE = {"_meta_", "dataset_dir", "output_dir", "ckpt_path", "runs_dir", "device", "batch_size", "engine"}


def load_network(
    network: nn.Module, ckpt_path: str | Path, device: str | torch.device, engine: str = "pytorch"
) -> nn.Module:
    """Return ``network`` with the weights of ``ckpt_path``, ready for inference on ``device`` by ``engine``.

    Raises:
        UserError: see :func:`pipelines.checkpoints.load_weights` and :func:`pipelines.engines.with_engine`.
    """
    checkpoints.load_weights(network, ckpt_path)
    return with_engine(network.eval().to(device, memory_format=torch.channels_last), engine, device)


def provenance(bundle: str, ckpt_path: str | Path) -> dict[str, str]:
    """Return what a result came from: the bundle, and the hashes of the weights and of the config they meet.

    To be called while a bundle runs: the config is the running one, less where and on what it runs.
    """
    used = {name: value for name, value in running_parser().config.items() if name not in _WHERE}
    return {"bundle": bundle, "model_sha256": sha256_file(ckpt_path), "config_sha256": sha256_json(used)}


def nifti_items(dataset_dir: str | Path) -> list[dict[str, str]]:
    """Return the NIfTI files of a folder as a data list, for tools that run the bundle's own evaluator."""
    items = find_inputs([Path(dataset_dir)])
    return [{"case": item.case, "image": str(item.path)} for item in items if item.kind == "nifti"]


class VolumePrediction:
    """Segment volumes with a bundle.

    Args:
        inputs: a path, or several: files, DICOM series folders, zips, or folders of these.
        output_dir: a folder a case is written here.
        network: with its weights, on ``device``.
        preprocessing: the deterministic transforms, on ``image`` (1, X, Y, Z).
        inferer: with ``variants`` and ``average``, see :class:`~pipelines.inferers.PlanesInferer`.
        postprocessing: from ``pred`` logits to masks (1, X, Y, Z) on the input's own grid: ``unfiltered``, and
            ``pred`` with the largest component alone.
        device: where the network is.
        measure: ``(mask, spacing, unfiltered, variants) -> result``, the task's own part.
        source: see :func:`provenance`.
    """

    def __init__(
        self,
        inputs: str | Path | Sequence[str | Path],
        output_dir: str | Path,
        network: nn.Module,
        preprocessing: Compose,
        inferer: Inferer,
        postprocessing: Compose,
        device: str | torch.device,
        measure: Callable[..., dict[str, Any]],
        source: Mapping[str, str],
    ) -> None:
        self.inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
        self.output_dir, self.network, self.device = Path(output_dir), network, device
        self.preprocessing, self.inferer, self.postprocessing = preprocessing, inferer, postprocessing
        self.measure, self.source = measure, dict(source)

    def run(self) -> None:
        """Predict every input; one that cannot be read is reported and the others still run.

        Raises:
            SystemExit: with code 1 when any input failed.
        """
        from rich.console import Console

        items = find_inputs([Path(path) for path in self.inputs])
        failed = predict_cases(items, self.predict_one, self.output_dir, Console(stderr=True))
        logger.info("Results are in %s", self.output_dir)
        if failed:
            raise SystemExit(1)

    def predict_one(self, item: VolumeInput, folder: Path) -> dict[str, Any]:
        """Write mask and overlay of one input into ``folder`` and return its ``result.json``."""
        volume = read_volume(item)
        mask, unfiltered, variants = self.segment(volume)
        result = self.measure(mask, volume.spacing, unfiltered=unfiltered, variants=variants)
        save_mask(folder / "mask.nii.gz", mask, volume)
        save_overlay(volume.array, mask, volume.affine, folder / "overlay.png", item.case)
        return result_record(self.source, item, result, volume.warnings)

    @torch.inference_mode()
    def segment(self, volume: Volume) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Segment a volume (X, Y, Z) and return masks (X, Y, Z) bool on its own grid.

        Everything happens to the volume in RAS, so all 48 ways to store it give the same mask in world space.

        Returns:
            the answer, the answer before the largest component was kept, and one mask a test-time variant, the
            latter on the network's grid.
        """
        image, turn = volume.in_ras()
        sample = self.preprocessing({"image": image})
        network_image = sample["image"]
        variants = self.inferer.variants(network_image.as_tensor()[None].to(self.device), self.network)
        logits = self.inferer.average(variants)[0].cpu()
        operations = network_image.applied_operations
        sample["pred"] = MetaTensor(logits, meta=network_image.meta, applied_operations=operations)
        sample = self.postprocessing(sample)
        answer, unfiltered = (from_ras(sample[key][0].numpy() > 0, turn) for key in ("pred", "unfiltered"))
        return answer, unfiltered, [variant[0, 0].cpu().numpy() > 0.5 for variant in variants]
