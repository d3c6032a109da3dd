"""The evaluator's handler that scores a classification of X-rays and writes the result contract."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.checks.xray_file import examine
from pipelines.datasets.datalist import Case
from pipelines.errors import UserError
from pipelines.evaluation import calibration as calibrations
from pipelines.evaluation import classification_figures as figures
from pipelines.evaluation import header_baseline
from pipelines.evaluation.classification_report import by_part, summarise
from pipelines.evaluation.localisation import score_map
from pipelines.evaluation.readable import PROBLEM, tell_left_out
from pipelines.evaluation.results import write_results
from pipelines.evaluation.scores import draw_notable
from pipelines.readers.xray_header import XrayHeader
from pipelines.runs import DATALIST, read_json

if TYPE_CHECKING:
    import pandas as pd
    from ignite.engine import Engine

    from pipelines.evaluation.calibration import Calibration
    from pipelines.evaluation.run import Target

_SHOWN = 4  # worst errors of each kind
_SIDE = 512  # of their pictures, pixels
_log = logging.getLogger(__name__)


def without_boxes(cases: Sequence[Case]) -> list[Case]:
    """Return cases with their name, image and label alone: what a loader can stack."""
    return [{name: case[name] for name in ("case", "image", "label")} for case in cases]


class ClassificationScores:
    """Scores each case of a MONAI evaluator; at the end writes the result contract and ``figures/``.

    The engine decollates, and its items hold ``case`` and ``pred``, a class-activation map (1, h, w) in logits whose
    mean is the case's logit. A case with a ``problem`` could not be read: it is told, stands in ``metrics.json`` under
    ``dataset: left_out`` with the reason, and is not scored.

    When the part "val" of a run is scored, temperature and thresholds are fitted on it and kept as
    ``calibration.json`` beside the weights. Its own calibration error and Brier score are then those of temperatures
    fitted on other patients (five parts), and the metrics say so. Any other part is scored with what is kept.

    At ``COMPLETED`` ``cases.csv``, ``metrics.json`` and the figures are written: ``roc.png``,
    ``precision_recall.png``, ``reliability.png``, ``confusion.png``, ``errors.png``, and
    ``overlay_{worst,median,best}.png`` by how far the probability is from the label.

    Args:
        target: what is evaluated, and where the results go.
        checkpoint: the evaluated file.
        bundle: such as "pneumonia".

    Raises:
        UserError: at run time, when there is no case, one that the data list does not hold, or the results cannot be
            written.
    """

    def __init__(self, target: Target, checkpoint: str | os.PathLike[str], bundle: str) -> None:
        self.target, self.checkpoint, self.bundle = target, Path(checkpoint), bundle
        self._clear()

    def attach(self, engine: Engine) -> None:
        """Register with ``engine``, as MONAI's engines ask of their handlers."""
        from ignite.engine import Events

        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _clear(self) -> None:
        self._maps: dict[str, np.ndarray] = {}
        self._problems: dict[str, str] = {}

    def _collect(self, engine: Engine) -> None:
        for before, after in zip(engine.state.batch, engine.state.output, strict=True):
            if problem := before.get(PROBLEM):
                self._problems[str(before["case"])] = problem
            else:
                self._maps[str(before["case"])] = after["pred"][0].float().cpu().numpy()

    def _write(self) -> None:
        cases = [case for case in self.target.cases if case["case"] in self._maps]
        tell_left_out(self._problems, len(self.target.cases))
        if not cases:
            raise UserError(
                "expected at least one readable case to evaluate, got none; check the data set and the split"
            )
        maps = [self._maps[case["case"]] for case in cases]
        groups = [case.get("group", case["case"]) for case in cases]
        calibration = self._calibration(cases, maps)
        table = score_cases(cases, maps, calibration, header_baseline.load(self.target.run_dir))
        if self.target.part == "val" and calibration.cases:
            table["cross_fitted"] = calibrations.cross_fitted(
                table["logit"], table["label"], groups, calibration.offset
            )
        metrics = {**summarise(table, groups), **_constants(calibration)}
        left_out = {"left_out": self._problems} if self._problems else {}
        where = self.target.folder, self.bundle, self.checkpoint, self.target.dataset | left_out
        write_results(*where, table, metrics, by_part(table, groups))
        self._draw(cases, table, maps)
        _log.info("scores of %d cases and figures are in %s", len(cases), self.target.folder)

    def _calibration(self, cases: Sequence[Case], maps: Sequence[np.ndarray]) -> Calibration:
        """Return the calibration to score with; fit and keep it where these are the run's validation cases."""
        self._tell_seen(cases)
        kept = calibrations.load(self.checkpoint)
        labels = [case["label"] for case in cases]
        if self.target.part != "val" or len(set(labels)) < 2:
            return kept
        logits = [heat.mean(dtype=float) for heat in maps]
        calibrations.save(calibrations.fit(logits, labels, kept.offset), self.checkpoint)
        _log.info("temperature and operating points are in %s", self.checkpoint.parent / calibrations.FILE)
        return calibrations.load(self.checkpoint)

    def _tell_seen(self, cases: Sequence[Case]) -> None:
        """Say which of the scored cases the weights, the temperature or the thresholds come from."""
        split, names = read_json(self.target.run_dir / DATALIST), {case["case"] for case in cases}
        for side, purpose in (
            ("train", "trained this network"),
            ("val", "chose its weights, temperature and operating points"),
        ):
            if seen := names & {case["case"] for case in split.get(side, [])}:
                share = f"{len(seen)} of the {len(names)} scored cases"
                _log.warning("%s %s: expect less of new patients.", share, purpose)

    def _draw(self, cases: Sequence[Case], table: pd.DataFrame, maps: Sequence[np.ndarray]) -> None:
        folder = self.target.folder / "figures"
        figures.classification_figures(table, folder)
        right = 1 - (table["probability"] - table["label"]).abs()
        draw_notable(right, folder, lambda row, *of: _draw_case(cases[row], maps[row], table.iloc[row], *of))
        worst = _worst(table)
        pictures = [_overlay(cases[row], maps[row], table["probability"][row]) for row in worst]
        figures.errors_figure(pictures, [_title(table.iloc[row]) for row in worst], folder / "errors.png")


