"""What each metric means and which direction is better: the one place for it."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Better = Literal["higher", "lower", "zero", None]


class Meaning(NamedTuple):
    """``better``: "higher", "lower", "zero" (the closer to it the better) or None; ``words``: what the number says."""

    better: Better
    words: str


# the first pattern that matches a whole name holds
_MEANINGS: tuple[tuple[str, Better, str], ...] = (
    (r"baseline_.*", None, "a constant box scores this: the mean of those that were trained on"),
    (r"gain_over_baseline_iou", "higher", "mean IoU less that of a constant box"),
    (r"(mean|median|min|max)_dice", "higher", "overlap of mask and reference; 1 is perfect"),
    (r"(mean|median|min|max)_iou", "higher", "intersection over union with the reference; 1 is perfect"),
    (r"mean_hd95_mm", "lower", "how far the masks' surfaces are apart at worst, but for 5% of them"),
    (r"mean_asd_mm", "lower", "mean distance between the masks' surfaces"),
    (r"mean_(reference_)?volume_ml", None, "mean volume"),
    (r"mean_absolute_volume_error_(ml|percent)", "lower", "mean error of the volume, without its sign"),
    (r"volume_bias_ml", "zero", "mean of predicted less reference volume"),
    (r"volume_limits_(lower|upper)_ml", "zero", "95% of the differences in volume are expected on this side"),
    (r"auroc_header_only", None, "AUROC of view, sex and age alone, without the image"),
    (r"auroc_gain_over_header", "higher", "AUROC less that of view, sex and age alone"),
    (r"auroc(_.+)?", "higher", "chance that a positive gets a higher probability than a negative"),
    (r"average_precision", "higher", "mean precision over the positives; chance gives their share"),
    (r"brier(_uncalibrated)?", "lower", "mean squared difference of probability and label"),
    (
        r"calibration_error(_uncalibrated)?",
        "lower",
        "how far probabilities are from how often they come true",
    ),
    (r"(cardiomegaly_)?sensitivity(_.+)?", "higher", "share of the positives that are found"),
    (r"(cardiomegaly_)?specificity(_.+)?", "higher", "share of the negatives that are left alone"),
    (r"pointing_game", "higher", "share of positives whose heat map peaks in a marked box"),
    (r"pointing_game_by_chance", None, "what a random place would score there"),
    (r"mean_heat_map_iou", "higher", "overlap of the hot region with the marked boxes"),
    (r"temperature", None, "what the network's logits are divided by"),
    (r"threshold_.+", None, "probability from which on the decision is positive"),
    (r"iou_above_.+", "higher", "share of the boxes with at least this IoU"),
    (r"mae_.+", "lower", "mean error without its sign"),
    (r"bias_.+", "zero", "mean of predicted less reference"),
    (r"centre_shift_.+", "lower", "mean distance of the boxes' centres"),
    (r"ratio_mae", "lower", "mean error of the cardiothoracic ratio, without its sign"),
    (r"ratio_bias", "zero", "mean of predicted less reference ratio"),
    (r"ratio_limits_(lower|upper)", "zero", "95% of the differences in ratio are expected on this side"),
    (
        r"ratio_cases_of_unknown_view",
        None,
        "images whose ratio counts though their view is unknown, as all of the set's are",
    ),
    (r"loss", "lower", "what the training made small"),
)


def meaning(name: str) -> Meaning:
    """Return what a metric of the result contract means; neither direction and no words where it is not known."""
    for pattern, better, words in _MEANINGS:
        if re.fullmatch(pattern, name):
            return Meaning(better, words)
    return Meaning(None, "")
