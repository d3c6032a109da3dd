"""What a preflight check found: findings and facts, as a table for people and as JSON for scripts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipelines.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Severity = Literal["error", "warning", "info"]
STYLES: dict[str, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}
SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing that a check noticed.

    Args:
        severity: ``error`` (a training would fail or learn garbage), ``warning`` (look at it) or ``info``.
        check: which check found it, one word or two joined by a dash: ``label-values``.
        case: the case's name, or None where it concerns the whole data set.
        message: what was expected and what came.
        remedy: what to do, or None.
    """

    severity: Severity
    check: str
    case: str | None
    message: str
    remedy: str | None = None


@dataclass
class Report:
    """Findings, the gravest first, and facts (anything that JSON can hold) about one data set."""

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def add(self, findings: Iterable[Finding]) -> None:
        """Add ``findings``, and keep the gravest first, otherwise in the order of their arrival."""
        self.findings = sorted(
            [*self.findings, *findings], key=lambda finding: list(STYLES).index(finding.severity)
        )

    def to_json(self) -> str:
        """Return ``{"ok": …, "facts": {…}, "findings": [{"severity": …, "check": …, …}, …]}`` as text."""
        content = {
            "ok": self.ok,
            "facts": self.facts,
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def print(self, console: Console | None = None) -> None:
        """Print the facts, then a table of the findings; what befell many cases alike takes one row."""
        from rich.console import Console

        console = console or Console()
        if self.facts:
            console.print(_facts_table(self.facts))
        if self.findings:
            console.print(_findings_table(self.findings))
        counts = {kind: sum(finding.severity == kind for finding in self.findings) for kind in STYLES}
        summary = ", ".join(
            f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts.items() if kind != "info"
        )
        console.print(summary, style="bold green" if self.ok else STYLES["error"])


def require_trainable(report: Report, bundle: str) -> None:
    """Refuse a data set with errors.

    Args:
        report: what a check of it found.
        bundle: whose ``check`` command shows all of them.

    Raises:
        UserError: the first errors and that command, in three lines.
    """
    if report.ok:
        return
    command = f"run `python -m pipelines check {bundle}`"
    lines = [
        f"case '{error.case}': {error.message}" if error.case else error.message for error in report.errors
    ]
    if len(lines) == 1:
        raise UserError(f"{lines[0]}\n{report.errors[0].remedy or command}")
    raise UserError("\n".join([*lines[:2], f"{len(lines)} errors in the data set: {command}"]))


def check_duplicates(fingerprints: Mapping[str, Any], side_of: Mapping[str, str]) -> Iterator[Finding]:
    """Yield images that are the same under several names: an error where they are on several sides of the split.

    Args:
        fingerprints: case to what is equal for equal images; None where it is unknown.
        side_of: case to the side of the split that it is on.
    """
    same: dict[Any, list[str]] = defaultdict(list)
    for name, fingerprint in fingerprints.items():
        if fingerprint:
            same[fingerprint].append(name)
    for names in same.values():
        if len(names) > 1:
            sides = [side_of.get(name, "no side") for name in names]
            leak = len(set(sides) - {"no side"}) > 1
            parts = ", ".join(f"'{name}' ({side})" for name, side in zip(names, sides, strict=True))
            remedy = "keep one of them" + (
                ": a score on images that were trained or chosen on means nothing" if leak else ""
            )
            message = f"the same image under {len(names)} names: {parts}"
            yield Finding("error" if leak else "warning", "duplicates", names[0], message, remedy)


def _facts_table(facts: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(_brief(value)))
    return table


def _brief(value: Any) -> str:
    """Return a fact as one line: ``train 16 (la_001 … la_016), val 4 (…)``."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(part)}" for key, part in value.items())
    if isinstance(value, list):
        if not value:
            return "none"
        return (
            f"{len(value)} ({value[0]} … {value[-1]})" if len(value) > SHOWN else ", ".join(map(str, value))
        )
    return str(value)


def _findings_table(findings: Iterable[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    groups: dict[tuple[str, ...], list[str]] = {}
    for finding in findings:
        remedy = f"\n→ {finding.remedy}" if finding.remedy else ""
        cases = groups.setdefault((finding.severity, finding.check, finding.message + remedy), [])
        cases += [finding.case] if finding.case else []
    table = Table("", "check", "case", "finding", show_lines=True)
    for (severity, check, message), cases in groups.items():
        more = f", … ({len(cases)} cases)" if len(cases) > SHOWN else ""
        row = (severity, check, ", ".join(cases[:SHOWN]) + more, message)
        table.add_row(Text(row[0], style=STYLES[severity]), *map(Text, row[1:]))
    return table
