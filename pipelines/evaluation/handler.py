"""The evaluator's handler that scores whole volumes and writes the result contract."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluation.figures import segmentation_figures
from pipelines.evaluation.overlays import Excerpt, draw_excerpt, excerpt
from pipelines.evaluation.results import write_results
from pipelines.evaluation.scores import CaseScores, draw_notable
from pipelines.evaluation.segmentation import score_case, summarise_cases
from pipelines.readers.geometry import is_one_grid

if TYPE_CHECKING:
    import pandas as pd
    from ignite.engine import Engine
    from monai.data import MetaTensor

_KEYS = ("case", "pred", "reference", "original")
_log = logging.getLogger(__name__)


class SegmentationScores(CaseScores):
    """Scores each case of a MONAI evaluator; at the end writes the result contract and ``figures/``.

    The engine decollates. Its output and batch together (MONAI leaves in the batch what postprocessing found
    there) hold for each item

    - ``pred``: (1, X, Y, Z) MetaTensor of 0 and 1, on the original grid;
    - ``reference``: (1, X, Y, Z) MetaTensor of 0 and 1, the original label; its affine gives the spacing;
    - ``original``: (1, X, Y, Z) MetaTensor, the image's own intensities on the same grid, for overlays;
    - ``case``: the case's name, each once.

    At ``EPOCH_COMPLETED`` the values of the metrics (``mean_dice``, ``volume_bias_ml``, …; undefined ones
    left out) join ``engine.state.metrics``: handlers that log metrics at that event see them when attached
    after this one. At ``COMPLETED`` ``cases.csv``, ``metrics.json`` and the figures are written:
    ``figures/bland_altman.png``, ``figures/dice_by_case.png`` and ``figures/overlay_{worst,median,best}.png``
    by Dice; with one case the worst alone, with two worst and best.

    Of each case only its scores and five slices around the masks are kept (uint8, about 0.3 MB).

    Args:
        folder: the run's folder, or another where results belong.
        bundle: such as "atrium".
        checkpoint: the evaluated file.
        dataset: ``dir`` and ``hash`` of the data set.

    Raises:
        UserError: at run time, when an item lacks a key, a mask holds anything but 0 and 1 or is off the grid
            of its reference, a case comes twice or no case comes, or the results cannot be written.
    """

    def _clear(self) -> None:
        super()._clear()
        self._shown: list[tuple[Excerpt, np.ndarray]] = []

    def _score(self, engine: Engine) -> None:
        for item in _items(engine):
            if missing := [key for key in _KEYS if key not in item]:
                raise UserError(
                    f"scoring needs {', '.join(_KEYS)} in each item of the evaluator's batch or output, but "
                    f"{', '.join(missing)} is missing; add it in the transforms of evaluate.yaml"
                )
            case = str(item["case"])
            _require_masks_on_one_grid(item, case)
            prediction, reference, image = (_lps(item[key]) for key in ("pred", "reference", "original"))
            spacing = reference.pixdim.numpy()
            masks = prediction[0].numpy() > 0, reference[0].numpy() > 0
            self._rows.append({"case": case, **score_case(*masks, spacing)})
            self._shown.append((excerpt(image[0].numpy(), *masks, spacing), spacing))

    def _metrics_of(self, cases: pd.DataFrame) -> dict[str, dict[str, Any]]:
        return summarise_cases(cases)

    def _write(self) -> None:
        cases = self._cases()
        write_results(self.folder, self.bundle, self.checkpoint, self.dataset, cases, self._metrics)
        figures = self.folder / "figures"
        segmentation_figures(cases, figures)

        def draw(row: int, name: str, path: Path) -> None:
            title = f"{cases['case'][row]} ({name}): Dice {cases['dice'][row]:.3f}"
            draw_excerpt(*self._shown[row], path, title)

        draw_notable(cases["dice"], figures, draw)
        _log.info("scores of %d cases and figures are in %s", len(cases), self.folder)


def _items(engine: Engine) -> list[dict[str, Any]]:
    """Return the decollated items, the batch's keys under the output's."""
    batch, output = engine.state.batch, engine.state.output
    if not isinstance(batch, list):
        batch = [{}] * len(output)
    return [{**before, **after} for before, after in zip(batch, output, strict=True)]


def _require_masks_on_one_grid(item: Mapping[str, Any], case: str) -> None:
    reference = item["reference"]
    for key in ("pred", "reference"):
        if len(item[key]) != 1 or bool(((item[key] != 0) & (item[key] != 1)).any()):
            values = item[key].unique()[:4].tolist()
            raise UserError(
                f"'{key}' of case '{case}' must be one channel of 0 and 1, got {len(item[key])} channel(s) "
                f"with values such as {values}; binarise the label, or the prediction in postprocessing"
            )
    for key in ("pred", "original"):
        same_shape = item[key].shape == reference.shape
        if not same_shape or not is_one_grid(reference.affine, item[key].affine, reference.shape[1:]):
            raise UserError(
                f"'{key}' of case '{case}' must lie on the grid of its label {tuple(reference.shape[1:])}, "
                f"got {tuple(item[key].shape[1:])}{' with another affine' if same_shape else ''}; "
                "invert the prediction (Invertd), and check that image and label of the case match"
            )


def _lps(image: MetaTensor) -> MetaTensor:
    """Turn (1, X, Y, Z) so that axial slices show in the radiological convention; nothing is resampled."""
    from monai.transforms import Orientation

    return Orientation("LPS", labels=None)(image.cpu())
