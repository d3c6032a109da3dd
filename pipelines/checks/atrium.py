"""The preflight check of an atrium data set: what would fail in a training, or let it learn garbage."""

from __future__ import annotations

import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checks.atrium_case import Examined, examine
from pipelines.checks.atrium_estimate import estimate_training
from pipelines.checks.report import Finding, Report, check_duplicates, require_trainable
from pipelines.checks.tracking import check_tracking
from pipelines.datasets import datalist, msd
from pipelines.errors import UserError

if TYPE_CHECKING:
    from torch import nn

SPACING_SPREAD = 2.0
WORKERS = 4  # gzip and numpy leave the interpreter's lock; each holds one volume in memory


def check_atrium(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] = 16,
    val_cases: int | str | Sequence[str] = 4,
    quick: bool = False,
    tracking_uri: str | None = None,
    max_epochs: int = 75,
    bundle: str = "atrium",
) -> Report:
    """Check a data set in the Decathlon's layout, and what a training on it needs.

    Args:
        dataset_dir: the folder that holds ``dataset.json``.
        train_cases: as for :func:`pipelines.datasets.msd.split_cases`.
        val_cases: likewise.
        quick: look at the layout and the headers alone, which takes under a second, and decode no pixels.
        tracking_uri: the MLflow store, checked where given.
        max_epochs: for the estimate of a training's time.
        bundle: whose data set it is, for the commands that findings name.

    Returns:
        A report with every fault of every case; nothing is raised for a fault of the data. Facts:
        ``dataset_dir``, ``tracking_uri``, ``cases``, ``split`` (names), ``spacing_mm`` (min and max along
        R, A, S), ``orientations``, ``estimate``, and if not quick ``split_hash`` and ``label_volume_ml``.
    """
    report = Report(facts={"dataset_dir": str(datalist.dataset_root(dataset_dir))})
    if tracking_uri:
        report.facts["tracking_uri"] = tracking_uri.rpartition("@")[2]
        report.add(check_tracking(tracking_uri))
    try:
        cases, problems = msd.scan_cases(dataset_dir, bundle)
    except UserError as error:
        message, _, remedy = str(error).partition("\n")
        report.add([Finding("error", "layout", None, message, remedy or None)])
        return report
    report.facts["cases"] = len(cases)
    report.add(Finding("error", "layout", None, problem, "mend that entry") for problem in problems)
    report.add(check_files(datalist.dataset_root(dataset_dir), cases))
    examined = _examine_all(cases, quick)
    report.add(finding for case in examined for finding in case.findings)
    split = _split(report, cases, train_cases, val_cases, quick)
    report.add(check_consistency(examined))
    report.add(
        check_duplicates(
            {case.name: case.fingerprint for case in examined},
            {case["case"]: side for side in split for case in split[side]},
        )
    )
    report.facts |= _facts(examined)
    report.facts["estimate"] = estimate_training(
        split, {case.name: case.extent_mm for case in examined}, max_epochs
    )
    return report


def require(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str],
    val_cases: int | str | Sequence[str],
    tracking_uri: str | None,
    network_def: nn.Module,
    slice_offsets: Sequence[int],
    patch_size: Sequence[int],
    planes: Sequence[int],
    bundle_root: str = "bundles/atrium",
) -> None:
    """Refuse what the quick half of the checks finds errors in, and a network that does not fit the slices.

    Args:
        dataset_dir: see :func:`check_atrium`.
        train_cases: likewise.
        val_cases: likewise.
        tracking_uri: likewise; ``MLFLOW_TRACKING_URI`` goes before it, and ``None`` leaves the store unchecked.
        network_def: the network; not to be used afterwards.
        slice_offsets: its channels.
        patch_size: see :func:`pipelines.checks.network.require_fitting`.
        planes: likewise.
        bundle_root: of the bundle that trains, whose `check` is named.

    Raises:
        UserError: see :func:`pipelines.checks.report.require_trainable` and ``require_fitting``.
    """
    from pipelines.checks.network import require_fitting

    require_fitting(network_def, len(slice_offsets), patch_size, planes)
    uri = tracking_uri and (os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri)
    bundle = Path(bundle_root).name
    report = check_atrium(dataset_dir, train_cases, val_cases, True, uri, bundle=bundle)
    require_trainable(report, bundle)


