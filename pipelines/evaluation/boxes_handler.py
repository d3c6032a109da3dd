"""The evaluator's handler that scores boxes and writes the result contract."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.datasets.datalist import Case
from pipelines.evaluation.boxes import edges_ratio, score_box, summarise_boxes
from pipelines.evaluation.boxes_figures import box_figure, box_figures, gallery_figure
from pipelines.evaluation.readable import PROBLEM, tell_left_out
from pipelines.evaluation.results import write_results
from pipelines.evaluation.scores import CaseScores, draw_notable
from pipelines.readers.xray import read_xray_reduced
from pipelines.runs import DATALIST, read_json

if TYPE_CHECKING:
    import pandas as pd
    from ignite.engine import Engine

_log = logging.getLogger(__name__)


def mean_box(run_dir: str | os.PathLike[str]) -> list[float] | None:
    """Return the mean of the boxes that a run trained on, as fractions of the image; None where these are unknown."""
    cases = read_json(Path(run_dir) / DATALIST).get("train", [])
    boxes = [case["box"] for case in cases if "box" in case]
    return np.mean(boxes, axis=0).tolist() if boxes else None


class BoxScores(CaseScores):
    """Scores each case of a MONAI evaluator; at the end writes the result contract and ``figures/``.

    The engine decollates. Its output holds ``pred`` (4 or 6,) edges, its batch ``label``, the reference, likewise, and
    ``case``. A case with a ``problem`` could not be read: it is told, stands in ``metrics.json`` under
    ``dataset: left_out`` with the reason, and is not scored. Scores are in pixels of the original image, whose size,
    view and spacing are read from its file; mm come from ``PixelSpacing`` alone.

    At ``EPOCH_COMPLETED`` the metrics join ``engine.state.metrics``; at ``COMPLETED`` ``cases.csv``, ``metrics.json``
    and the figures are written: ``figures/gallery.png``, ``figures/error_by_edge.png``,
    ``figures/overlay_{worst,median,best}.png`` by IoU and, where a reference ratio is known,
    ``figures/bland_altman_ratio.png``.

    Args:
        folder: where results belong.
        bundle: such as "cardiac".
        checkpoint: the evaluated file.
        dataset: ``dir`` and ``hash`` of the data set.
        cases: what is scored; each with ``image`` and, where known, ``cardiothoracic_ratio``.
        baseline: a constant box (4,) to compare with, or None, see :func:`mean_box`.

    Raises:
        UserError: at run time, when no case comes, or the results cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        bundle: str,
        checkpoint: str | os.PathLike[str],
        dataset: Mapping[str, Any],
        cases: Sequence[Case],
        baseline: Sequence[float] | None = None,
    ) -> None:
        super().__init__(folder, bundle, checkpoint, dataset)
        self.known, self.baseline = {case["case"]: case for case in cases}, baseline

    def _clear(self) -> None:
        super()._clear()
        self._boxes: list[tuple[list[float], list[float]]] = []
        self._problems: dict[str, str] = {}

    def _score(self, engine: Engine) -> None:
        for before, after in zip(engine.state.batch, engine.state.output, strict=True):
            item = {**before, **after}
            if problem := item.get(PROBLEM):
                self._problems[str(item["case"])] = problem
                continue
            prediction, reference = (item[key].flatten().tolist() for key in ("pred", "label"))
            self._boxes.append((prediction, reference))
            self._rows.append(self._row(self.known[str(item["case"])], prediction, reference))

    def _row(self, case: Case, prediction: list[float], reference: list[float]) -> dict[str, Any]:
        header = read_xray_reduced(case["image"], 16).header  # small: the header alone is wanted
        size, in_mm = (header.rows, header.columns), header.spacing_tag == "PixelSpacing"
        spacing = header.spacing if in_mm else None
        row = {"case": case["case"], "view": header.view or ""}
        row |= {"rows": header.rows, "columns": header.columns}
        row |= score_box(prediction, reference, size, spacing)
        if self.baseline:
            scores = score_box(self.baseline, reference, size, spacing)
            row |= {f"baseline_{name}": value for name, value in scores.items()}
        if len(prediction) > 4:
            known = case.get("cardiothoracic_ratio", math.nan)
            row |= {"ratio": edges_ratio(prediction), "reference_ratio": known}
        return row

    def _metrics_of(self, cases: pd.DataFrame) -> dict[str, dict[str, Any]]:
        return summarise_boxes(cases)

    def _summarise(self, engine: Engine) -> None:
        tell_left_out(self._problems, len(self.known))
        super()._summarise(engine)

    def _write(self) -> None:
        cases, figures = self._cases(), self.folder / "figures"
        left_out = {"left_out": self._problems} if self._problems else {}
        dataset = {**self.dataset, **left_out}
        write_results(self.folder, self.bundle, self.checkpoint, dataset, cases, self._metrics)
        self._tell(cases)
        box_figures(cases, figures)
        images = [self.known[name]["image"] for name in cases["case"]]
        gallery_figure(cases, images, self._boxes, figures / "gallery.png")

        def draw(row: int, name: str, path: Path) -> None:
            title = f"{cases['case'][row]} ({name}): IoU {cases['iou'][row]:.3f}"
            box_figure(images[row], *self._boxes[row], path, title)

        draw_notable(cases["iou"], figures, draw)

    def _tell(self, cases: pd.DataFrame) -> None:
        """Say what the numbers do not cover."""
        if "ratio" not in cases:
            _log.info("The network did not learn the thorax's range: no cardiothoracic ratio is scored.")
        elif self._metrics["ratio_cases_of_unknown_view"]["value"]:
            _log.warning("The view of no image is known: the ratios count as if all were PA.")
        elif other := int((cases["view"] != "PA").sum()):
            _log.info("%d images that are not PA, or of unknown view, are left out of the ratio.", other)
        if not self.baseline:
            _log.warning("The boxes of the training are unknown: there is no constant box to compare with.")
