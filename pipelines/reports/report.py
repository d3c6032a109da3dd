"""A run as one page: what was trained on what, how well it does, its worst and best cases, and what that means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.datasets.splits import SPLITS
from pipelines.evaluation.bootstrap import caution
from pipelines.evaluation.paired import SCORES
from pipelines.evaluation.parts import LABELS, known
from pipelines.registry import Bundle, get_bundle
from pipelines.reports import page
from pipelines.reports.captions import ALWAYS, CAPTIONS, ON_VALIDATION, ORDERED_BY, PHOTOGRAPHS
from pipelines.reports.page import Picture, charts, photographs, size_of
from pipelines.reports.record import RunRecord
from pipelines.runs import BEST, CONFIG
from pipelines.settings import parameters

FILE = "report.html"
_CURVES = "learning_curves"
# of parts of the cases, or of what a network is compared with: the report folds them
_FURTHER = re.compile(r"baseline_.+|.+_(view|sex|age)_.+")
_NOTABLE = ("worst", "median", "best")
_ROWS = 60  # of the table of cases; a page is no spreadsheet


def write_report(record: RunRecord, path: str | os.PathLike[str] | None = None) -> Path:
    """Write a run's page and return its path.

    Args:
        record: of a training or a cross-validation; what it lacks is said on the page.
        path: where to; by default ``report.html`` beside the evaluation that it tells.
    """
    return page.write_page(path or record.results / FILE, "report.html", **report_content(record))


def report_content(record: RunRecord) -> dict[str, Any]:
    """Return what the template ``report.html`` shows of a run."""
    bundle = get_bundle(record.bundle)
    curves, figures = _curves(record), _figures(record)
    cases = _case_pictures(record, page.MOST_BYTES - size_of([*curves, *figures]))
    metrics, of_parts = ((record.content or {}).get(name, {}) for name in ("metrics", "parts"))
    named = tuple(f"_{part}" for part in of_parts)  # the table of parts has these
    missing = _missing(record, curves, cases)
    return {
        "record": record,
        "task": bundle.metadata.get("task", ""),
        "facts": _facts(record),
        "headline": _headline(bundle, metrics),
        "metrics": {name: metric for name, metric in metrics.items() if not _FURTHER.fullmatch(name)},
        "further": {n: m for n, m in metrics.items() if _FURTHER.fullmatch(n) and not n.endswith(named)},
        "of_parts": of_parts,
        "part_labels": known(of_parts, LABELS),
        "scored": _scored(record),
        "folds": any("folds" in metric for metric in metrics.values()),
        "notes": dict.fromkeys(m["note"] for m in metrics.values() if m.get("note")),
        "curves": curves,
        "figures": figures,
        "pictures": cases,
        "table": _table(record),
        "settings": parameters(record.config),
        "config": _config_text(record),
        "missing": missing,
        "limits": _limits(record, bundle),
    }


def _headline(bundle: Bundle, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics that stand first, by what they are called."""
    names = bundle.headline or {score.name: score.label for score in SCORES}
    return {label: metrics[name] for name, label in names.items() if name in metrics}


def _scored(record: RunRecord) -> str:
    """Return in a sentence whose scores these are."""
    dataset = (record.content or {}).get("dataset", {})
    if record.crossval:
        return f"Scored on {dataset.get('cases')} cases, each by the network of the fold that did not train on it."
    held_out = record.cases is not None and set(record.cases["case"]) <= record.split["test"]
    kind = "test cases" if held_out or record.results.name == "test" else "cases"
    if record.chose_weights:
        kind = "validation cases"
    return f"Scored on {dataset.get('cases')} {kind} of {dataset.get('dir', 'the data set')}."


def _facts(record: RunRecord) -> dict[str, Any]:
    """Return what was trained on what."""
    config, scored = record.config, (record.content or {}).get("dataset", {})
    sides = {side: len(record.split[side]) for side in SPLITS}
    facts: dict[str, Any] = {"Task": record.bundle}
    if record.crossval:
        facts["Kind"] = (
            f"cross-validation, {len(record.folds)} folds; every case is scored by a network it did not train"
        )
        facts["Cases"] = sides["val"]
        facts["Split hash"] = str(record.crossval.get("hash", ""))[:12]
    elif any(sides.values()):
        facts["Cases"] = ", ".join(f"{count} {side}" for side, count in sides.items() if count)
        facts["Split hash"] = str(record.datalist.get("hash", ""))[:12]
    facts["Data set"] = Path(str(record.datalist.get("dataset_dir") or config.get("dataset_dir", ""))).name
    facts["Scored"] = f"{scored['cases']} cases of {scored.get('dir', 'it')}" if scored else ""
    for name in ("max_epochs", "lr", "batch_size", "seed"):
        facts[name] = config.get(name)
    facts["Weights"] = str((record.content or {}).get("checkpoint", {}).get("sha256", ""))[:12]
    facts["State"] = str(record.tracking.get("status", "")).lower()
    facts["MLflow run"] = record.tracking.get("run_id", "")
    return {name: value for name, value in facts.items() if value not in ("", None)}


