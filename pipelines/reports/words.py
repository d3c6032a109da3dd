"""A paired difference in plain words."""

from __future__ import annotations

from pipelines.evaluation.numbers import digits, number
from pipelines.evaluation.paired import Difference


def interval(ends: tuple[float, float] | None, unit: str | None = None) -> str:
    """Return "0.004 to 0.019"; "-" where there is none."""
    return " to ".join(number(end, unit) for end in ends) if ends else "-"


def p_value(p: float | None) -> str:
    """Return "p = 0.031", "p < 0.001", or nothing."""
    return "" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def in_words(difference: Difference, a: str, b: str, shared: int) -> str:
    """Say which of the runs ``a`` and ``b`` is better, by how much and how sure that is.

    Args:
        difference: of one score.
        a: the name of the run that is subtracted.
        b: the other's.
        shared: the number of cases that both have scored; some may have no such score.
    """
    score, on = difference.score, _on(difference, shared)
    if difference.equal:
        return f"No difference: {score.label} is the same in {a} and {b}, {on}."
    gain, ends = difference.gain, difference.gain_ci95
    winner = b if gain > 0 else a
    if gain < 0 and ends:
        ends = (-ends[1], -ends[0])
    amount = f"{number(abs(gain), score.unit)}{f' {score.unit}' if score.unit else ''}"
    told = f"95% interval {interval(ends, score.unit)}, {on}" if ends else on
    test = f" (Wilcoxon {p_value(difference.p)})" if difference.p is not None else ""
    if difference.verdict in ("noise", "unclear"):
        why = "Within noise" if difference.verdict == "noise" else "Too few patients to tell"
        favour = f" in favour of {winner}" if round(gain, digits(score.unit)) else ""
        return f"{why}: {score.label} differs by {amount}{favour}, {told}{test}."
    return f"{winner} is better by {amount} {score.label}, {told}{test}."


def _on(difference: Difference, shared: int) -> str:
    count = str(shared) if difference.cases == shared else f"{difference.cases} of {shared}"
    patients = "" if difference.patients == difference.cases else f" of {difference.patients} patients"
    return f"on {count} shared case{'s' * (shared != 1)}{patients}"
