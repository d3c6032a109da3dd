"""Commands on run folders: what came out, what differs, and what MLflow misses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import Part
from pipelines.mlflow_yaml import tracking_uri

app = typer.Typer()


@app.command()
def results(run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run folder.")]) -> None:
    """Print what an evaluation found."""
    from rich.console import Console

    from pipelines.evaluation.results import print_results

    print_results(run, Console())


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_A RUN_B…", help="Names, folders or MLflow ids; the first is compared with."
        ),
    ],
    part: Part = "val",
    html: Annotated[
        Path | None, typer.Option("--html", help="Default: beside the first run's folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts; a page only with --html.")] = False,
) -> None:
    """Say what differs among runs, and whether one is better case by case or it is noise."""
    import json

    from rich.console import Console

    from pipelines.reports import compare_page, comparison

    compared = comparison.compare([_record(run, part) for run in runs])
    if as_json:
        typer.echo(json.dumps(comparison.to_json(compared), indent=2))
    else:
        compare_page.print_comparison(compared, Console())
    if html or not as_json:
        page = compare_page.write_comparison(compared, html or compare_page.default_path(compared))
        typer.echo(f"The page is {page}", err=as_json)


@app.command()
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A name, folder or MLflow id.")],
    part: Part = "val",
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: report.html in the run's folder.")
    ] = None,
) -> None:
    """Write a run's page: what was trained on what, scores, curves, cases and limits, in one file."""
    from pipelines.reports.report import log_report, write_report

    record = _record(run, part)
    page = write_report(record, out)
    typer.echo(f"The page is {page}")
    if logged := log_report(record, page, tracking_uri()):
        typer.echo(logged)


def _record(run: str, part: str) -> Any:
    """Return the record of a run; what its folder does not know of its environment comes from MLflow."""
    import dataclasses

    from pipelines.reports.record import from_store, read_record
    from pipelines.runs import find_run

    record = read_record(find_run(run), part)
    if record.environment:
        return record
    return dataclasses.replace(record, environment=from_store(record, tracking_uri()))


@app.command()
def sync(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A name, folder or MLflow id, or a folder of runs.")
    ],
) -> None:
    """Send to MLflow what a training could not while the server was away."""
    from pipelines.runs import find_run
    from pipelines.sync import sync as send

    sent = send(run if Path(run).is_dir() else find_run(run), tracking_uri())
    typer.echo(
        f"{sent} record{'s were' if sent > 1 else ' was'} sent." if sent else "MLflow has everything already."
    )
