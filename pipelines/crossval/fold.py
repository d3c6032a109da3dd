"""One fold: train as far as it is not trained yet, then score what it holds out.

``python -m pipelines.crossval.fold`` reads what to do from its input and stops when that ends, so a fold never outlives
the cross-validation that started it.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import sha256_file
from pipelines.runs import BEST, LAST, is_finished

logger = logging.getLogger(__name__)


def run_fold(job: Mapping[str, Any]) -> None:
    """Do what is left to do of a fold, through the bundle's own ``train.yaml`` and ``evaluate.yaml``.

    Args:
        job: ``run_dir`` of the fold, its ``held_out`` cases, ``max_epochs``, the files ``train_config`` and
            ``evaluate_config``, and what to override in them: ``train`` in a new training, ``resume`` in one that goes
            on, ``evaluate``.

    Raises:
        UserError: see :func:`pipelines.launch.run_bundle`.
    """
    from pipelines.launch import run_bundle

    run_dir = Path(job["run_dir"])
    if not is_trained(run_dir, job["max_epochs"]):
        if (run_dir / LAST).is_file():
            run_bundle(job["train_config"], resume=str(run_dir), **job["resume"])
        else:
            if run_dir.is_dir():  # stopped in its first epoch, with nothing to go on with
                shutil.rmtree(run_dir)
            run_bundle(job["train_config"], **job["train"])
        gc.collect()  # engines and their handlers hold each other, and with them the training's images
    if not is_scored(run_dir, job["held_out"]):
        run_bundle(job["evaluate_config"], **job["evaluate"])


def is_trained(run_dir: Path, max_epochs: int) -> bool:
    """Whether a fold's training is done, even where it was killed before it could say so."""
    from pipelines.checkpoints import load

    if is_finished(run_dir):
        return True
    if not ((run_dir / LAST).is_file() and (run_dir / BEST).is_file()):
        return False
    return load(run_dir / LAST).get("epoch", 0) >= max_epochs


def is_scored(run_dir: Path, held_out: Sequence[str]) -> bool:
    """Whether a fold's folder has the results of its held-out cases with its present weights."""
    from pipelines.evaluation.results import read_results

    try:
        content, cases = read_results(run_dir)
    except UserError:
        return False
    scored_with = content["checkpoint"].get("sha256")
    return set(cases["case"]) == set(held_out) and scored_with == sha256_file(run_dir / BEST)


def main() -> None:
    """Run the fold that the first line of the input describes, as JSON; exit code 1 for a failure, 130 when stopped."""
    signal.signal(signal.SIGTERM, _interrupt)
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    try:
        run_fold(job)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        from pipelines.console import print_briefly

        print_briefly(*sys.exc_info())
        sys.exit(1)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _stop_when_orphaned() -> None:
    while os.read(0, 1):  # sys.stdin's own lock would be held when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
