"""Scores as people read them."""

from __future__ import annotations


def number(value: float | None, unit: str | None = None) -> str:
    """Return a ratio with three decimals, a quantity with two, a count with none; "-" where it is undefined."""
    if value is None or value != value:
        return "-"
    places = digits(unit)
    return f"{round(value, places) + 0.0:.{places}f}"  # adding 0 makes a negative zero plain


def digits(unit: str | None) -> int:
    """Return how many decimals :func:`number` gives."""
    return 0 if unit == "cases" else 2 if unit else 3
