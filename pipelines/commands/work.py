"""Commands that train and predict: on patients, fold by fold, and against the clock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import BundleName
from pipelines.errors import UserError
from pipelines.registry import Bundle, get_bundle

app = typer.Typer()


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

    chosen = get_bundle(bundle)
    _wait_asleep(chosen)
    inputs, settings = _settings_apart(words)
    if not inputs:
        raise UserError("expected files or folders to predict, got settings alone")
    paths = [str(path) for path in ckpt_path or []]
    overrides = {"ckpt_path": paths or None, "device": device, "engine": engine}
    run_bundle(
        chosen.config("inference"),
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
def benchmark(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="train, predict, prepare, startup or memory.")],
    bundle: BundleName,
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset_dir", help="Or files to predict; default: phantoms.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often, 3 by default; medians are shown.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(min=1, max=50_000, help="Of a training's epoch, or files to predict, at most."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="What predicts: pytorch (default), openvino or onnxruntime.")
    ] = None,
    ckpt_path: Annotated[
        Path | None, typer.Option("--ckpt_path", help="Weights that predict; default: random ones.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few cases, to see that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Measure how fast a bundle is here, against what it could be; see docs/benchmarks.md."""
    chosen = get_bundle(bundle)
    if kind == "predict":
        _wait_asleep(chosen)
    from rich.console import Console

    from pipelines.benchmarks.run import run_benchmark

    found = run_benchmark(kind, chosen, dataset_dir, rounds, images, engine, ckpt_path, quick)
    if as_json:
        typer.echo(found.to_json())
    else:
        found.print(Console())


def _wait_asleep(bundle: Bundle) -> None:
    """Let the network's threads of X-rays wait for one another asleep, before torch is imported.

    Meanwhile other threads read and draw. GNU's OpenMP spins for milliseconds by default, which is quicker only for
    networks of small steps with a processor to themselves, as in a training.
    """
    if bundle.scan:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


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
