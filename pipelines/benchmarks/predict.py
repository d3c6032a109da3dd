"""How fast a folder of X-rays is predicted, against the network alone."""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from pipelines.readers.xray import find_images

_SOURCE = {"bundle": "pneumonia", "model_sha256": "", "config_sha256": ""}


def benchmark_predict(
    folder: str | os.PathLike[str], rounds: int = 3, files: int = 512, batch_size: int = 16, size: int = 224
) -> dict[str, Any]:
    """Compare the pneumonia bundle's prediction with its network, in turns, so that a busy machine hits both alike.

    - ``network``: a ResNet18 without trained weights on batches that are in memory.
    - ``prediction``: everything from the files to result, overlay and summary on the disk.

    Args:
        folder: chest X-rays.
        rounds: how often to go through the folder.
        files: how many of them to take at most.
        batch_size: as in ``inference.yaml``.
        size: likewise.

    Returns:
        ``files``, ``rounds``, ``network_ms`` and ``prediction_ms``, the median round's milliseconds an image, and
        ``prediction_over_network``, the median of the rounds' ratios, each with the network before and after.

    Raises:
        UserError: the folder holds no images.
    """
    paths = [item.path for item in find_images([folder]) if not item.problem][:files]
    network = _network()
    turns = -(-min(len(paths), 128) // batch_size)
    alone = [_network_ms(network, turns, batch_size, size)]
    predicted, ratios = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            run = _prediction(paths, out, network, batch_size, size)
            predicted.append(_wall_ms(run, len(paths)))
        alone.append(_network_ms(network, turns, batch_size, size))
        ratios.append(2 * predicted[-1] / (alone[-2] + alone[-1]))
    return {
        "files": len(paths),
        "rounds": rounds,
        "network_ms": round(statistics.median(alone), 2),
        "prediction_ms": round(statistics.median(predicted), 2),
        "prediction_over_network": round(statistics.median(ratios), 2),
    }


def _network() -> Any:
    import torch
    from monai.bundle import ConfigParser

    config = ConfigParser.load_config_file("bundles/pneumonia/inference.yaml")
    network = ConfigParser({"network_def": config["network_def"]}).get_parsed_content("network_def")
    return network.eval().to(memory_format=torch.channels_last)


def _network_ms(network: Any, turns: int, batch_size: int, size: int) -> float:
    import torch

    batch = torch.rand(batch_size, 1, size, size).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(turns):
            network(batch)

    return _wall_ms(run, turns * batch_size)


def _prediction(paths: list[Path], out: str, network: Any, batch_size: int, size: int) -> Callable[[], None]:
    from monai.transforms import Compose, ScaleIntensityRanged

    from pipelines.activation import ActivationInferer
    from pipelines.evaluation.calibration import Calibration
    from pipelines.image_prediction import ImagePrediction
    from pipelines.tasks.pneumonia import PneumoniaTask

    preprocessing = Compose([ScaleIntensityRanged("image", 0, 255, 0.0, 1.0)])
    task = PneumoniaTask(ActivationInferer(), [Calibration()])
    prediction = ImagePrediction(
        paths, out, network, preprocessing, "cpu", task, _SOURCE, size=size, batch_size=batch_size
    )

    def run() -> None:
        with redirect_stderr(io.StringIO()):  # a line a case
            prediction.run()

    return run


def _wall_ms(work: Callable[[], None], images: int) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started) / images
