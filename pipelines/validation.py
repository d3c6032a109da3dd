"""What a training keeps of its best validation: each case's score, and pictures of a few cases."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import write_text
from pipelines.runs import CASES

if TYPE_CHECKING:
    from ignite.engine import Engine

    from pipelines.tracking import RunTracker

logger = logging.getLogger(__name__)

Draw = Callable[[Mapping[str, Any], Path, str], None]
Row = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class BestCases:
    """Handler that writes ``cases.csv`` and a few pictures whenever the key metric is better than ever before.

    Args:
        draw: ``(item, path, title)`` draws one case to a file. ``item`` is what the evaluator's batch and output hold
            of the case, e.g. ``image``, ``label`` and ``pred`` (C, X, Y, Z). ``None`` draws nothing.
        pictures: how many cases to draw, the first ones of the validation set each time.
        row: what ``cases.csv`` says of a case beside its name, from its ``item``: column to number or text, the same
            columns for each. ``None`` takes the key metric's own value of the case, which it then has to keep (MONAI's
            ``save_details``). The first column stands in the pictures' titles.

    The evaluator decollates, and its items hold ``case``. Pictures are ``figures/validation_<case>.png`` in the run
    folder and, one an improvement, ``validation/epoch_<n>_<case>.png`` in MLflow.
    """

    def __init__(self, draw: Draw | None = None, pictures: int = 2, row: Row | None = None) -> None:
        self.draw, self.pictures, self.row = draw, pictures, row
        self._clear()

    def attach(self, trainer: Engine, evaluator: Engine, run_dir: Path, tracker: RunTracker) -> None:
        """Follow each run of ``evaluator``."""
        from ignite.engine import Events

        evaluator.add_event_handler(Events.STARTED, self._clear)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.COMPLETED, self._keep, run_dir, tracker)

    def _clear(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._shown: list[dict[str, Any]] = []

    def _collect(self, evaluator: Engine) -> None:
        items = [{**b, **o} for b, o in zip(evaluator.state.batch, evaluator.state.output, strict=True)]
        self._rows += [{"case": str(item["case"]), **(self.row(item) if self.row else {})} for item in items]
        if self.draw is not None:
            self._shown += items[: self.pictures - len(self._shown)]

    def _keep(self, evaluator: Engine, run_dir: Path, tracker: RunTracker) -> None:
        import pandas as pd

        state = evaluator.state
        if state.best_metric_epoch == state.epoch:
            table = pd.DataFrame(self._rows)
            if self.row is None:
                table[state.key_metric_name] = state.metric_details[state.key_metric_name].flatten().tolist()
            write_text(run_dir / CASES, table.to_csv(index=False, float_format="%.6g"))
            name_of_score = table.columns[1]
            for item, name, score in zip(self._shown, table["case"], table[name_of_score], strict=False):
                shown = f"{score:.3f}" if isinstance(score, float) else score
                title = f"{name}, epoch {state.epoch}: {name_of_score} {shown}"
                path = run_dir / "figures" / f"validation_{name}.png"
                if self._drawn(item, path, title):
                    _log_as(tracker, path, f"epoch_{state.epoch:03d}_{name}.png")
        self._clear()

    def _drawn(self, item: Mapping[str, Any], path: Path, title: str) -> bool:
        """Draw a picture and tell whether that went well: a training is worth more than a picture of it."""
        try:
            self.draw(item, path, title)
        except Exception:
            logger.warning("%s could not be drawn; the training goes on.", path.name, exc_info=True)
            return False
        return True


def _log_as(tracker: RunTracker, path: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tracker.log_files(Path(shutil.copy(path, Path(folder) / name)), folder="validation")


def draw_segmentation(item: Mapping[str, Any], path: Path, title: str) -> None:
    """Draw a segmented volume with its reference; a :data:`Draw`.

    Args:
        item: ``image``, ``pred`` and ``label`` (1, X, Y, Z), axes running to the right, front and head (RAS) in
            steps of equal length.
        path: where to write.
        title: stands above.
    """
    from pipelines.evaluation.overlays import overlay_figure

    # RAS to LPS, which overlays show in the radiological convention
    image, prediction, reference = (
        item[key][0].cpu().numpy()[::-1, ::-1] for key in ("image", "pred", "label")
    )
    overlay_figure(image, prediction > 0, reference > 0, (1.0, 1.0, 1.0), path, title)
