"""The command line: ``python -m pipelines`` or ``cardiothorax``."""

from __future__ import annotations

import inspect
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
BundleName = Annotated[str, typer.Argument(metavar="BUNDLE", help=f"One of: {', '.join(find_bundles())}.")]
DatasetDir = Annotated[
    Path | None, typer.Option("--dataset_dir", help="Default: the bundle's own, under data/.")
]

Part = Annotated[str, typer.Option("--part", help="Whose evaluation: val, test, all, train or cases.")]


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
    report = check_set(dataset_dir or Path(chosen.dataset_dir), tracking_uri=tracking_uri(), **given)
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


@app.command(context_settings={"ignore_unknown_options": True})
def predict(
    bundle: BundleName,
    words: Annotated[list[str], typer.Argument(metavar="INPUT…", help="Files or folders.")],
    out: Annotated[Path, typer.Option("--out", help="One folder a case is written here.")],
    ckpt_path: Annotated[
        list[Path] | None,
        typer.Option(
            "--ckpt_path",
            help="A run folder, a .pt file or a cross-validation; given more than once, the models answer together. "
            "Default: the best weights of the newest finished run.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what there is.")] = None,
    engine: Annotated[str | None, typer.Option(help="pytorch (default), openvino or onnxruntime.")] = None,
) -> None:
    """Predict images with a trained bundle; any setting of its inference.yaml goes along: --batch_size 4."""
    from pipelines.launch import run_bundle

    inputs, settings = _settings_apart(words)
    if not inputs:
        raise UserError("expected files or folders to predict, got settings alone")
    paths = [str(path) for path in ckpt_path or []]
    overrides = {"ckpt_path": paths or None, "device": device, "engine": engine}
    run_bundle(
        get_bundle(bundle).config("inference"),
        **settings | {"dataset_dir": inputs, "output_dir": str(out)},
        **{name: value for name, value in overrides.items() if value is not None},
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def crossval(
    context: typer.Context,
    bundle: BundleName,
    folds: Annotated[int, typer.Option(min=2, help="How many.")] = 5,
    name: Annotated[
        str | None, typer.Option(help="Of the folder and the MLflow run; the same one goes on.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Folds at once, each on its share of the cores.")] = 1,
    fold_seed: Annotated[int, typer.Option("--fold_seed", min=0, help="Same seed, same folds.")] = 0,
    last: Annotated[
        bool, typer.Option("--last", help="Score the last epoch's weights, not the best in validation.")
    ] = False,
) -> None:
    """Train and score a bundle fold by fold; any setting of its train.yaml goes along: --max_epochs 30."""
    from pipelines.crossval.run import cross_validate

    chosen, overrides = get_bundle(bundle), _overrides(context.args)
    cross_validate(chosen, overrides, folds, name, jobs, fold_seed, last)


@app.command()
def results(run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run folder.")]) -> None:
    """Print what an evaluation found."""
    from rich.console import Console

    from pipelines.evaluation.results import print_results

    print_results(run, Console())


@app.command()
def benchmark(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="train, predict, prepare, startup or memory.")],
    bundle: BundleName,
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset_dir", help="Or files to predict; default: phantoms.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often; medians are shown.")] = 3,
    images: Annotated[
        int | None, typer.Option(min=16, help="Of a training's epoch, or files to predict, at most.")
    ] = None,
    engine: Annotated[str, typer.Option(help="What predicts: pytorch, openvino or onnxruntime.")] = "pytorch",
    ckpt_path: Annotated[
        Path | None, typer.Option("--ckpt_path", help="Weights that predict; default: random ones.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Measure how fast a bundle is here, against what it could be; see docs/benchmarks.md."""
    from rich.console import Console

    from pipelines.benchmarks.run import run_benchmark

    found = run_benchmark(kind, get_bundle(bundle), dataset_dir, rounds, images, engine, ckpt_path, quick)
    if as_json:
        typer.echo(found.to_json())
    else:
        found.print(Console())


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
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run folder, or a folder of them.")],
) -> None:
    """Send to MLflow what a training could not while the server was away."""
    from pipelines.sync import sync as send

    sent = send(run, tracking_uri())
    typer.echo(
        f"{sent} record{'s were' if sent > 1 else ' was'} sent." if sent else "MLflow has everything already."
    )


def tracking_uri() -> str:
    """Return the tracking URI of ``mlflow.yaml``; ``MLFLOW_TRACKING_URI`` goes before it."""
    import os

    import yaml

    path = Path("mlflow.yaml")
    stored = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return os.environ.get("MLFLOW_TRACKING_URI") or stored.get("tracking_uri", "sqlite:///mlflow.db")


def _overrides(words: list[str]) -> dict[str, Any]:
    """Return ``--name value`` and ``--name=value`` as a dictionary, values read as `monai.bundle run` reads them."""
    from fire.parser import DefaultParseValue

    given, waiting = (
        {},
        [part for word in words for part in (word.split("=", 1) if word[:2] == "--" else [word])],
    )
    while waiting:
        name = waiting.pop(0)
        if not name.startswith("--") or not waiting or waiting[0].startswith("--"):
            raise UserError(f"expected settings as `--name value`, got `{name}` alone")
        value = DefaultParseValue(waiting.pop(0))
        given[name.removeprefix("--")] = list(value) if isinstance(value, tuple) else value
    return given


def _settings_apart(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the inputs among ``words``, and the settings that stand between or behind them."""
    inputs, settings, waiting = [], [], list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            inputs.append(word)
            continue
        settings.append(word)
        if "=" not in word and waiting:
            settings.append(waiting.pop(0))
    return inputs, _overrides(settings)


def _cases(text: str) -> int | list[str]:
    return int(text) if text.isdigit() else [name.strip() for name in text.strip("[]").split(",")]


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
