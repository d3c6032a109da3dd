"""Train nnU-Net's 2-D configuration for a number of minutes on a processor, and score it on cases.

    NNUNET_PYTHON scripts/peers/nnunet_minutes.py DIR 10 la_017,la_018 OUT [--batch_size 12]

What is not nnU-Net's own, and nothing else is:

- Training ends when the minutes since this program's start are over; no epochs are counted. The learning rate falls
  with the time as it does with the epochs otherwise, 0.01 x (1 - share)^0.9, and is set anew for each batch.
- There is no online validation. The last weights are used, as by default. ``--batch_size`` replaces the plan's.

After ``nnunet_convert.py`` and ``nnUNetv2_plan_and_preprocess -d 501 -c 2d``.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()  # before what takes long to import

import json  # noqa: E402 (see above)
from pathlib import Path  # noqa: E402

import nibabel  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from bundle_minutes import arguments, parsed  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.paths import nnUNet_preprocessed  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

NAME = "Dataset501_Atrium"
CPU = torch.device("cpu")


def elapsed() -> float:
    """Return the seconds since this program's start."""
    return time.monotonic() - STARTED


class MinutesTrainer(nnUNetTrainer):
    """nnU-Net's trainer with a clock in place of epochs."""

    minutes = 0.0
    steps = 0

    def run_training(self) -> None:
        """Train until another batch would end too late."""
        self.on_train_start()
        self.network.train()
        whole, longest = 60 * self.minutes, 0.0
        while (now := elapsed()) + longest <= whole:
            self.optimizer.param_groups[0]["lr"] = self.initial_lr * (1 - now / whole) ** 0.9
            loss = self.train_step(next(self.dataloader_train))["loss"]
            longest, self.steps = max(longest, elapsed() - now), self.steps + 1
            print(f"{elapsed():.0f} s: batch {self.steps}, loss {loss:.3f}", flush=True)
        self.on_train_end()


def make_trainer(minutes: float, batch_size: int | None) -> MinutesTrainer:
    """Return a trainer of the one fold, see ``nnunet_convert.py``."""
    prepared = Path(nnUNet_preprocessed) / NAME
    plans, content = (json.loads((prepared / f"{n}.json").read_text()) for n in ("nnUNetPlans", "dataset"))
    if batch_size:
        plans["configurations"]["2d"]["batch_size"] = batch_size
    trainer = MinutesTrainer({**plans, "continue_training": False}, "2d", 0, content, CPU)
    trainer.minutes = minutes
    return trainer


def make_predictor(trainer: nnUNetTrainer, mirroring: bool) -> nnUNetPredictor:
    """Return nnU-Net's predictor as it is by default, for the network that a trainer has."""
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(use_mirroring=mirroring, device=CPU, allow_tqdm=False)
    weights = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [weights],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor


def dice(mask: Path, label: Path) -> float:
    """Return the Dice of two NIfTI files of one grid; that of two empty ones is 1."""
    one, other = (np.asarray(nibabel.load(path).dataobj) > 0 for path in (mask, label))
    total = one.sum() + other.sum()
    return float(2 * (one & other).sum() / total) if total else 1.0


def main() -> None:
    """Train, predict and score."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--no_mirroring", action="store_true", help="predict in a quarter of the time")
    given = parsed(parser)
    trainer = make_trainer(given.minutes[0], given.batch_size)
    trainer.run_training()
    trained = elapsed()
    cases = given.cases.split(",")
    inputs = [[str(given.dataset_dir / f"imagesTr/{case}.nii.gz")] for case in cases]
    outputs = [str(given.output_dir / case) for case in cases]
    make_predictor(trainer, not given.no_mirroring).predict_from_files_sequential(inputs, outputs)
    predicting = (elapsed() - trained) / len(cases)
    labels = given.dataset_dir / "labelsTr"
    scores = {c: dice(given.output_dir / f"{c}.nii.gz", labels / f"{c}.nii.gz") for c in cases}
    result = {"batches": trainer.steps, "train_s": trained, "predict_s": predicting, "dice": scores}
    result["mean_dice"] = float(np.mean(list(scores.values())))
    (given.output_dir / "scores.json").write_text(json.dumps(result), encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
