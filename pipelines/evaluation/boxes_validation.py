"""What a training of boxes keeps of its best validation, for :class:`pipelines.validation.BestCases`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.evaluation.boxes import EDGES, box_iou, edges_ratio
from pipelines.evaluation.boxes_figures import draw_boxes
from pipelines.evaluation.figures import new_figure, save_figure


def row(item: Mapping[str, Any]) -> dict[str, float]:
    """Return the IoU of a case, and the error of each edge and of the ratio as fractions of the image.

    Args:
        item: ``pred`` and ``label``, (4,) or (6,) edges.
    """
    prediction, reference = (item[key].flatten().tolist() for key in ("pred", "label"))
    errors = {f"error_{name}": p - r for name, p, r in zip(EDGES, prediction, reference, strict=False)}
    scores = {"iou": box_iou(prediction, reference), **errors}
    if len(prediction) > 4:
        scores["error_ratio"] = edges_ratio(prediction) - edges_ratio(reference)
    return scores


def draw(item: Mapping[str, Any], path: Path, title: str) -> None:
    """Draw an X-ray as the network sees it, with both boxes.

    Args:
        item: ``image`` (1, H, W), ``pred`` and ``label``.
        path: where to write.
        title: stands above.
    """
    figure = new_figure(5, 5.3)
    axes = figure.subplots()
    draw_boxes(
        axes, item["image"][0].cpu().numpy(), *(item[key].flatten().tolist() for key in ("pred", "label"))
    )
    figure.suptitle(title, fontsize=9, parse_math=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)
