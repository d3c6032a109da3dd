"""Seconds of nnU-Net's own 2-D training batch, and to predict a volume with and without mirroring.

    NNUNET_PYTHON scripts/peers/nnunet_speed.py DIR/imagesTr/la_017.nii.gz [--rounds 3]

After ``nnunet_convert.py`` and ``nnUNetv2_plan_and_preprocess -d 501 -c 2d``. Weights are random.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nnunet_minutes import make_predictor, make_trainer


def seconds(work: Callable[[], Any]) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    trainer = make_trainer(0, None)
    trainer.on_train_start()
    trainer.network.train()
    batch = next(trainer.dataloader_train)
    print("batch", tuple(batch["data"].shape), "threads", torch.get_num_threads(), "load", os.getloadavg()[0])
    steps = [seconds(lambda: trainer.train_step(batch)) for _ in range(given.rounds + 1)][1:]
    trainer.on_train_end()
    predictors = {mirroring: make_predictor(trainer, mirroring) for mirroring in (False, True)}
    trainer.network.eval()
    reader = trainer.plans_manager.image_reader_writer_class()
    preprocessor = trainer.configuration_manager.preprocessor_class(verbose=False)
    setting = trainer.plans_manager, trainer.configuration_manager, trainer.dataset_json
    image, properties = reader.read_images([str(given.image)])
    data = torch.from_numpy(preprocessor.run_case([str(given.image)], None, *setting)[0])
    found: dict[str, list[float]] = {"training batch": steps}
    for _ in range(given.rounds):
        for mirroring, predictor in predictors.items():
            name = f"with{'' if mirroring else 'out'} mirroring"
            network = seconds(lambda p=predictor: p.predict_logits_from_preprocessed_data(data))
            whole = seconds(lambda p=predictor: p.predict_single_npy_array(image, properties))
            found.setdefault(f"network on a volume {name}", []).append(network)
            found.setdefault(f"volume {name}, from array to mask", []).append(whole)
    for name, times in found.items():
        print(f"{name}: {statistics.median(times):.2f} s ({', '.join(f'{t:.2f}' for t in times)})")


if __name__ == "__main__":
    main()
