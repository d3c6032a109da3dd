"""A comparison as a page, and as tables in a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.evaluation.figures import BLUE, GREY, ORANGE, new_figure, tidy
from pipelines.evaluation.meanings import meaning
from pipelines.evaluation.numbers import number
from pipelines.evaluation.paired import FEWEST
from pipelines.reports.comparison import Comparison, Pair
from pipelines.reports.differences import Rows
from pipelines.reports.page import Picture, figure_picture, write_page
from pipelines.reports.words import interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

VERDICTS = {
    "better": "{b} is better",
    "worse": "{a} is better",
    "noise": "within noise",
    "equal": "the same",
    "unclear": "too few patients",
}
_ARROWS = {"higher": " ↑", "lower": " ↓", "zero": " →0", None: ""}
_NARROWEST = 20  # letters of a metric's name on one line
_SHOWN = 15  # differences of a section in a terminal; the page has all


def default_path(comparison: Comparison) -> Path:
    """Return where a comparison's page goes: beside the first run's folder."""
    names = "_".join(record.name.replace("/", "-") for record in comparison.records)
    return comparison.records[0].folder.parent / f"compare_{names[:150]}.html"


def write_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison's page and return its path."""
    return write_page(
        path,
        "compare.html",
        comparison=comparison,
        bundle=comparison.records[0].bundle,
        figures=[shown for pair in comparison.pairs if (shown := case_figure(pair))],
        verdicts=VERDICTS,
        fewest=FEWEST,
    )


def case_figure(pair: Pair) -> Picture | None:
    """Draw every shared case's score in B against that in A, by the first score that a case has; None without one."""
    drawn = ((d, [d.score.rows(table) for table in pair.cases]) for d in pair.scores)
    difference, rows = next((found for found in drawn if found[1][0].ndim == 1), (None, None))
    if difference is None:
        return None
    score, lower = difference.score, meaning(difference.score.name).better == "lower"
    figure = new_figure(4.8, 4.6)
    axes = tidy(figure.subplots())
    axes.scatter(*rows, color=BLUE, s=24, alpha=0.75, zorder=3)
    finite = np.concatenate(rows)[np.isfinite(np.concatenate(rows))]
    ends = [finite.min(), finite.max()] if len(finite) else [0, 1]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
    axes.scatter(*(np.nanmean(row) for row in rows), color=ORANGE, marker="D", s=48, zorder=4, label="mean")
    unit = f" ({score.unit})" if score.unit else ""
    axes.set_xlabel(f"{pair.a.name}: {score.label}{unit}", parse_math=False)
    axes.set_ylabel(f"{pair.b.name}: {score.label}{unit}", parse_math=False)
    axes.legend(frameon=False, fontsize=8, loc="best")
    side = "below" if lower else "above"
    return figure_picture(figure, f"A dot a case; {side} the line {pair.b.name} is better in {score.label}")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print what a page shows: sentences, metrics side by side, and what differs."""
    from rich.text import Text

    names = [record.name for record in comparison.records]
    for note in comparison.notes:
        console.print(Text(f"Note: {note}", style="yellow"))
    for pair in comparison.pairs:
        _print_pair(pair, console)
    if comparison.metrics:
        _print_fitting(lambda room: _metrics_table(comparison, names, room), console)
    if any((record.content or {}).get("parts") for record in comparison.records):
        console.print("Scores of parts of the cases are on the page.")
    for section, rows in comparison.differences.items():
        _print_differences(section, rows, names, console)


def _print_differences(section: str, rows: Rows, names: list[str], console: Console) -> None:
    from rich.text import Text

    if not rows:
        console.print(f"{section.capitalize()}: no difference.")
        return
    table = _table(f"differs in {section}", names)
    for key, values in list(rows.items())[:_SHOWN]:
        table.add_row(Text(key), *(Text(_short(value)) for value in values))
    console.print(table)
    if len(rows) > _SHOWN:
        console.print(f"… and {len(rows) - _SHOWN} more in {section}, see the page.")


def _print_pair(pair: Pair, console: Console) -> None:
    from rich.text import Text

    for warning in pair.warnings:
        console.print(Text(f"Warning: {warning}", style="yellow"))
    _print_fitting(lambda room: _pair_table(pair, room), console)
    for sentence in pair.sentences:
        console.print(Text(sentence))


def _print_fitting(make: Callable[[int], Table], console: Console) -> None:
    """Print a table with intervals beside their values, or, told how wide it may be, below them."""
    table = make(0)
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    console.print(table if needed <= console.width else make(console.width))


def _pair_table(pair: Pair, room: int) -> Table:
    from rich.text import Text

    count = len(pair.cases[0])
    title = f"{pair.b.name} minus {pair.a.name}, on {count} shared case{'s' * (count != 1)}"
    table = _table("score", [pair.a.name, pair.b.name, "difference"], title)
    table.add_column("verdict", overflow="fold")
    for d in pair.scores:
        unit = d.score.unit
        label = f"{d.score.label}{f', {unit}' if unit else ''}{_ARROWS[meaning(d.score.name).better]}"
        difference = _with_interval(d.value, d.ci95, unit, bool(room))
        verdict = VERDICTS[d.verdict].format(a=pair.a.name, b=pair.b.name)
        cells = label, number(d.a, unit), number(d.b, unit), difference, verdict
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _metrics_table(comparison: Comparison, names: list[str], room: int) -> Table:
    from rich.text import Text

    parts = {part for record in comparison.records for part in (record.content or {}).get("parts", {})}
    table = _table("metric", names, "Metrics, 95% intervals")
    widest = 0
    for name, values in comparison.metrics.items():
        if name.endswith(tuple(f"_{part}" for part in parts)):
            continue
        cells = [
            _with_interval(m["value"], m.get("ci95"), m.get("unit"), bool(room)) if m else "-" for m in values
        ]
        widest = max(widest, *(len(line) for cell in cells for line in cell.splitlines()))
        table.add_row(Text(name + _ARROWS[meaning(name).better]), *cells)
    left = room - len(names) * (widest + 3) - 4  # for metrics' names; three for the frame of a column
    if left >= _NARROWEST:  # intervals stay on their line, and names go on in theirs
        for column in table.columns[1:]:
            column.width = widest
    return table


def _table(first: str, columns: Sequence[str], title: str | None = None) -> Table:
    """Return a table whose cells keep every letter, however narrow it gets."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column(first, overflow="fold"), title=title and Text(title), title_justify="left")
    for name in columns:
        table.add_column(Text(name), justify="right", overflow="fold")
    return table


def _with_interval(value: float | None, ends: Any, unit: str | None, stacked: bool) -> str:
    told = interval(ends, unit)
    return number(value, unit) + (f"\n{told}" if stacked else f" ({told})") * bool(ends)


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{40}", text) else text[:60]  # of a commit what names it
