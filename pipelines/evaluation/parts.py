"""The scores of parts of the cases (a view, a sex, an age band) as tables that fit a screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# in a terminal; the page has all, and their intervals
_SHOWN = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "sensitivity_balanced": "sens.",
    "specificity_balanced": "spec.",
    "calibration_error": "cal.",
    "auroc_header_only": "header",
}
LABELS = {
    "auroc": "AUROC",
    "auroc_header_only": "AUROC, header alone",
    "average_precision": "Average precision",
    "sensitivity_rule_out": "Sensitivity, rule-out",
    "specificity_rule_out": "Specificity, rule-out",
    "sensitivity_balanced": "Sensitivity, balanced",
    "specificity_balanced": "Specificity, balanced",
    "sensitivity_rule_in": "Sensitivity, rule-in",
    "specificity_rule_in": "Specificity, rule-in",
    "brier": "Brier score",
    "brier_uncalibrated": "Brier score, before scaling",
    "calibration_error": "Calibration error",
    "calibration_error_uncalibrated": "Calibration error, before scaling",
}


def known(parts: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, str]:
    """Return those of ``names`` that some part has a score of."""
    return {
        name: label
        for name, label in names.items()
        if any(name in part["metrics"] for part in parts.values())
    }


def print_parts(parts: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Print a line a part: how many cases and positives, its AUROC with interval, and the few scores that fit.

    Args:
        parts: of ``metrics.json``, see :func:`~pipelines.evaluation.results.write_results`.
        console: where to.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = known(parts, _SHOWN)
    # without lines between columns, so that it fits 80 of them
    table = Table(box=box.SIMPLE, padding=0)
    table.add_column("part", no_wrap=True)
    for header in ("cases", "pos.", *shown.values()):
        table.add_column(header, justify="right", no_wrap=True)
    for name, part in parts.items():
        counts = str(part["cases"]), str(part["positives"])
        table.add_row(Text(name), *counts, *(_cell(part["metrics"].get(metric), metric) for metric in shown))
    console.print("By part of the cases; a report has all of their scores")
    console.print(table)


def _cell(metric: Mapping[str, Any] | None, name: str) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    ends = metric.get("ci95") if name == "auroc" else None
    return f"{metric['value']:.2f}" + (f" ({ends[0]:.2f}-{ends[1]:.2f})" if ends and None not in ends else "")
