"""Preflight checks of a data set, before anything trains on it."""
