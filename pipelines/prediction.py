"""A trained bundle at work: network, transforms and inferer of its ``inference.yaml`` on one input after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

from pipelines import checkpoints
from pipelines.allocator import keep_freed_memory
from pipelines.engines import with_engine
from pipelines.ensemble import Ensemble, members, paths
from pipelines.files import sha256_file, sha256_json
from pipelines.predict import Prediction, result_record
from pipelines.readers.geometry import from_ras
from pipelines.readers.inputs import VolumeInput, find_inputs
from pipelines.readers.volume import Volume, read_volume, save_mask
from pipelines.session import running_parser
from pipelines.tasks.overlay import save_overlay

# ids of a config that change nothing about a result
_WHERE = {"_meta_", "dataset_dir", "output_dir", "ckpt_path", "runs_dir", "device", "batch_size", "engine"}


def load_network(
    network: nn.Module,
    ckpt_path: str | Path | Sequence[str | Path],
    device: str | torch.device,
    engine: str = "pytorch",
) -> nn.Module:
    """Return ``network`` with the weights of ``ckpt_path``, ready for inference on ``device`` by ``engine``.

    Several checkpoints give an :class:`~pipelines.ensemble.Ensemble` of copies.

    Raises:
        UserError: see :func:`pipelines.checkpoints.load_weights` and :func:`pipelines.engines.with_engine`.
    """
    if not isinstance(ckpt_path, str | Path):
        return Ensemble([load_network(deepcopy(network), path, device, engine) for path in ckpt_path]).eval()
    checkpoints.load_weights(network, ckpt_path)
    keep_freed_memory()
    return with_engine(network.eval().to(device, memory_format=torch.channels_last), engine, device)


def provenance(bundle: str, ckpt_path: str | Path | Sequence[str | Path]) -> dict[str, Any]:
    """Return what a result came from: the bundle, and the hashes of the weights and of the config they meet.

    ``model_sha256`` is a list where several models answer together, in their order.
    To be called while a bundle runs: the config is the running one, less where and on what it runs.
    """
    used = {name: value for name, value in running_parser().config.items() if name not in _WHERE}
    hashes = [sha256_file(path) for path in paths(ckpt_path)]
    model = hashes if len(hashes) > 1 else hashes[0]
    return {"bundle": bundle, "model_sha256": model, "config_sha256": sha256_json(used)}


def nifti_items(dataset_dir: str | Path) -> list[dict[str, str]]:
    """Return the NIfTI files of a folder as a data list, for tools that run the bundle's own evaluator."""
    items = find_inputs([Path(dataset_dir)])
    return [{"case": item.case, "image": str(item.path)} for item in items if item.kind == "nifti"]


class Segmentation(NamedTuple):
    """What is known of one volume.

    Attributes:
        mask: (X, Y, Z) bool, the answer on the volume's own grid.
        unfiltered: likewise, before the largest component was kept.
        variants: one mask a test-time variant, on the network's grid; the mean over the models.
        models: one mask a model, on the network's grid; the mean over the variants.
        voxel_ml: the volume of a voxel of the network's grid.
    """

    mask: np.ndarray
    unfiltered: np.ndarray
    variants: list[np.ndarray]
    models: list[np.ndarray]
    voxel_ml: float


class VolumePrediction(Prediction):
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
        measure: ``(mask, spacing, unfiltered, variants, models, voxel_ml) -> result``, the task's own part; see
            :class:`Segmentation`.
        source: see :func:`provenance`.
        structure: what is segmented, for the pictures.
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
        source: Mapping[str, Any],
        structure: str,
    ) -> None:
        super().__init__(inputs, output_dir, network, preprocessing, device, source)
        self.inferer, self.postprocessing = inferer, postprocessing
        self.measure, self.structure = measure, structure

    def run(self) -> None:
        """Predict every input, see :meth:`~pipelines.predict.Prediction.predict_each`."""
        self.predict_each(find_inputs(self.inputs), self.predict_one)

    def predict_one(self, item: VolumeInput, folder: Path) -> dict[str, Any]:
        """Write mask and overlay of one input into ``folder`` and return its ``result.json``."""
        volume = read_volume(item)
        found = self.segment(volume)
        result = self.measure(spacing=volume.spacing, **found._asdict())
        save_mask(folder / "mask.nii.gz", found.mask, volume)
        save_overlay(
            volume.array,
            found.mask,
            volume.affine,
            folder / "overlay.png",
            item.case,
            self.structure,
            result["review"]["reasons"],
        )
        return result_record(self.source, item, result, volume.warnings)

    @torch.inference_mode()
    def segment(self, volume: Volume) -> Segmentation:
        """Segment a volume (X, Y, Z): the mean probability over models and test-time variants decides.

        Everything happens to the volume in RAS, so all 48 ways to store it give the same mask in world space.
        """
        image, turn = volume.in_ras()
        sample = self.preprocessing({"image": image})
        network_image = sample["image"]
        variants, models = self._probabilities(network_image.as_tensor()[None].to(self.device))
        logits = self.inferer.average(variants)[0].cpu()
        operations = network_image.applied_operations
        sample["pred"] = MetaTensor(logits, meta=network_image.meta, applied_operations=operations)
        sample = self.postprocessing(sample)
        answer, unfiltered = (from_ras(sample[key][0].numpy() > 0, turn) for key in ("pred", "unfiltered"))
        voxel_ml = abs(float(torch.linalg.det(network_image.affine[:3, :3]))) / 1000
        return Segmentation(answer, unfiltered, [_mask(v) for v in variants], models, voxel_ml)

    def _probabilities(self, image: torch.Tensor) -> tuple[list[torch.Tensor], list[np.ndarray]]:
        """Return the models' mean map a variant, and the mask a model that its variants' mean gives."""
        sums: list[torch.Tensor] = []
        models = []
        networks = members(self.network)
        for network in networks:
            maps = self.inferer.variants(image, network)
            models.append(_mask(sum(maps) / len(maps)))
            sums = [a + b for a, b in zip(sums, maps, strict=True)] if sums else maps
        return [total / len(networks) for total in sums], models


def _mask(probability: torch.Tensor) -> np.ndarray:
    """Return where (1, 1, X, Y, Z) is above a half, as (X, Y, Z)."""
    return probability[0, 0].cpu().numpy() > 0.5
