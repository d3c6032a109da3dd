"""What is particular to one task: its measurements, its reasons for a review and its picture."""
