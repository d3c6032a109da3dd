"""The command line: ``python -m pipelines`` or ``cardiothorax``."""

from __future__ import annotations

import sys

import typer

from pipelines.commands import data, runs, work
from pipelines.console import user_error

app = typer.Typer(
    help="Cardiothorax: get, check, predict, compare and report. Training is `python -m monai.bundle run --config_file "
    "bundles/BUNDLE/train.yaml`, comparing runs is `mlflow ui`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (data, work, runs):
    app.add_typer(group.app)


def main() -> None:
    """Run the command line; a mistake that a person can mend is answered with its message alone."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
        sys.exit(130)
    except Exception as error:
        mendable = user_error(error)  # MONAI wraps what a component raises
        if mendable is None:
            raise
        typer.echo(f"Error: {mendable}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
