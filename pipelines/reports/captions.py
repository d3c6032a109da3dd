"""What a report says under a figure, and what every report says of scores."""

ALWAYS = (
    "For research. Not a medical device: nothing here was tested for decisions about patients.",
    "An interval covers the chance of which patients were drawn. It does not cover another scanner, protocol, hospital "
    "or reader.",
)
ON_VALIDATION = (
    "These cases also chose which epoch's weights were kept: of new patients expect somewhat less. Cases that nothing "
    "was chosen on are scored with --cases test."
)
# file name without suffix to caption, in the order of the page; others follow under their names
CAPTIONS = {
    "dice_by_case": "Dice of each case, from worst to best, with the mean and its interval",
    "bland_altman": "Difference of predicted and reference volume against their mean",
    "roc": "Share of positives found against share of negatives alarmed, for every threshold",
    "precision_recall": "Share of alarms that are right against share of positives found",
    "reliability": "How often a predicted probability comes true",
    "confusion": "Decisions at each operating point",
    "errors": "Wrong decisions: positives of the lowest and negatives of the highest probability",
    "gallery": "From the worst box to the best",
    "error_by_edge": "Error of each edge beside that of a constant box",
    "bland_altman_ratio": "Difference of predicted and reference cardiothoracic ratio against their mean",
}
PHOTOGRAPHS = ("errors", "gallery")  # those that show images of patients
ORDERED_BY = ("dice", "iou")  # columns of cases.csv that tell good from bad
