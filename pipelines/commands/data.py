"""Commands on data sets: get, imitate, check and prepare them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import BundleName, DatasetDir
from pipelines.errors import UserError
from pipelines.mlflow_yaml import tracking_uri
from pipelines.registry import get_bundle

app = typer.Typer()


@app.command()
def fetch(bundle: BundleName, dataset_dir: DatasetDir = None) -> None:
    """Download the real data set, verify it and unpack it."""
    chosen = get_bundle(bundle)
    target = chosen.function("fetch")(dataset_dir or Path(chosen.dataset_dir))
    typer.echo(f"The data set is in {target}.")


@app.command()
def phantom(
    bundle: BundleName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it.")],
    cases: Annotated[int, typer.Option(min=2, help="How many patients.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same files.")] = 0,
) -> None:
    """Write a phantom data set in the real one's layout."""
    get_bundle(bundle).function("phantom")(folder, cases, seed)
    typer.echo(f"The phantom is in {folder}.")


@app.command()
def check(
    bundle: BundleName,
    dataset_dir: DatasetDir = None,
    train_cases: Annotated[str | None, typer.Option("--train_cases", help="As in train.yaml.")] = None,
    val_cases: Annotated[str | None, typer.Option("--val_cases", help="As in train.yaml.")] = None,
    patients: Annotated[
        str | None, typer.Option("--patients", help="As in train.yaml, for bundles that know of it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Check a data set before training on it; exit code 1 when anything is wrong."""
    from rich.console import Console

    chosen = get_bundle(bundle)
    given = {"train_cases": train_cases and _cases(train_cases), "val_cases": val_cases and _cases(val_cases)}
    given = {name: value for name, value in (given | {"patients": patients}).items() if value is not None}
    check_set = chosen.function("check")
    if patients and "patients" not in inspect.signature(check_set).parameters:
        raise UserError(f"the {bundle} bundle has no setting `patients`; leave --patients out")
    where = dataset_dir or Path(chosen.dataset_dir)
    report = check_set(where, tracking_uri=tracking_uri(), bundle=bundle, **given)
    if as_json:
        typer.echo(report.to_json())
    else:
        report.print(Console())
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def prepare(
    bundle: BundleName,
    dataset_dir: DatasetDir = None,
    cache_dir: Annotated[Path, typer.Option("--cache_dir", help="Never in the data set itself.")] = Path(
        "data/cache"
    ),
    size: Annotated[int, typer.Option(min=32, help="Rows and columns of the prepared images.")] = 224,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: all cores.")] = None,
) -> None:
    """Read every X-ray of a data set once into a compact cache that trainings start from at once."""
    from pipelines.datasets.images import prepare_cases

    chosen = get_bundle(bundle)
    folder = dataset_dir or Path(chosen.dataset_dir)
    cases, problems = chosen.function("scan")(folder)
    prepared = prepare_cases(cases, cache_dir, size, folder, workers)
    for problem in problems:
        typer.echo(str(problem), err=True)
    for failure in prepared.failures.itertuples():
        typer.echo(f"not read: {failure.case}: {failure.reason}", err=True)
    typer.echo(
        f"{len(prepared)} X-rays are in {prepared.folder}, {len(prepared.failures)} could not be read."
    )
    raise typer.Exit(0 if len(prepared) else 1)


def _cases(text: str) -> int | list[str]:
    return int(text) if text.isdigit() else [name.strip() for name in text.strip("[]").split(",")]
