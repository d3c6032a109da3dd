"""Runs side by side, and a run as a page."""
