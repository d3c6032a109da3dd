"""What the checks of all data sets of chest X-rays share: files, headers, duplicates, patients, boxes, facts."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.checks.report import Finding, Report, Severity, check_duplicates
from pipelines.checks.tracking import check_tracking
from pipelines.checks.xray_file import Examined, examine, missing_file
from pipelines.datasets.datalist import Case, Split, datalist_hash, dataset_root
from pipelines.datasets.xrays import IMAGES
from pipelines.errors import UserError
from pipelines.progress import track

WORKERS = 4  # they wait for the disk and hash, which needs no lock
SAMPLE = 100  # headers that the quick half reads, from all over the set
SMALL_PART = 0.005  # of the width or height: that far a box may lie outside, by rounding
ODD_ASPECT = 4  # longer than wide, or wider than long
AGE_BANDS = ((0, 18, "0-17"), (18, 40, "18-39"), (40, 60, "40-59"), (60, 80, "60-79"), (80, 999, "80+"))


def start(dataset_dir: str | Path, tracking_uri: str | None) -> Report:
    """Return a report that holds where the data set and the MLflow store are, and what is wrong with the store."""
    report = Report(facts={"dataset_dir": str(dataset_root(dataset_dir))})
    if tracking_uri:
        report.facts["tracking_uri"] = tracking_uri.rpartition("@")[2]
        report.add(check_tracking(tracking_uri))
    return report


def add_layout_error(report: Report, error: UserError) -> Report:
    """Add what makes a folder no data set at all, and return ``report``."""
    message, _, remedy = str(error).partition("\n")
    report.add([Finding("error", "layout", None, message, remedy or None)])
    return report


def examine_set(
    report: Report, cases: Sequence[Case], problems: Iterable[str], quick: bool
) -> list[Examined]:
    """Check tables against files, then the files themselves; return what is known of those that are there.

    Args:
        report: where findings and facts are added.
        cases: of the tables.
        problems: what is wrong with rows of the tables.
        quick: read the headers of about ``SAMPLE`` files, and no pixels.
    """
    report.facts["cases"] = len(cases)
    report.add(Finding("error", "table", None, problem, "mend that row") for problem in problems)
    folder = Path(report.facts["dataset_dir"]) / IMAGES
    if cases and not folder.is_dir():
        message = f"the folder of the images is missing, expected {folder}"
        report.add([Finding("error", "files", None, message, "unpack the images there")])
        return []
    missing = [missing_file(case) for case in cases]
    report.add(finding for finding in missing if finding)
    report.add(check_folder(folder, cases))
    there = [case for case, lacks in zip(cases, missing, strict=True) if not lacks]
    chosen = there[:: max(1, len(there) // SAMPLE)] if quick else there
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        results = pool.map(partial(examine, quick=quick), chosen)
        examined = [result for _, result in zip(track(chosen, "Checking"), results, strict=True)]
    report.add(finding for result in examined for finding in result.findings)
    report.add(check_missing_tags(examined))
    report.facts |= describe(examined)
    return examined


def check_folder(folder: Path, cases: Iterable[Case]) -> Iterator[Finding]:
    """Yield the files beside the listed ones."""
    names = {Path(case["image"]).name for case in cases}
    found = [entry.name for entry in os.scandir(folder) if _is_file(entry)] if folder.is_dir() else []
    others = sorted(name for name in set(found) - names if not name.startswith("."))
    files = [name for name in others if name.lower().endswith(".dcm")]
    if files:
        message = f"{len(files)} DICOM files are in no table, like '{files[0]}': they are left out"
        yield Finding("warning", "files", None, message, "list them, or remove them")
    if odd := sorted(set(others) - set(files)):
        message = f"{len(odd)} files beside the images are no .dcm, like '{odd[0]}': they are left out"
        yield Finding("info", "files", None, message)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def check_missing_tags(examined: Sequence[Examined]) -> Iterator[Finding]:
    """Yield each tag that files lack, once for the whole set."""
    use = {"PixelSpacing": "lengths in mm are unknown for them"}
    files = [result for result in examined if result.header]
    for tag, count in Counter(tag for result in files for tag in result.missing).items():
        message = f"{tag} is missing in {count} of {len(files)} files: " + use.get(
            tag, "it counts as unknown"
        )
        yield Finding("warning" if tag == "ViewPosition" else "info", "tags", None, message)


def check_split(report: Report, split: Split, examined: Sequence[Examined], quick: bool) -> None:
    """Add the split's sizes and hash, and what is on both of its sides."""
    report.facts["split"] = {side: len(cases) for side, cases in split.items()}
    if not quick:
        report.facts["split_hash"] = datalist_hash(split)
    side_of = {case["case"]: side for side, cases in split.items() for case in cases}
    report.add(check_duplicates({result.name: result.fingerprint for result in examined}, side_of))
    report.add(check_persons(examined, side_of))


