"""The preflight check of a data set of hearts: what would fail in a training, or let it learn garbage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pipelines.checks import xray
from pipelines.checks.report import Finding, Report, require_trainable
from pipelines.checks.xray_file import Examined
from pipelines.datasets import heart
from pipelines.datasets.datalist import Case
from pipelines.datasets.heart_edges import knows_thorax
from pipelines.errors import UserError

FAR = 0.05  # how far a ratio may lie from its own boxes' before one of them is doubted
SAME_SHAPE = 0.02  # of width by height: what rounding a resized image's sides may change
NO_RATIO = "the network does not learn the cardiothoracic ratio"


def check_cardiac(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
    quick: bool = False,
    tracking_uri: str | None = None,
    bundle: str = "cardiac",
) -> Report:
    """Check a data set in the layout of the cardiac detection labels.

    Args:
        dataset_dir: the folder that holds ``rsna_heart_detection.csv``.
        train_cases: as for :func:`pipelines.datasets.heart.split_images`.
        val_cases: likewise.
        quick: look at the tables, the names of all files and the headers of about a hundred.
        tracking_uri: the MLflow store, checked where given.
        bundle: whose data set it is, for the commands that findings name.

    Returns:
        A report with every fault of every case; nothing is raised for a fault of the data. Facts: ``dataset_dir``,
        ``tracking_uri``, ``cases``, ``split`` (counts), ``sizes``, ``pixels``, ``views``, ``sexes``, ``age_years``,
        ``spacing_mm``, ``mean_box`` (fractions of width and height), ``thorax`` (cases that have its range) and, if
        not quick, ``split_hash``.
    """
    report = xray.start(dataset_dir, tracking_uri)
    try:
        cases, problems, sizes, strangers = heart.scan(dataset_dir, bundle)
    except UserError as error:
        return xray.add_layout_error(report, error)
    examined = xray.examine_set(report, cases, problems, quick)
    for case in cases:
        size = sizes[case["case"]]
        box = [value * side for value, side in zip(case["box"], (*size, *size), strict=True)]
        report.add(xray.check_boxes(case["case"], [box], size, "error"))
    report.add(check_shapes(sizes, examined))
    report.add(check_thorax(cases, strangers))
    report.facts |= _facts(cases)
    try:
        split = heart.split_images(cases, report.facts["dataset_dir"], train_cases, val_cases)
    except UserError as error:
        remedy = "mend train_cases and val_cases, or the .npy files"
        report.add([Finding("error", "split", None, str(error), remedy)])
    else:
        xray.check_split(report, split, examined, quick)
        if knows_thorax(cases) and not knows_thorax(split["train"]):
            message = f"{heart.THORAX} has no range of any of the {len(split['train'])} images that train"
            report.add(
                [Finding("warning", "thorax", None, f"{message}: {NO_RATIO}", "add them, or split otherwise")]
            )
    return report


def require(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
    bundle_root: str = "bundles/cardiac",
) -> None:
    """Refuse a data set that the quick half of the checks finds errors in, before a training is begun.

    Args:
        dataset_dir: see :func:`check_cardiac`.
        train_cases: likewise.
        val_cases: likewise.
        bundle_root: of the bundle that trains, whose `check` is named.

    Raises:
        UserError: the first errors and the command that shows all.
    """
    bundle = Path(bundle_root).name
    report = check_cardiac(dataset_dir, train_cases, val_cases, quick=True, bundle=bundle)
    require_trainable(report, bundle)


def check_shapes(sizes: Mapping[str, tuple[float, float]], examined: Sequence[Examined]) -> Iterator[Finding]:
    """Yield the cases whose boxes refer to an image of another shape than their file's; a square one fits all.

    Args:
        sizes: columns and rows that each box refers to.
        examined: what is known of the files.
    """
    for result in examined:
        (across, down), header = sizes[result.name], result.header
        if header is None or not header.rows or across == down:
            continue
        wanted = header.columns / header.rows
        if abs(across / down / wanted - 1) <= SAME_SHAPE:
            continue
        exchanged = abs(down / across / wanted - 1) <= SAME_SHAPE
        message = f"img_shape_x x img_shape_y is {across:g} x {down:g}, the file has {header.columns} x {header.rows}"
        message += ": they look exchanged" if exchanged else ", which is of another shape"
        yield Finding("warning", "boxes", result.name, message, "check that row: x runs along the columns")


def check_thorax(cases: Sequence[Case], strangers: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what is wrong with the thorax's ranges, or that there are none.

    Args:
        cases: of the data set.
        strangers: names in ``thorax.csv`` that are no case's.
    """
    if strangers:
        message = f"{len(strangers)} names in thorax.csv are not in {heart.LABELS}, like '{strangers[0]}'"
        yield Finding(
            "warning", "thorax", None, f"{message}: they are left out", "mend the names, or remove their rows"
        )
    if not any("thorax" in case for case in cases):
        yield Finding("info", "thorax", None, f"there is no thorax.csv: {NO_RATIO}")
        return
    unknown = [case["case"] for case in cases if math.isnan(case["thorax"][0])]
    if len(unknown) == len(cases):
        message = f"thorax.csv has no range of any of the {len(cases)} cases: {NO_RATIO}"
        yield Finding("warning", "thorax", None, message, "add them, or remove the table")
    elif unknown:
        message = f"thorax.csv lacks {len(unknown)} of {len(cases)} cases, like '{unknown[0]}'"
        yield Finding("warning", "thorax", None, message, "they do not teach the cardiothoracic ratio")
    for case in cases:
        if case["case"] not in unknown:
            yield from _check_range(case)


def _check_range(case: Case) -> Iterator[Finding]:
    (left, right), (x0, _, x1, _) = case["thorax"], case["box"]
    text = f"the thorax's range ({left:.3g}, {right:.3g}) of the width"
    if left < -xray.SMALL_PART or right > 1 + xray.SMALL_PART:
        yield Finding("error", "thorax", case["case"], f"{text} leaves the image", "check that row")
    elif x0 < left or x1 > right:
        message = f"{text} does not hold the heart's ({x0:.3g}, {x1:.3g})"
        yield Finding("warning", "thorax", case["case"], message, "check both rows")
    ratio = (x1 - x0) / (right - left)
    if abs(ratio - case["cardiothoracic_ratio"]) > FAR:
        message = (
            f"cardiothoracic_ratio is {case['cardiothoracic_ratio']:.3g}, yet its boxes give {ratio:.3g}"
        )
        yield Finding("warning", "thorax", case["case"], message, "check both rows")


def _facts(cases: Sequence[Case]) -> dict[str, object]:
    known = sum(not math.isnan(case["thorax"][0]) for case in cases if "thorax" in case)
    mean = [round(fmean(edge), 3) for edge in zip(*(case["box"] for case in cases), strict=True)]
    return {
        "mean_box": dict(zip(("x0", "y0", "x1", "y1"), mean, strict=True)) if mean else {},
        "thorax": known,
    }