def score_cases(
    cases: Sequence[Case],
    maps: Sequence[np.ndarray],
    calibration: Calibration,
    baseline: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Return the table of ``cases.csv``: see :func:`~pipelines.evaluation.classification_report.summarise`.

    Args:
        cases: with ``case``, ``image``, ``label`` and, where they are known, ``boxes`` (N, 4) xyxy in pixels.
        maps: the class-activation map (h, w) of each, in logits.
        calibration: from logit to probability, and the thresholds.
        baseline: weights of :mod:`~pipelines.evaluation.header_baseline`.
    """
    import pandas as pd

    headers = read_headers(cases)
    table = pd.DataFrame({name: [case[name] for case in cases] for name in ("case", "label")})
    table["logit"] = [float(heat.mean(dtype=float)) for heat in maps]
    table["probability"] = calibration.probability(table["logit"])
    table["uncalibrated"] = calibrations.Calibration().probability(table["logit"])
    for point, chosen in calibration.operating_points.items():
        table[f"decision_{point}"] = (table["probability"] >= chosen["threshold"]).astype(int)
    for name in ("view", "sex", "age"):
        table[name] = [getattr(header, name) for header in headers]
    table["age"] = table["age"].astype(float)
    if baseline is not None:
        table["header_only"] = header_baseline.probability(baseline, table)
    if any(case.get("boxes") for case in cases):
        agreement = [_agreement(*of) for of in zip(cases, maps, headers, strict=True)]
        table = table.join(pd.DataFrame(agreement, columns=["pointing", "box_share", "iou"]))
    return table


def read_headers(cases: Sequence[Case]) -> list[XrayHeader]:
    """Return the header of each case's file; one that says nothing where it is no DICOM file."""
    with ThreadPoolExecutor(4) as pool:
        examined = list(pool.map(partial(examine, quick=True), cases))
    return [result.header or XrayHeader(rows=0, columns=0) for result in examined]


def _agreement(case: Case, heat: np.ndarray, header: XrayHeader) -> dict[str, float]:
    marked = case.get("boxes") and case["label"] and header.rows
    return score_map(heat, case["boxes"], (header.rows, header.columns)) if marked else {}


def _constants(calibration: Calibration) -> dict[str, dict[str, Any]]:
    values = {"temperature": calibration.temperature} if calibration.cases else {}
    values |= {
        f"threshold_{name}": point["threshold"] for name, point in calibration.operating_points.items()
    }
    return {name: {"value": value, "ci95": None, "unit": None} for name, value in values.items()}


def _worst(table: pd.DataFrame) -> list[int]:
    """Return the rows of the positives with the lowest and of the negatives with the highest probability."""
    wrong = (table["label"] > 0) != (table["probability"] >= 0.5)
    if "decision_balanced" in table:
        wrong = table["label"] != table["decision_balanced"]
    missed = table[wrong & (table["label"] > 0)].sort_values("probability", kind="stable").index[:_SHOWN]
    false = (
        table[wrong & (table["label"] <= 0)].sort_values("probability", kind="stable").index[::-1][:_SHOWN]
    )
    return [*map(int, missed), *map(int, false)]


def _overlay(case: Case, activation: np.ndarray, probability: float) -> np.ndarray:
    from pipelines.readers.xray import read_xray_shown
    from pipelines.tasks.pneumonia import heat_of, heat_over

    _, picture = read_xray_shown(case["image"], _SIDE // 2, _SIDE)
    return heat_over(picture, heat_of(activation, probability))


def _draw_case(case: Case, activation: np.ndarray, row: Mapping[str, Any], name: str, path: Path) -> None:
    from pipelines.readers.xray import read_xray_shown
    from pipelines.tasks.pneumonia import heat_of, heat_over

    read, picture = read_xray_shown(case["image"], _SIDE // 2, _SIDE)
    sides = np.array([read.header.columns, read.header.rows] * 2, dtype=float)
    boxes = np.reshape(case.get("boxes") or [], (-1, 4)) / sides
    truth = "positive" if row["label"] else "negative"
    title = f"{row['case']} ({name}): probability {row['probability']:.3f}, labelled {truth}"
    hot = heat_over(picture, heat_of(activation, row["probability"]))
    figures.case_figure(picture, hot, boxes, path, title)


def _title(row: Mapping[str, Any]) -> str:
    kind = "missed" if row["label"] else "false alarm"
    view = row["view"] if isinstance(row["view"], str) else "view unknown"
    return f"{kind}: {row['probability']:.0%}, {view}\n{row['case']}"
