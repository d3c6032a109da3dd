"""What a report says of each task: in one sentence, its first numbers, its figures, and what its scores do not mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALWAYS = (
    "For research. Not a medical device: nothing here was tested for decisions about patients.",
    "An interval covers the chance of which patients were drawn. It does not cover another scanner, protocol, hospital "
    "or reader.",
)
ON_VALIDATION = (
    "These cases also chose which epoch's weights were kept: of new patients expect somewhat less. Cases that nothing "
    "was chosen on are scored with --cases test."
)


@dataclass(frozen=True)
class Task:
    """The words of one bundle.

    Attributes:
        summary: what the network does.
        headline: the metrics that stand first, with what they are called.
        figures: a figure's file name without suffix, with its caption; others follow under their names.
        photographs: those of them that show images of patients.
        limits: what the scores do not mean.
        order: the column of ``cases.csv`` that tells good from bad, and what it is called.
    """

    summary: str
    headline: Mapping[str, str]
    figures: Mapping[str, str]
    limits: tuple[str, ...]
    order: tuple[str, str]
    photographs: tuple[str, ...] = ()


TASKS = {
    "atrium": Task(
        summary="Outlines the left atrium in a cardiac MRI volume and measures its volume.",
        headline={
            "mean_dice": "Dice",
            "mean_hd95_mm": "HD95",
            "mean_absolute_volume_error_ml": "Volume error",
        },
        figures={
            "dice_by_case": "Dice of each case, from worst to best, with the mean and its interval",
            "bland_altman": "Difference of predicted and reference volume against their mean",
        },
        limits=(
            "Dice and distances say how well a mask agrees with one expert's. They say nothing about another expert's, "
            "and how far veins and appendage belong to the atrium differs between data sets.",
            "Volumes that are cropped around the heart are easier than whole scans.",
        ),
        order=("dice", "Dice"),
    ),
    "pneumonia": Task(
        summary="Gives the probability of pneumonia in a chest X-ray, a decision, and a map of where.",
        headline={
            "auroc": "AUROC",
            "sensitivity_balanced": "Sensitivity, balanced",
            "specificity_balanced": "Specificity, balanced",
            "calibration_error": "Calibration error",
        },
        figures={
            "roc": "Share of positives found against share of negatives alarmed, for every threshold",
            "precision_recall": "Share of alarms that are right against share of positives found",
            "reliability": "How often a predicted probability comes true",
            "confusion": "Decisions at each operating point",
            "errors": "Wrong decisions: positives of the lowest and negatives of the highest probability",
        },
        limits=(
            "The labels come from readers of X-rays or of their reports, not from what ailed the patient.",
            "Probabilities fit a population with as many positives as the validation cases; elsewhere they do not.",
            "The view (AP or PA) goes with how ill a patient is: compare the AUROC with that of view, sex and age "
            "alone, and look at each view.",
            "A heat map shows what raised the probability. It is no outline of a finding.",
        ),
        order=("probability", "probability"),
        photographs=("errors",),
    ),
    "cardiac": Task(
        summary="Finds the box around the heart in a chest X-ray and the cardiothoracic ratio.",
        headline={"mean_iou": "IoU", "mae_width_px": "Width error", "ratio_mae": "Error of the ratio"},
        figures={
            "gallery": "From the worst box to the best",
            "error_by_edge": "Error of each edge beside that of a constant box",
            "bland_altman_ratio": "Difference of predicted and reference cardiothoracic ratio against their mean",
        },
        limits=(
            "Sizes in mm are of cases whose file states PixelSpacing, which may be that of the detector's plane.",
            "The cardiothoracic ratio is meant for PA images of adults; an AP image magnifies the heart.",
            "A high IoU is easy where hearts are alike: compare it with that of a constant box.",
        ),
        order=("iou", "IoU"),
        photographs=("gallery",),
    ),
}

# of a bundle that has no words of its own here
OTHER = Task(summary="", headline={}, figures={}, limits=(), order=("", ""))
