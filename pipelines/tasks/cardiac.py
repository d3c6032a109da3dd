"""What is measured on the box of a structure such as the heart, and what makes a person look at it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.evaluation.boxes import edges_ratio
from pipelines.readers.xray import Xray, XrayHeader

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from pipelines.edges import VariantsInferer

EDGE_NAMES = ("x0", "y0", "x1", "y1", "thorax_x0", "thorax_x1")
# A share of the image's side. Labels of one image by two people differ by about as much.
MAX_SPREAD = 0.02
# Of the 896 hearts in two public tables, 98% are 0.26 to 0.54 of the image wide and 0.24 to 0.57 high.
RANGES = {"width": (0.20, 0.70), "height": (0.18, 0.65)}
RATIO_RANGE = (0.30, 0.80)
BORDER = 0.005  # nearer to the image's border than this share of it, a part may lie outside
NO_SPACING = "the file gives no pixel spacing, so nothing is known in mm"
_IN_DETECTOR = "lies in the plane of the detector, where the body is magnified: it is smaller than these mm"
SPACING_NOTES = {
    "PixelSpacing": "PixelSpacing may be calibrated to the body or be the detector's own, where the body is magnified",
    "ImagerPixelSpacing": f"ImagerPixelSpacing {_IN_DETECTOR}",
    "NominalScannedPixelSpacing": f"NominalScannedPixelSpacing {_IN_DETECTOR}",
}
NOT_LEARNT = "not learnt: the network was trained without ranges of the thorax (thorax.csv)"


class CardiacTask:
    """The bundle's part of :class:`pipelines.image_prediction.ImagePrediction`; outputs are (variants, edges) a model.

    Args:
        inferer: gives the edges of each test-time variant.
        structure: what the box is of.
        ranges: ``width`` and ``height`` that it may have, shares of the image's; outside of them a review is due.
        ratio: whether the cardiothoracic ratio is told, or why there is none.
    """

    def __init__(
        self,
        inferer: VariantsInferer,
        structure: str = "heart",
        ranges: Mapping[str, Sequence[float]] = RANGES,
        ratio: bool = True,
    ) -> None:
        self.inferer, self.structure, self.ranges, self.ratio = inferer, structure, ranges, ratio

    def infer(self, network: nn.Module, images: torch.Tensor) -> list[np.ndarray]:
        """Return the edges (variants, 4 or 6) of each of ``images`` (B, 1, size, size)."""
        return list(self.inferer.variants(images, network).movedim(1, 0).float().cpu().numpy())

    def measure(self, outputs: Sequence[np.ndarray], xray: Xray) -> tuple[dict[str, Any], list[str]]:
        """Return :func:`cardiac_result` of the edges of one X-ray, and no further warnings."""
        told = self.structure, self.ranges, self.ratio
        return cardiac_result(np.stack(outputs), xray.header, *told), []

    def draw(
        self, picture: np.ndarray, outputs: Sequence[np.ndarray], result: Mapping[str, Any], case: str
    ) -> Image.Image:
        """Return the picture (rows, columns) uint8 with the box, the widths and the numbers."""
        from pipelines.tasks.cardiac_overlay import overlay

        return overlay(picture, np.mean(outputs, axis=(0, 1)), result, case, self.structure)


def cardiac_result(
    answers: np.ndarray,
    header: XrayHeader,
    structure: str = "heart",
    ranges: Mapping[str, Sequence[float]] = RANGES,
    ratio: bool = True,
) -> dict[str, Any]:
    """Return the ``result`` of ``result.json`` for one X-ray.

    Pixels are the input's own, counted from the left upper corner of its first pixel: x runs along its columns to the
    right and y along its rows down; mm likewise. Of a PNG or JPEG that is turned by its EXIF orientation they are those
    of the upright picture, as viewers show it.

    Args:
        answers: (M, V, 4 or 6) edges as fractions of width and height, of each model and test-time variant; the result
            is of their mean.
        header: of the file.
        structure: see :class:`CardiacTask`.
        ranges: likewise.
        ratio: likewise.

    Returns:
        ``box_xyxy_px``, ``box_xyxy_mm``, ``width_mm`` and ``height_mm`` (None with ``mm_missing`` where the spacing is
        unknown), ``spacing_tag`` and ``spacing_note``, ``width_px``, ``height_px``, ``centre_px``, ``position`` (of
        the centre from the image's midline, to the image's right, as a fraction of its width), with ``ratio`` also
        ``cardiothoracic_ratio`` with ``ratio_note`` and ``thorax_x_px``, ``uncertainty_px`` (standard deviation over
        all models and variants an edge; None for a single one), of several models ``models`` (``count``, and ``sd_px``
        between the means of their variants an edge) and ``review`` (``needed``, ``reasons``).
    """
    models, variants = answers.mean(1), answers.reshape(-1, answers.shape[-1])
    edges = variants.mean(0).astype(float)
    spread = variants.std(0, ddof=1) if len(variants) > 1 else None
    sides = np.array([header.columns, header.rows] * 2 + [header.columns] * 2)[: len(edges)]
    pixels = edges * sides
    reasons = review_reasons(edges, spread, header.view, structure, ranges)
    return {
        **_in_mm(pixels[:4], header),
        "box_xyxy_px": _rounded(pixels[:4]),
        "width_px": round(float(pixels[2] - pixels[0]), 2),
        "height_px": round(float(pixels[3] - pixels[1]), 2),
        "centre_px": _rounded((pixels[:2] + pixels[2:4]) / 2),
        "position": round(float(edges[0] + edges[2]) / 2 - 0.5, 4),
        **(_ratio(edges, pixels, header.view) if ratio else {}),
        "uncertainty_px": _uncertainty(spread, sides),
        **_models(models, sides),
        "review": {"needed": bool(reasons), "reasons": reasons},
    }


def _ratio(edges: np.ndarray, pixels: np.ndarray, view: str | None) -> dict[str, Any]:
    ratio, learnt = edges_ratio(edges), len(edges) > 4
    return {
        "cardiothoracic_ratio": round(ratio, 4) if np.isfinite(ratio) else None,
        "ratio_note": ratio_note(view) if learnt else NOT_LEARNT,
        "thorax_x_px": _rounded(pixels[4:]) if learnt else None,
    }


def _in_mm(box: np.ndarray, header: XrayHeader) -> dict[str, Any]:
    if header.spacing is None:
        unknown = dict.fromkeys(("width_mm", "height_mm", "box_xyxy_mm"))
        return {**unknown, "mm_missing": NO_SPACING, "spacing_tag": None, "spacing_note": None}
    down, right = header.spacing
    mm = box * np.array([right, down] * 2)
    return {
        "width_mm": round(float(mm[2] - mm[0]), 1),
        "height_mm": round(float(mm[3] - mm[1]), 1),
        "box_xyxy_mm": _rounded(mm, 1),
        "mm_missing": None,
        "spacing_tag": header.spacing_tag,
        "spacing_note": SPACING_NOTES.get(header.spacing_tag or ""),
    }


def _uncertainty(spread: np.ndarray | None, sides: np.ndarray) -> dict[str, float] | None:
    if spread is None:
        return None
    return {name: round(float(v), 2) for name, v in zip(EDGE_NAMES, spread * sides, strict=False)}


def _models(models: np.ndarray, sides: np.ndarray) -> dict[str, Any]:
    if len(models) == 1:
        return {}
    return {"models": {"count": len(models), "sd_px": _uncertainty(models.std(0, ddof=1), sides)}}


def ratio_note(view: str | None) -> str | None:
    """Return what to say beside a cardiothoracic ratio; None for a PA view, which it is defined on."""
    if view == "PA":
        return None
    return {None: "view unknown", "AP": "AP view: magnified"}.get(view, f"not a PA view ({view})")


def review_reasons(
    edges: np.ndarray,
    spread: np.ndarray | None,
    view: str | None,
    structure: str = "heart",
    ranges: Mapping[str, Sequence[float]] = RANGES,
) -> list[str]:
    """Say why a person should look at a box before it is used; an empty list means no reason.

    Args:
        edges: (4,) or (6,) fractions of width and height.
        spread: likewise, the standard deviation over models and test-time variants, or None where there was one alone.
        view: the file's, or None.
        structure: see :class:`CardiacTask`.
        ranges: likewise.
    """
    reasons = []
    if view not in ("AP", "PA", None):
        reasons.append(f"not a frontal view ({view})")
    if min(edges[:4]) < BORDER or max(edges[:4]) > 1 - BORDER:
        reasons.append(f"touches the border of the image: a part of the {structure} may lie outside")
    for name, value in (("width", edges[2] - edges[0]), ("height", edges[3] - edges[1])):
        low, high = ranges[name]
        if not low <= value <= high:
            reasons.append(f"{name} is {value:.0%} of the image, outside {low:.0%} to {high:.0%}")
    if spread is not None and (worst := int(np.argmax(spread))) >= 0 and spread[worst] > MAX_SPREAD:
        name, limit = EDGE_NAMES[worst], f"{MAX_SPREAD:.0%} of the image's side"
        reasons.append(f"its answers disagree: {name} varies by {spread[worst]:.1%}, above {limit}")
    ratio = edges_ratio(edges)
    if len(edges) > 4 and not RATIO_RANGE[0] <= ratio <= RATIO_RANGE[1]:
        reasons.append(f"cardiothoracic ratio {ratio:.2f} outside {RATIO_RANGE[0]} to {RATIO_RANGE[1]}")
    return reasons


def _rounded(values: Sequence[float] | np.ndarray, digits: int = 2) -> list[float]:
    return [round(float(value), digits) for value in values]
