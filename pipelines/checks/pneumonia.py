"""The preflight check of a pneumonia data set: what would fail in a training, or let it learn garbage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.checks import xray
from pipelines.checks.report import Finding, Report, require_trainable
from pipelines.checks.xray_file import Examined
from pipelines.datasets import rsna
from pipelines.datasets.datalist import Case
from pipelines.errors import UserError

TELLING = 0.6  # AUROC of the view alone from which results need to be read by view


def check_pneumonia(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
    patients: str | Path | None = None,
    quick: bool = False,
    tracking_uri: str | None = None,
    bundle: str = "pneumonia",
) -> Report:
    """Check a data set in the RSNA challenge's layout.

    Args:
        dataset_dir: the folder that holds ``stage_2_train_labels.csv``.
        train_cases: as for :func:`pipelines.datasets.rsna.split_patients`.
        val_cases: likewise.
        patients: as for :func:`pipelines.datasets.rsna.read_cases`.
        quick: look at the tables, the names of all files and the headers of about a hundred.
        tracking_uri: the MLflow store, checked where given.
        bundle: whose data set it is, for the commands that findings name.

    Returns:
        A report with every fault of every case; nothing is raised for a fault of the data. Facts: ``dataset_dir``,
        ``tracking_uri``, ``cases``, ``positive``, ``boxes``, ``patients``, ``split`` (counts), ``sizes``, ``pixels``,
        ``views``, ``sexes``, ``age_years``, ``spacing_mm`` and, if not quick, ``split_hash``, ``labels_by`` (view, sex
        and age: cases, positives, their share) and ``auroc_of`` each of these alone.
    """
    report = xray.start(dataset_dir, tracking_uri)
    try:
        cases, problems = rsna.scan_cases(dataset_dir, patients, bundle)
        mapping = rsna.read_mapping(Path(report.facts["dataset_dir"]), patients)
    except UserError as error:
        return xray.add_layout_error(report, error)
    examined = xray.examine_set(report, cases, problems, quick)
    report.facts |= {
        "positive": sum(case["label"] for case in cases),
        "boxes": sum(len(case["boxes"]) for case in cases),
        "patients": len({case["group"] for case in cases}),
    }
    report.add(check_mapping(cases, mapping))
    report.add(_check_boxes(cases, examined))
    report.add(check_classes(cases))
    try:
        split = rsna.split_patients(cases, train_cases, val_cases)
    except UserError as error:
        report.add([Finding("error", "split", None, str(error), "mend train_cases or val_cases")])
    else:
        xray.check_split(report, split, examined, quick)
        report.add(check_labels(split))
    if not quick:
        report.add(_check_balance(report, cases, examined))
    return report


def require(
    dataset_dir: str | Path,
    train_cases: int | str | Sequence[str] | None = None,
    val_cases: int | str | Sequence[str] | None = None,
    patients: str | Path | None = None,
    bundle_root: str = "bundles/pneumonia",
) -> None:
    """Refuse a data set that the quick half of the checks finds errors in, before a training is begun.

    Args:
        dataset_dir: see :func:`check_pneumonia`.
        train_cases: likewise.
        val_cases: likewise.
        patients: likewise.
        bundle_root: of the bundle that trains, whose `check` is named.

    Raises:
        UserError: the first errors and the command that shows all.
    """
    bundle = Path(bundle_root).name
    report = check_pneumonia(dataset_dir, train_cases, val_cases, patients, quick=True, bundle=bundle)
    require_trainable(report, bundle)


def check_mapping(cases: Sequence[Case], mapping: dict[str, str]) -> Iterator[Finding]:
    """Yield whether images of one patient could be on both sides because nothing says whose they are."""
    unknown = [case["case"] for case in cases if case["case"] not in mapping]
    if not mapping:
        message = "no table says which images are of one patient: each counts as a patient of its own"
        yield Finding("info", "patients", None, message, f"put {' or '.join(rsna.MAPPINGS)} into the folder")
    elif unknown:
        message = f"the mapping table lacks {len(unknown)} of {len(cases)} images, like '{unknown[0]}'"
        yield Finding("warning", "patients", None, message, "each of them counts as a patient of its own")


def check_classes(cases: Sequence[Case]) -> Iterator[Finding]:
    """Yield cases whose detailed class contradicts their label."""
    for case in cases:
        if case.get("class") and (case["class"] == "Lung Opacity") != bool(case["label"]):
            message = f"Target is {case['label']}, yet its detailed class is '{case['class']}'"
            yield Finding("warning", "labels", case["case"], message, "keep the one that is right")


def check_labels(split: dict[str, list[Case]]) -> Iterator[Finding]:
    """Yield a side of the split on which all labels are the same."""
    for side in ("train", "val"):
        if len({case["label"] for case in split[side]}) == 1:
            message = f"all {len(split[side])} cases of '{side}' have Target {split[side][0]['label']}"
            yield Finding("error", "labels", None, message, "a training needs both: choose other cases")


def _check_boxes(cases: Sequence[Case], examined: Sequence[Examined]) -> Iterator[Finding]:
    """Yield what is wrong with boxes; only an evaluation of heat maps looks at them."""
    sizes = {result.name: (result.header.columns, result.header.rows) for result in examined if result.header}
    for case in cases:
        if case["case"] in sizes:
            yield from xray.check_boxes(case["case"], case["boxes"], sizes[case["case"]], "warning")
    marked = [case for case in cases if case["label"] and case["boxes"]]
    if positives := sum(case["label"] for case in cases) - len(marked):
        message = f"{positives} positives have no box: heat maps cannot be judged against them"
        yield Finding("info", "boxes", None, message)


def _check_balance(report: Report, cases: Sequence[Case], examined: Sequence[Examined]) -> Iterator[Finding]:
    label_of = {case["case"]: case["label"] for case in cases}
    known: list[Any] = [(label_of[result.name], result.header) for result in examined if result.header]
    labels = [label for label, _ in known]
    groups = {
        "view": [header.view or "unknown" for _, header in known],
        "sex": [header.sex or "unknown" for _, header in known],
        "age": [xray.age_band(header.age) for _, header in known],
    }
    report.facts["labels_by"] = {name: xray.balance(labels, of) for name, of in groups.items()}
    scores = {name: xray.auroc_of_groups(labels, of) for name, of in groups.items()}
    report.facts["auroc_of"] = {name: round(score, 3) for name, score in scores.items() if score is not None}
    if (score := scores["view"]) is not None and score >= TELLING:
        message = f"the view alone tells the label with AUROC {score:.2f}"
        yield Finding("warning", "balance", None, message, "read every score by view")
