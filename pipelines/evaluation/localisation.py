"""How well a heat map agrees with boxes that people drew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GRID = 224  # places along each side on which maps and boxes are compared


def score_map(heat: np.ndarray, boxes: Sequence[Sequence[float]], shape: tuple[int, int]) -> dict[str, float]:
    """Return how one image's heat map agrees with its boxes.

    ``pointing``: 1 where the hottest place lies in a box, else 0 (the pointing game: Zhang et al., Int. J. Comput.
    Vision 2018; 126: 1084-1102, without its tolerance). ``box_share``: what a place chosen blindly would score.
    ``iou``: of the places above the middle between the coldest and the hottest, with the boxes.

    Args:
        heat: (h, w) any scale; it covers the whole image and is interpolated between its places.
        boxes: (N, 4) xyxy, pixels of the image as stored, N at least 1.
        shape: rows and columns of the image as stored.
    """
    from PIL import Image

    fine = np.asarray(
        Image.fromarray(np.asarray(heat, np.float32)).resize((_GRID, _GRID), Image.Resampling.BILINEAR)
    )
    marked = _marked(boxes, shape)
    hot = fine > (fine.min() + fine.max()) / 2
    return {
        "pointing": float(marked.flat[fine.argmax()]),
        "box_share": float(marked.mean()),
        "iou": float((hot & marked).sum() / (hot | marked).sum()),
    }


def _marked(boxes: Sequence[Sequence[float]], shape: tuple[int, int]) -> np.ndarray:
    """Return (``_GRID``, ``_GRID``) bool: the places whose centre lies in a box."""
    rows, columns = (((np.arange(_GRID) + 0.5) * side / _GRID) for side in shape)
    marked = np.zeros((_GRID, _GRID), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        marked |= ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))[None]
    return marked
