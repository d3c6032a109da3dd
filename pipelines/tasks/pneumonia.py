"""What is said of a chest X-ray: a probability of pneumonia, a decision, and where in the image it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.evaluation.calibration import Calibration
from pipelines.readers.xray import Xray
from pipelines.tasks.writing import font, width, write

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from pipelines.activation import ActivationInferer

NOT_CALIBRATED = "the probability is not calibrated and the threshold not chosen on patients"
_FOOTNOTE = "heat: where in the image the probability comes from. Research use, not a medical device"
_HEADLINE, _FOOTER, _SCALE, _NARROWEST = 30, 20, 86, 500  # pixels
# A picture is grey level x heat level in 256 colours: it is written five times faster than true colour.
_GREYS, _HEATS = 32, 8
# From yellow to red, which stay apart from grey for colour-blind eyes as well; below 1/4 the image is left as it is.
_COLOURS = [(0, 0, 0), (0, 0, 0), (240, 228, 66), (240, 200, 40)]
_COLOURS += [(230, 159, 0), (225, 125, 0), (213, 94, 0), (200, 30, 0)]
_OPACITY = [0.0, 0.0, 0.06, 0.12, 0.22, 0.32, 0.42, 0.54]


class PneumoniaTask:
    """The bundle's part of :class:`~pipelines.image_prediction.ImagePrediction`.

    Args:
        activation: gives the class-activation maps.
        calibrations: of each model: from logit to probability, and the thresholds.
        operating_point: which of them decides: "rule_out", "balanced" or "rule_in".
        finding: what it is that the probability is of, for the picture.

    Raises:
        UserError: there is no such operating point.
    """

    def __init__(
        self,
        activation: ActivationInferer,
        calibrations: Sequence[Calibration],
        operating_point: str = "balanced",
        finding: str = "pneumonia",
    ) -> None:
        self.finding = finding
        self.activation, self.calibrations, self.operating_point = activation, calibrations, operating_point
        self.thresholds = [calibration.threshold(operating_point) for calibration in calibrations]
        # each model's own threshold has the wanted sensitivity or specificity; so has the mean of them, about
        self.threshold = float(np.mean(self.thresholds))

    def infer(self, network: nn.Module, images: torch.Tensor) -> list[np.ndarray]:
        """Return the class-activation map (h, w) of each image, in logits; its mean is the image's."""
        return list(self.activation(images, network)[:, 0].float().cpu().numpy())

    def measure(self, outputs: Sequence[np.ndarray], xray: Xray) -> tuple[dict[str, Any], list[str]]:
        """Return ``probability`` (calibrated), ``decision``, ``operating_point`` and ``threshold``, and warnings.

        Of several models these are the mean of their probabilities and of their thresholds, and ``models`` says how
        far they lie apart: ``count``, ``probability_sd`` (standard deviation), and how many alone say ``positive``.
        """
        pairs = zip(self.calibrations, outputs, strict=True)
        each = [float(calibration.probability(maps.mean(dtype=float))) for calibration, maps in pairs]
        probability = float(np.mean(each))
        result = {
            "probability": round(probability, 4),
            "decision": "positive" if probability >= self.threshold else "negative",
            "operating_point": self.operating_point,
            "threshold": round(self.threshold, 4),
        }
        if len(each) > 1:
            positive = sum(p >= limit for p, limit in zip(each, self.thresholds, strict=True))
            sd = round(float(np.std(each, ddof=1)), 4)
            result["models"] = {"count": len(each), "probability_sd": sd, "positive": positive}
        return result, [] if all(c.cases for c in self.calibrations) else [NOT_CALIBRATED]

    def draw(
        self, picture: np.ndarray, outputs: Sequence[np.ndarray], result: Mapping[str, Any], case: str
    ) -> Image.Image:
        """Return ``picture`` under the mean of the models' heat maps, with the answer and a scale."""
        answer = f"{self.finding} {result['probability']:.0%}: {result['decision']}"
        point = f"{result['operating_point']} point, {result['threshold']:.1%} and above is positive"
        heat = heat_of(np.mean(outputs, axis=0), result["probability"])
        return draw_heat(picture, heat, f"{answer}   ({point})", case)


