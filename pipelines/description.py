"""What the MLflow UI says of a run: Markdown that is read at a glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.datasets.splits import SPLITS
from pipelines.evaluation.bootstrap import caution
from pipelines.evaluation.numbers import number
from pipelines.runs import BEST, CONFIG, CROSSVAL, DATALIST, LAST, read_json

DESCRIPTION = "mlflow.note.content"  # the tag that the UI shows as the run's description
_ROWS = 12  # scores shown of an evaluation; the others are a click away
_GAP = "&emsp;"  # the UI draws the columns of a table without any


def describe(run_dir: str | Path) -> str:
    """Return what a run folder holds as Markdown: bundle, data, best epoch, evaluations, and how to use the weights.

    A file that is missing or damaged costs the lines that need it. No path of the machine is told.
    """
    run_dir = Path(run_dir)
    config, datalist, crossval = (
        _config(run_dir),
        read_json(run_dir / DATALIST),
        read_json(run_dir / CROSSVAL),
    )
    if crossval:
        return _describe_crossval(run_dir, config, crossval)
    # the UI shows about four lines of it until it is unfolded: what one looks for comes first
    parts = [_headline(run_dir, config), "\n".join(_facts(config, datalist))]
    for folder in (run_dir, *sorted(p for p in run_dir.iterdir() if p.is_dir())):
        content = read_json(folder / "metrics.json")
        if content.get("metrics"):
            name = "val" if folder == run_dir else folder.name
            parts.append(scores_table(f"Evaluation of {name}", content))
    if (run_dir / BEST).is_file():
        parts.append(usage(run_dir))
    return "\n\n".join(parts)


def _describe_crossval(run_dir: Path, config: Mapping[str, Any], crossval: Mapping[str, Any]) -> str:
    content, dataset = read_json(run_dir / "metrics.json"), crossval.get("dataset", {})
    data = f"{dataset.get('dir')}, {dataset.get('cases')} cases (split {str(crossval.get('hash'))[:8]})"
    title = f"**{_title(config)}**: cross-validation in {crossval.get('folds')} folds"
    scored = content.get("metrics")
    if scored:
        name, metric = next(iter(scored.items()))
        title += f", {name} {number(metric['value'], metric.get('unit') or '')}"
    parts = [title, f"- Data: {data}\n{_recipe(config)}"]
    parts += [scores_table("Held out by their fold", content), usage(run_dir)] if scored else []
    return "\n\n".join(parts)


def scores_table(title: str, content: Mapping[str, Any]) -> str:
    """Return the first scores of a ``metrics.json`` with their intervals as a Markdown table under a heading."""
    count = content.get("dataset", {}).get("cases", 0)
    lines = [
        f"### {title}: {count} case{'s' * (count != 1)}",
        "",
        f"| |{_GAP}value |{_GAP}95% interval |",
        "|---|---|---|",
    ]
    for name, metric in list(content["metrics"].items())[:_ROWS]:
        unit = metric.get("unit") or ""
        interval = " to ".join(number(end, unit) for end in metric.get("ci95") or ())
        value = f"{number(metric['value'], unit)} {unit}".strip()
        lines.append(f"| {name} |{_GAP}{value} |{_GAP}{interval or '-'} |")
    rest = len(content["metrics"]) - _ROWS
    below = [f"{rest} more among the metrics."] if rest > 0 else []
    below += filter(None, [caution(count, "case")])
    return "\n".join(lines + ["\n" + " ".join(below)] * bool(below))


def usage(run_dir: str | Path) -> str:
    """Return how to use the best weights of a run, as Markdown."""
    run_dir = Path(run_dir)
    bundle = Path(str(_config(run_dir).get("bundle_root", "bundles/BUNDLE"))).name
    command = f"python -m pipelines predict {bundle} FILES --out predictions --ckpt_path"
    elsewhere = (
        f"Elsewhere: put the artifacts `{BEST}` and `{CONFIG}` of this run into one folder, and name that."
    )
    if (run_dir / CROSSVAL).is_file():
        elsewhere = "The networks of all folds answer together; each is in the run of its fold."
    return "\n".join(
        [
            "### Use the weights",
            "",
            "```",
            f"{command} runs/{bundle}/{run_dir.name}",
            "```",
            "",
            elsewhere,
            "For research. Not a medical device.",
        ]
    )


def _headline(run_dir: Path, config: Mapping[str, Any]) -> str:
    title = f"**{_title(config)}**"
    if best := _best(run_dir):
        score, epoch = best
        title += f": best {_key_metric(config)} {score:.4f} in epoch {epoch} of {config.get('max_epochs')}"
    return title


def _facts(config: Mapping[str, Any], datalist: Mapping[str, Any]) -> Iterator[str]:
    if datalist:
        counts = ", ".join(f"{len(datalist.get(part, ()))} {part}" for part in SPLITS)
        name, digest = Path(str(datalist.get("dataset_dir"))).name, str(datalist.get("hash"))[:8]
        yield f"- Data: {name}, {counts} (split {digest})"
    yield _recipe(config)


def _recipe(config: Mapping[str, Any]) -> str:
    recipe = [f"{name} {config[name]}" for name in ("lr", "batch_size", "seed") if name in config]
    return ", ".join([f"- Recipe: {config.get('max_epochs')} epochs", *recipe])


def _best(run_dir: Path) -> tuple[float, int] | None:
    from pipelines.checkpoints import load
    from pipelines.errors import UserError

    try:
        score, epoch = load(run_dir / LAST)["best"]
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return None
    return (score, epoch) if epoch > 0 else None


def _key_metric(config: Mapping[str, Any]) -> str:
    """Return the name of the validation's key metric, the one key of its block."""
    block = config.get("validate", {}).get("key_metric", {})
    return next(iter(block), "score")


def _title(config: Mapping[str, Any]) -> str:
    root = Path(str(config.get("bundle_root", "")))
    name = read_json(root / "metadata.json").get("name")
    return f"{root.name}: {name}" if name else root.name


def _config(run_dir: Path) -> dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load((run_dir / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}
