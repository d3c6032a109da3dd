"""Seeded phantoms in the layouts of the real data sets."""