def _curves(record: RunRecord) -> list[Picture]:
    caption = "Loss and validation by epoch"
    named = [(record, caption)]
    named += [(fold, f"{caption}, {fold.folder.name.replace('_', ' ')}") for fold in record.folds]
    return charts((one.folder / "figures" / f"{_CURVES}.png", caption) for one, caption in named)


def _figures(record: RunRecord) -> list[Picture]:
    folder = record.results / "figures"
    captions = dict(CAPTIONS)
    for path in sorted(folder.glob("*.png")):
        if path.stem != _CURVES and not path.stem.startswith(("overlay_", "validation_")):
            captions.setdefault(path.stem, path.stem.replace("_", " "))
    found = []
    for name, caption in captions.items():
        read = photographs if name in PHOTOGRAPHS else charts
        found += read([(folder / f"{name}.png", caption)])
    return found


def _case_pictures(record: RunRecord, most_bytes: int) -> list[Picture]:
    return photographs(((path, "") for path in _case_files(record)), most_bytes)


def _case_files(record: RunRecord) -> Iterator[Path]:
    """Yield the pictures of the notable cases, worst first; those of the training where nothing was evaluated."""
    folder = record.results / "figures"
    overlays = [path for name in _NOTABLE if (path := folder / f"overlay_{name}.png").is_file()]
    if overlays:
        yield from overlays
    elif record.folds:
        for name in _NOTABLE:
            for fold in record.folds:
                yield from (path for path in _case_files(fold) if path.stem == f"overlay_{name}")
    else:
        yield from sorted(folder.glob("validation_*.png"))


def _table(record: RunRecord) -> dict[str, Any] | None:
    """Return columns and rows of ``cases.csv``, the worst first; of a long one the first rows."""
    if record.cases is None:
        return None
    cases = record.cases
    if {"label", "probability"} <= set(cases):
        cases = cases.iloc[(cases["probability"] - cases["label"]).abs().argsort(kind="stable")[::-1]]
    elif columns := [column for column in ORDERED_BY if column in cases]:
        cases = cases.sort_values(columns[0], kind="stable")
    shown = cases.head(_ROWS)
    cells = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    return {"columns": list(shown.columns), "rows": cells, "cases": len(cases)}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"
    return str(value)


def _config_text(record: RunRecord) -> str:
    folder = (
        record.folds[0].folder if record.folds and not (record.folder / CONFIG).is_file() else record.folder
    )
    path = folder / CONFIG
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return yaml.safe_dump(dict(record.config), sort_keys=False) if record.config else ""


def _missing(record: RunRecord, curves: Sequence[Picture], cases: Sequence[Picture]) -> Mapping[str, str]:
    """Return, for each part of the page that is empty, why, and how to fill it."""
    config = f"bundles/{record.bundle}/evaluate.yaml"
    evaluate = f"python -m monai.bundle run --config_file {config} --ckpt_path {record.folder}"
    found = {}
    if record.content is None:
        trained = (record.folder / BEST).is_file()
        found["metrics"] = (
            "This run was not evaluated yet." if trained else "This run has no finished weights yet."
        )
        found["command"] = evaluate if trained else ""
    if not curves:
        found["curves"] = "There are no learning curves: they are drawn when a training ends."
    if not cases:
        found["cases"] = "There are no pictures of cases: an evaluation draws them."
    if not record.environment:
        found["environment"] = "The run folder does not keep what it ran on."
    return found


def _limits(record: RunRecord, bundle: Bundle) -> list[str]:
    limits = list(ALWAYS[:1])
    if record.content is not None and record.chose_weights:
        limits.append(ON_VALIDATION)
    if left_out := (record.content or {}).get("dataset", {}).get("left_out"):
        limits.append(f"{len(left_out)} X-rays could not be read and are not scored: {', '.join(left_out)}.")
    if record.cases is not None:
        seen = sum(record.trained_on(case) for case in record.cases["case"])
        if seen:
            limits.append(
                f"{seen} of the {len(record.cases)} scored cases, or others of their patients, trained this network: "
                "their scores say nothing about new patients."
            )
        if few := caution(len({record.groups.get(case, f"case {case}") for case in record.cases["case"]})):
            limits.append(few)
    return [*limits, *ALWAYS[1:], *bundle.limits]


def log_report(record: RunRecord, path: Path, tracking_uri: str) -> str:
    """Log a page as an artifact of its run's MLflow run; return what came of it in a sentence, empty if there is none.

    Nothing that goes wrong here is worth the page.
    """
    run_id, sqlite = record.tracking.get("run_id"), tracking_uri.startswith("sqlite:///")
    if not run_id:
        return ""
    if sqlite and not Path(tracking_uri.removeprefix("sqlite:///")).is_file():
        return f"It was not logged to MLflow: there is no store {tracking_uri}."
    import mlflow

    from pipelines.tracking_store import AWAY, PATIENT, patience, reason

    try:
        with patience(PATIENT):
            mlflow.MlflowClient(tracking_uri=tracking_uri).log_artifact(run_id, str(path))
    except AWAY as error:
        return f"It was not logged to MLflow: {reason(error)}"
    return f"It is an artifact of the MLflow run {run_id} as well."