def heat_of(activation: np.ndarray, probability: float) -> np.ndarray:
    """Return how much each place speaks for pneumonia: from 0 at the coldest to ``probability`` at the hottest.

    An image that is no pneumonia is thus shown without heat, however its coldest and hottest places differ. The places
    of a deep network see nearly all of the image, so their own probabilities would differ too little to point anywhere.

    Args:
        activation: (h, w) class-activation map, any scale.
        probability: of the image.
    """
    above = activation.astype(float) - activation.min()
    return probability * above / (above.max() or 1.0)


def validated(item: Mapping[str, Any]) -> dict[str, float]:
    """Return what a training's ``cases.csv`` says of a validated image, from its ``pred`` (probability), ``logits``
    and ``label``, each (1,)."""
    return {
        "probability": float(item["pred"]),
        "label": int(item["label"]),
        "logit": float(item["logits"]),
    }


def draw_heat(picture: np.ndarray, heat: np.ndarray, headline: str, case: str = "") -> Image.Image:
    """Return ``picture`` with a heat map over it, its scale beside it, a headline above and a note below.

    Args:
        picture: (rows, columns) uint8.
        heat: (h, w), 0 to 1; it covers the whole picture.
        headline: the answer.
        case: stands at the right of the note.
    """
    from PIL import Image

    rows, columns = picture.shape
    grey, hot = (layer.copy() for layer in _frame(rows, columns))
    grey.paste(Image.fromarray(picture), (0, _HEADLINE))
    hot.paste(_resized(heat, (columns, rows)), (0, _HEADLINE))
    write(grey, 6, 6, headline, 15, 255)
    write(grey, 18 + width(_FOOTNOTE, 11), _HEADLINE + rows + 3, case[:24], 11, 150)
    overlay = Image.frombytes("P", grey.size, _indexed(hot, grey).tobytes())
    overlay.putpalette(_palette())
    return overlay


@lru_cache(maxsize=16)  # pictures of a folder are often of one size
def _frame(rows: int, columns: int) -> tuple[Image.Image, Image.Image]:
    """Return the grey and the heat layer around a picture: the note below, and the scale at the right."""
    from PIL import Image, ImageDraw

    size = max(columns + _SCALE, _NARROWEST), rows + _HEADLINE + _FOOTER
    grey, hot = Image.new("L", size, 0), Image.new("L", size, 0)
    write(grey, 6, _HEADLINE + rows + 3, _FOOTNOTE, 11, 150)
    _draw_scale(ImageDraw.Draw(grey), hot, columns, rows)
    return grey, hot


def heat_over(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return ``picture`` (rows, columns) uint8 under ``heat`` (h, w), 0 to 1, as (rows, columns, 3) uint8."""
    index = _indexed(_resized(heat, picture.shape[::-1]), picture)
    return np.frombuffer(_palette(), np.uint8).reshape(-1, 3)[index]


def _indexed(hot: Image.Image, grey: Any) -> np.ndarray:
    """Return heat level * 32 + grey level of each pixel, uint8."""
    return (np.asarray(hot) & 0xE0) | (np.asarray(grey) >> 3)


def _resized(heat: np.ndarray, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    levels = np.rint(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR)


def _draw_scale(draw: Any, hot: Image.Image, columns: int, rows: int) -> None:
    """Draw a bar from 0 at the bottom to 100% at the top, right of the picture."""
    from PIL import Image

    left, top, height = columns + 10, _HEADLINE + 8, max(1, rows - 16)
    draw.rectangle((left, top, left + 15, top + height - 1), fill=128)
    ramp = np.linspace(255, 0, height).astype(np.uint8)[:, None].repeat(16, axis=1)
    hot.paste(Image.fromarray(ramp), (left, top))
    for share in (0, 25, 50, 75, 100):
        y = top + (1 - share / 100) * (height - 1)
        draw.text((left + 22, y), f"{share}%", fill=230, font=font(12), anchor="lm")


@lru_cache(maxsize=1)
def _palette() -> bytes:
    """Return the colours of index ``heat level * _GREYS + grey level``, red, green and blue of each."""
    grey = np.rint(np.linspace(0, 255, _GREYS))[None, :, None]
    colour, opacity = np.array(_COLOURS)[:, None, :], np.array(_OPACITY)[:, None, None]
    # where tissue is dark, the colour is too: the image stays visible under the heat
    lit = colour * (0.35 + 0.65 * grey / 255)
    return np.rint(grey * (1 - opacity) + lit * opacity).astype(np.uint8).tobytes()
