"""Dictionary transforms that MONAI lacks: one sample in, one sample out."""