def check_persons(examined: Iterable[Examined], side_of: Mapping[str, str]) -> Iterator[Finding]:
    """Yield an error where files of one PatientID are on several sides of the split.

    A PatientID that most files share names nobody, as in a de-identified set, and is told as that.
    """
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for result in examined:
        if result.person and result.name in side_of:
            sides[result.person][side_of[result.name]].append(result.name)
    total = sum(len(names) for found in sides.values() for names in found.values())
    for found in sides.values():
        count = sum(map(len, found.values()))
        if count > max(3, total / 2):
            message = f"one PatientID stands in {count} of {total} files: it is taken as removed, not as a patient's"
            yield Finding("info", "patients", None, message)
        elif len(found) > 1:
            first = [(side, names[0]) for side, names in found.items()]
            parts = ", ".join(f"'{name}' ({side})" for side, name in first)
            message = f"files of one PatientID are on several sides of the split: {parts}"
            remedy = "give a mapping table (`patients`), or list them on one side"
            yield Finding("error", "patients", first[0][1], message, remedy)


def check_boxes(
    name: str, boxes: Sequence[Sequence[float]], size: tuple[float, float], severity: Severity
) -> Iterator[Finding]:
    """Yield what is wrong with a case's boxes.

    Args:
        name: the case's.
        boxes: (N, 4), xyxy.
        size: the image's width and height in the boxes' unit.
        severity: of an empty box and one outside the image.
    """
    for box in boxes:
        x0, y0, x1, y1 = (value / length for value, length in zip(box, (*size, *size), strict=True))
        text = ", ".join(f"{value:g}" for value in (round(value, 3) for value in box))
        if x1 <= x0 or y1 <= y0:
            yield Finding(severity, "boxes", name, f"the box ({text}) is empty", "mend its width and height")
        elif min(x0, y0) < -SMALL_PART or max(x1, y1) > 1 + SMALL_PART:
            message = f"the box ({text}) leaves the image of {size[0]:g} x {size[1]:g}"
            yield Finding(severity, "boxes", name, message, "check the box and the size that it refers to")
        elif not 1 / ODD_ASPECT < (aspect := (x1 - x0) * size[0] / ((y1 - y0) * size[1])) < ODD_ASPECT:
            message = f"the box ({text}) is {aspect:.2g} times as wide as high"
            yield Finding(
                "warning", "boxes", name, message, "check whether x and y or width and x1 are mixed up"
            )
    for count in Counter(map(tuple, boxes)).values():
        if count > 1:
            yield Finding(
                "warning", "boxes", name, f"one box is listed {count} times", "keep one of its rows"
            )


def describe(examined: Sequence[Examined]) -> dict[str, Any]:
    """Return the counts of sizes, kinds of pixels, views and sexes, and the range of ages and spacings."""
    headers = [result.header for result in examined if result.header]
    sizes = Counter(f"{header.columns} x {header.rows}" for header in headers)
    facts: dict[str, Any] = {
        "headers_read": len(headers),
        "sizes": dict(sizes.most_common(5)),
        "pixels": dict(Counter(result.kind for result in examined if result.kind)),
        "views": dict(Counter(header.view or "unknown" for header in headers)),
        "sexes": dict(Counter(header.sex or "unknown" for header in headers)),
    }
    for key, values in (
        ("age_years", [header.age for header in headers if header.age is not None]),
        ("spacing_mm", [value for header in headers for value in header.spacing or ()]),
    ):
        facts |= {key: {"min": round(min(values), 4), "max": round(max(values), 4)}} if values else {}
    return facts


def age_band(age: float | None) -> str:
    """Return the band that an age in years falls into: ``"40-59"``."""
    return next((name for low, high, name in AGE_BANDS if age is not None and low <= age < high), "unknown")


def balance(labels: Sequence[int], groups: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return ``{group: {"cases": n, "positive": n, "share": …}}``, sorted by group."""
    table: dict[str, list[int]] = defaultdict(list)
    for label, group in zip(labels, groups, strict=True):
        table[group].append(label)
    return {
        group: {"cases": len(found), "positive": sum(found), "share": round(sum(found) / len(found), 3)}
        for group, found in sorted(table.items())
    }


def auroc_of_groups(labels: Sequence[int], groups: Sequence[str]) -> float | None:
    """Return the AUROC of each case's share of positives in its group as a score; None without both labels.

    It is how well the group alone tells the label in these very cases, at least 0.5 (Mann-Whitney: the chance that a
    positive scores higher than a negative, ties counted half).
    """
    positives, negatives = sum(labels), len(labels) - sum(labels)
    if not positives or not negatives:
        return None
    below, area = 0, 0.0
    rows = balance(labels, groups).values()
    for row in sorted(rows, key=lambda row: row["positive"] / row["cases"]):
        healthy = row["cases"] - row["positive"]
        area += row["positive"] * (below + healthy / 2)
        below += healthy
    return area / (positives * negatives)