def check_files(root: Path, cases: Sequence[dict[str, str]]) -> Iterator[Finding]:
    """Yield what lies in the image and label folders beside the listed cases."""
    names: dict[str, set[str]] = {}
    for kind, folder in (("image", "imagesTr"), ("label", "labelsTr")):
        folders = {root / folder, *(Path(case[kind]).parent for case in cases)}
        files = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
        hidden = [path.name for path in files if path.name.startswith(".")]
        if hidden:
            message = (
                f"{len(hidden)} hidden files beside the {kind}s, like '{min(hidden)}': they are left out"
            )
            yield Finding("info", "files", None, message)
        unlisted = files - {Path(case[kind]) for case in cases}
        names[kind] = {
            path.name for path in unlisted if path.name not in hidden and path.name.endswith(msd.SUFFIXES)
        }
    for name in sorted(names["image"] | names["label"], key=msd.natural_key):
        there = [kind for kind in names if name in names[kind]]
        lacks = "" if len(there) == 2 else f", without {'label' if there == ['image'] else 'image'}"
        message = f"dataset.json does not list the {' and '.join(there)} '{name}'{lacks}: left out"
        yield Finding("warning", "files", None, message, "list it under 'training', or remove it")


def check_consistency(examined: Iterable[Examined]) -> Iterator[Finding]:
    """Yield spacings (per anatomical axis, mm) more than two-fold apart, and orientations that differ."""
    readable = [case for case in examined if case.spacing]
    for axis, name in enumerate(("left-right", "back-front", "foot-head")):
        edges = sorted((case.spacing[axis], case.name) for case in readable)
        if edges and edges[-1][0] > SPACING_SPREAD * edges[0][0]:
            (low, first), (high, last) = edges[0], edges[-1]
            message = f"spacing along {name} ranges from {low:.4g} mm ('{first}') to {high:.4g} mm ('{last}')"
            yield Finding(
                "warning", "spacing", None, message, "one scale may suit neither: check these headers"
            )
    orientations = Counter(case.orientation for case in readable)
    if len(orientations) > 1:
        parts = ", ".join(f"{name} in {count}" for name, count in orientations.most_common())
        yield Finding("warning", "orientation", None, f"orientations differ within the set: {parts} cases")


def _examine_all(cases: Sequence[dict[str, str]], quick: bool) -> list[Examined]:
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        results = pool.map(partial(examine, quick=quick), cases)
        hide = quick or not sys.stderr.isatty()
        console = Console(stderr=True)
        return list(
            track(results, "checking", total=len(cases), console=console, disable=hide, transient=True)
        )


def _split(
    report: Report, cases: Sequence[dict[str, str]], train_cases: Any, val_cases: Any, quick: bool
) -> dict[str, list[dict[str, str]]]:
    """Return the split and note it, or note why there is none."""
    try:
        split = msd.split_cases(cases, train_cases, val_cases)
    except UserError as error:
        report.add([Finding("error", "split", None, str(error), "mend train_cases or val_cases")])
        return {}
    report.facts["split"] = {side: [case["case"] for case in split[side]] for side in split}
    if not quick and not any(datalist.missing_files(case) for case in cases):
        report.facts["split_hash"] = datalist.datalist_hash(split)
    return split


def _facts(examined: Sequence[Examined]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if spacings := [case.spacing for case in examined if case.spacing]:
        columns = list(zip(*spacings, strict=True))
        facts["spacing_mm"] = {
            "min": [round(min(c), 4) for c in columns],
            "max": [round(max(c), 4) for c in columns],
        }
        facts["orientations"] = dict(Counter(case.orientation for case in examined if case.spacing))
    if volumes := [case.label_ml for case in examined if case.label_ml is not None]:
        spread = (min(volumes), statistics.median(volumes), max(volumes))
        facts["label_volume_ml"] = dict(
            zip(("min", "median", "max"), (round(v, 1) for v in spread), strict=True)
        )
    return facts
