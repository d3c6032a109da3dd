"""The preflight check: each fault of a data set, made by hand, is found with its case and hides no other."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipelines.checks import atrium_estimate
from pipelines.checks.atrium import check_atrium
from pipelines.checks.atrium_case import examine
from pipelines.checks.atrium_estimate import estimate_training
from pipelines.checks.report import Finding, Report, require_trainable
from pipelines.errors import UserError

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
SHAPE = (16, 14, 12)
# offsets of fields in a NIfTI-1 header, from the standard's nifti1.h
DIM, DATATYPE, PIXDIM, XYZT_UNITS, QFORM_CODE = 40, 70, 76, 123, 252


def save(path: Path, pixels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    nib.save(nib.Nifti1Image(pixels, affine), path)


def pixels_of(case: int) -> np.ndarray:
    return np.random.default_rng(case).integers(0, 900, SHAPE, dtype=np.int16)


def atrium_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:10, 4:10, 3:9] = 1  # 216 voxels of 80 mm³: 17.28 mL
    return mask


def list_cases(root: Path, names: list[str]) -> None:
    entries = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
    (root / "dataset.json").write_text(json.dumps({"training": entries}))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Five good cases, la_1 to la_5: with the default 16/4, la_1 to la_4 train and la_5 validates."""
    root = tmp_path / "set"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case in range(1, 6):
        save(root / "imagesTr" / f"la_{case}.nii.gz", pixels_of(case))
        save(root / "labelsTr" / f"la_{case}.nii.gz", atrium_mask())
    list_cases(root, [f"la_{case}" for case in range(1, 6)])
    return root


def image(root: Path, case: int = 2) -> Path:
    return root / "imagesTr" / f"la_{case}.nii.gz"


def label(root: Path, case: int = 2) -> Path:
    return root / "labelsTr" / f"la_{case}.nii.gz"


def patch(path: Path, offset: int, layout: str, *values: float) -> None:
    """Overwrite a field of a header behind nibabel's back, which would refuse or mend the value."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)))


def shifted(distance: float) -> np.ndarray:
    moved = AFFINE.copy()
    moved[0, 3] = distance
    return moved


def with_pixel(value: float) -> np.ndarray:
    pixels = pixels_of(2).astype(np.float32)
    pixels[1, 2, 3] = value
    return pixels


def with_label(value: float, dtype: type = np.uint8) -> np.ndarray:
    mask = atrium_mask().astype(dtype)
    mask[0, 0, :3] = value
    return mask


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def short_content(path: Path) -> None:
    """Make a gzip that is whole, around a NIfTI that is not."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))


def analyze(path: Path) -> None:
    path.write_bytes(gzip.compress(struct.pack("<i", 348) + bytes(1000)))


HEADER_FAULTS = {
    "image missing": (lambda r: image(r).unlink(), "files", "its image is missing, expected .*la_2.nii.gz"),
    "label missing": (lambda r: label(r).unlink(), "files", "its label is missing, expected .*la_2.nii.gz"),
    "shape": (
        lambda r: save(label(r), atrium_mask()[:-1]),
        "geometry",
        r"differ in shape: \(16, 14, 12\) and \(15, 14, 12\)",
    ),
    "affine": (lambda r: save(label(r), atrium_mask(), shifted(0.5)), "geometry", r"up to 0\.5 mm apart"),
    "4-D": (
        lambda r: save(image(r), pixels_of(2)[..., None]),
        "dimensions",
        r"4 dimensions \(16, 14, 12, 1\)",
    ),
    "2-D": (lambda r: save(image(r), pixels_of(2)[..., 0]), "dimensions", r"2 dimensions \(16, 14\)"),
    "single slice": (
        lambda r: save(image(r), pixels_of(2)[..., :1]),
        "dimensions",
        r"single slice: its shape is \(16, 14, 1\)",
    ),
    "no dimension": (lambda r: patch(image(r), DIM, "<h", 0), "dimensions", "expected 3"),
    "zero size": (lambda r: patch(image(r), DIM + 6, "<h", 0), "dimensions", r"no voxel: .*\(16, 14, 0\)"),
    "negative size": (lambda r: patch(image(r), DIM + 6, "<h", -3), "dimensions", r"no voxel: .*-3"),
    "zero spacing": (
        lambda r: patch(image(r), PIXDIM + 4, "<f", 0.0),
        "spacing",
        r"three positive numbers in mm, got \(0, 4, 5\)",
    ),
    "negative spacing": (
        lambda r: patch(label(r), PIXDIM + 4, "<f", -4.0),
        "spacing",
        r"label .*got \(-4, 4, 5\)",
    ),
    "NaN spacing": (lambda r: patch(image(r), PIXDIM + 4, "<f", np.nan), "spacing", r"got \(nan, 4, 5\)"),
    "singular affine": (
        lambda r: patch(image(r), 280, "<4f", 0, 0, 0, 0),
        "affine",
        "singular or non-finite",
    ),
    "spacing of a file in metres that says it is in mm": (
        lambda r: save(image(r), pixels_of(2), AFFINE * [[1e-3], [1e-3], [1e-3], [1]]),
        "affine",
        r"three numbers from 0\.05 to 50 mm, got \(0\.004, 0\.004, 0\.005\)",
    ),
    "sheared grid": (
        lambda r: save(image(r), pixels_of(2), AFFINE + np.outer([1, 0, 0, 0], [0, 1, 0, 0])),
        "affine",
        r"right angles, got a sheared grid \(off by 14\.0 degrees\)",
    ),
    "RGB": (lambda r: patch(image(r), DATATYPE, "<h", 128), "datatype", "datatype code 128"),
    "unknown datatype": (lambda r: patch(image(r), DATATYPE, "<h", 77), "datatype", "datatype code 77"),
    "zero bytes": (lambda r: image(r).write_bytes(b""), "nifti", r"image is empty \(0 bytes\)"),
    "web page": (lambda r: image(r).write_text("<html>"), "nifti", "image is corrupt or not gzip"),
    "zipped web page": (
        lambda r: image(r).write_bytes(gzip.compress(b"<html>")),
        "nifti",
        "not a NIfTI: .*starts with b'<html>'",
    ),
    "Analyze": (lambda r: analyze(image(r)), "nifti", "not a NIfTI"),
    "cut to 10 bytes": (
        lambda r: image(r).write_bytes(image(r).read_bytes()[:10]),
        "nifti",
        "gzip stream breaks off",
    ),
    "cut in half": (
        lambda r: cut(label(r, 2), 0.5),
        "nifti",
        "label is truncated: its gzip stream breaks off",
    ),
    "short content": (
        lambda r: short_content(image(r)),
        "nifti",
        "truncated: its header promises 5728 bytes, it holds 5628",  # 352 + 16 * 14 * 12 voxels of 2 bytes
    ),
}
PIXEL_FAULTS = {
    "flipped byte": (lambda r: flip_byte(image(r)), "nifti", "image is corrupt"),
    "label 2": (
        lambda r: save(label(r), with_label(2)),
        "label-values",
        "0 and 1 alone, it has 2 in 3 voxels",
    ),
    "label 255": (lambda r: save(label(r), atrium_mask() * 255), "label-values", "255 in 216 voxels"),
    "label 0.5": (lambda r: save(label(r), with_label(0.5, np.float32)), "label-values", r"0\.5 in 3 voxels"),
    "label NaN": (
        lambda r: save(label(r), with_label(np.nan, np.float32)),
        "label-values",
        "nan in 3 voxels",
    ),
    "label empty": (lambda r: save(label(r), atrium_mask() * 0), "label-empty", "no voxel is 1"),
    "image NaN": (lambda r: save(image(r), with_pixel(np.nan)), "nan", "1 voxels of NaN or infinity"),
    "image Inf": (lambda r: save(image(r), with_pixel(-np.inf)), "nan", "1 voxels of NaN or infinity"),
    "too large for float32": (
        lambda r: save(image(r), with_pixel(1.0).astype(np.float64) * 1e300),
        "nan",
        "voxels of NaN or infinity",
    ),
    "constant": (lambda r: save(image(r), pixels_of(2) * 0 + 7), "constant", "every voxel is 7"),
    "mask as image": (lambda r: save(image(r), atrium_mask()), "constant", "image holds 0 and 1 alone"),
}


def errors_of(report: Report) -> list[tuple[str, str | None]]:
    return [(finding.check, finding.case) for finding in report.errors]


def test_good_data_set_has_no_finding_and_its_facts_are_right(dataset):
    report = check_atrium(dataset)
    assert report.findings == []
    assert report.ok
    facts = report.facts
    assert facts["cases"] == 5
    assert facts["split"] == {"train": ["la_1", "la_2", "la_3", "la_4"], "val": ["la_5"], "test": []}
    assert re.fullmatch("[0-9a-f]{64}", facts["split_hash"])
    assert facts["spacing_mm"] == {"min": [4, 4, 5], "max": [4, 4, 5]}
    assert facts["orientations"] == {"RAS": 5}
    assert facts["label_volume_ml"] == {"min": 17.3, "median": 17.3, "max": 17.3}
    assert facts["estimate"]["slices_per_epoch"] == 720
    require_trainable(report, "atrium")


@pytest.mark.parametrize("fault", HEADER_FAULTS)
@pytest.mark.parametrize("quick", [True, False])
def test_fault_of_layout_or_header_is_an_error_of_its_case_even_quick(dataset, fault, quick):
    make, check, message = HEADER_FAULTS[fault]
    make(dataset)
    report = check_atrium(dataset, quick=quick)
    assert errors_of(report) == [(check, "la_2")]
    assert re.search(message, report.errors[0].message)
    assert report.errors[0].remedy


@pytest.mark.parametrize("fault", PIXEL_FAULTS)
def test_fault_of_pixels_is_an_error_of_its_case(dataset, fault):
    make, check, message = PIXEL_FAULTS[fault]
    make(dataset)
    report = check_atrium(dataset)
    assert errors_of(report) == [(check, "la_2")]
    assert re.search(message, report.errors[0].message)


def test_many_broken_cases_are_all_named(dataset):
    image(dataset, 1).unlink()
    cut(image(dataset, 2), 0.7)
    save(label(dataset, 3), atrium_mask() * 3)
    save(label(dataset, 4), atrium_mask(), shifted(9))
    save(image(dataset, 4), with_pixel(np.nan))
    report = check_atrium(dataset)
    expected = {
        ("files", "la_1"),
        ("nifti", "la_2"),
        ("label-values", "la_3"),
        ("geometry", "la_4"),
        ("nan", "la_4"),
    }
    assert set(errors_of(report)) == expected
    assert "split_hash" not in report.facts


WARNINGS: dict[str, tuple[Callable[[Path], None], str, str | None, str]] = {
    "affine a hair off": (
        lambda r: save(label(r), atrium_mask(), shifted(0.01)),
        "geometry",
        "la_2",
        r"up to 0\.01 mm apart",
    ),
    "pixdim against sform": (
        lambda r: patch(image(r), PIXDIM + 4, "<f", 2.0),
        "affine",
        "la_2",
        r"pixdim says \(2, 4, 5\) mm, the affine \(4, 4, 5\) mm",
    ),
    "metres": (
        lambda r: patch(image(r), XYZT_UNITS, "<b", 1),
        "spacing",
        "la_2",
        "in metres; it is taken as mm",
    ),
    "spacing spread": (
        lambda r: [
            save(p(r, 3), a, np.diag([4, 4, 11, 1]))
            for p, a in ((image, pixels_of(3)), (label, atrium_mask()))
        ],
        "spacing",
        None,
        r"along foot-head ranges from 5 mm \('la_\d'\) to 11 mm \('la_3'\)",
    ),
    "orientation": (
        lambda r: [
            save(p(r, 3), a, AFFINE @ np.diag([-1, -1, 1, 1]))
            for p, a in ((image, pixels_of(3)), (label, atrium_mask()))
        ],
        "orientation",
        None,
        "RAS in 4, LPS in 1 cases",
    ),
    "tiny atrium": (
        lambda r: save(label(r), atrium_mask() * (np.arange(12) < 6).astype(np.uint8)),
        "label-volume",
        "la_2",
        r"volume is 8\.64 mL, a left atrium has 10 to 300 mL",
    ),
    "unlisted pair": (
        lambda r: list_cases(r, ["la_1", "la_2", "la_3", "la_4"]),
        "files",
        None,
        "does not list the image and label 'la_5.nii.gz'",
    ),
    "unlisted image": (
        lambda r: shutil.copy(image(r), r / "imagesTr" / "new.nii.gz"),
        "files",
        None,
        "the image 'new.nii.gz', without label",
    ),
    "unlisted label": (
        lambda r: shutil.copy(label(r), r / "labelsTr" / "new.nii.gz"),
        "files",
        None,
        "the label 'new.nii.gz', without image",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_doubtful_data_is_a_warning_and_still_trainable(dataset, name):
    make, check, case, message = WARNINGS[name]
    make(dataset)
    report = check_atrium(dataset)
    assert [(f.severity, f.check, f.case) for f in report.findings] == [("warning", check, case)]
    assert re.search(message, report.findings[0].message)
    require_trainable(report, "atrium")


def test_sform_and_qform_that_disagree_are_a_warning_with_the_distance(dataset):
    volume = nib.Nifti1Image(pixels_of(2), AFFINE)
    volume.set_qform(shifted(-30.0), code=1)
    volume.set_sform(AFFINE, code=1)
    nib.save(volume, image(dataset))
    (finding,) = check_atrium(dataset, quick=True).findings
    assert (finding.severity, finding.check, finding.case) == ("warning", "affine", "la_2")
    assert "disagree by up to 30 mm" in finding.message


def test_volumes_without_sform_and_qform_are_a_warning_each(dataset):
    for path in (image(dataset), label(dataset)):
        patch(path, QFORM_CODE, "<2h", 0, 0)
    findings = [f for f in check_atrium(dataset, quick=True).findings if f.check == "affine"]
    assert [(f.severity, f.case, f.message[:33]) for f in findings] == [
        ("warning", "la_2", "image has neither sform nor qform"),
        ("warning", "la_2", "label has neither sform nor qform"),
    ]


def test_oblique_and_permuted_volumes_are_no_finding(dataset):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(3.1), -np.sin(3.1)], [np.sin(3.1), np.cos(3.1)]]
    for case in range(1, 6):
        volume = nib.Nifti1Image(pixels_of(case).transpose(2, 0, 1), turn @ AFFINE[:, [2, 0, 1, 3]])
        volume.set_qform(volume.affine, code=1)
        nib.save(volume, image(dataset, case))
        save(label(dataset, case), atrium_mask().transpose(2, 0, 1), turn @ AFFINE[:, [2, 0, 1, 3]])
    report = check_atrium(dataset)
    assert report.findings == []
    assert report.facts["spacing_mm"]["min"] == [4, 4, 5]
    assert report.facts["estimate"]["slices_per_epoch"] == 720


def test_hidden_files_of_macos_are_one_info_a_folder(dataset):
    for case in range(1, 6):
        (dataset / "imagesTr" / f"._la_{case}.nii.gz").write_bytes(b"\0\5\x16\7")
    (finding,) = check_atrium(dataset).findings
    assert finding.severity == "info"
    assert "5 hidden files beside the images, like '._la_1.nii.gz'" in finding.message


def test_swapped_label_is_a_warning(dataset):
    content = (dataset / "dataset.json").read_text()
    content = content.replace("labelsTr/la_1.", "labelsTr/x.").replace("labelsTr/la_2.", "labelsTr/la_1.")
    (dataset / "dataset.json").write_text(content.replace("labelsTr/x.", "labelsTr/la_2."))
    findings = check_atrium(dataset, quick=True).findings
    assert [(f.severity, f.case) for f in findings] == [("warning", "la_1"), ("warning", "la_2")]
    assert "image 'la_1.nii.gz' is paired with label 'la_2.nii.gz'" in findings[0].message


@pytest.mark.parametrize("quick", [True, False])
def test_copy_across_train_and_val_is_an_error_and_within_train_a_warning(dataset, quick):
    shutil.copy(image(dataset, 1), image(dataset, 3))
    (finding,) = check_atrium(dataset, quick=quick).findings
    assert finding.severity == "warning"
    assert "the same image under 2 names: 'la_1' (train), 'la_3' (train)" in finding.message
    shutil.copy(image(dataset, 1), image(dataset, 5))
    (finding,) = check_atrium(dataset, quick=quick).findings
    assert finding.severity == "error"
    assert "under 3 names: 'la_1' (train), 'la_3' (train), 'la_5' (val)" in finding.message


def test_same_pixels_in_another_type_and_file_are_a_duplicate(dataset):
    save(image(dataset, 5), pixels_of(1).astype(np.float64), AFFINE)
    (finding,) = check_atrium(dataset).findings
    assert (finding.severity, finding.check) == ("error", "duplicates")


def test_nifti_2_big_endian_scaled_and_uncompressed_files_are_read(dataset):
    nib.save(nib.Nifti2Image(pixels_of(1), AFFINE), image(dataset, 1))
    big = nib.Nifti1Image(pixels_of(2), AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(big, image(dataset, 2))
    scaled = nib.Nifti1Image(pixels_of(3) / 7.0, AFFINE)
    scaled.set_data_dtype(np.int16)
    nib.save(scaled, image(dataset, 3))
    plain = nib.Nifti1Image(pixels_of(4), AFFINE)
    nib.save(plain, dataset / "imagesTr" / "la_4.nii")
    image(dataset, 4).unlink()
    text = (dataset / "dataset.json").read_text()
    (dataset / "dataset.json").write_text(text.replace("imagesTr/la_4.nii.gz", "imagesTr/la_4.nii"))
    assert check_atrium(dataset).findings == []
    cut(dataset / "imagesTr" / "la_4.nii", 0.9)
    assert errors_of(check_atrium(dataset, quick=True)) == [("nifti", "la_4")]


def test_gzip_of_several_members_is_not_taken_for_truncated(dataset):
    content = gzip.decompress(image(dataset).read_bytes())
    image(dataset).write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]))
    assert check_atrium(dataset, quick=True).findings == []


# every example writes its own file, so the shared folder carries nothing over
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=12))
def test_no_header_however_odd_raises(tmp_path, edits):
    buffer = nib.Nifti1Image(pixels_of(1), AFFINE).to_bytes()
    content = bytearray(buffer)
    for offset, value in edits:
        content[offset] = value
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(content), 1))
    save(tmp_path / "b.nii.gz", atrium_mask())
    case = {"case": "a", "image": str(tmp_path / "a.nii.gz"), "label": str(tmp_path / "b.nii.gz")}
    for quick in (True, False):
        json.dumps([finding.message for finding in examine(case, quick).findings])


def test_unusable_entry_is_an_error_beside_the_cases(dataset):
    content = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(
        json.dumps({"training": ["imagesTr/la_9.nii.gz", *content["training"]]})
    )
    report = check_atrium(dataset)
    assert errors_of(report) == [("layout", None)]
    assert report.facts["cases"] == 5


def test_missing_data_set_is_one_error_with_both_commands(tmp_path):
    report = check_atrium(tmp_path / "nowhere")
    assert errors_of(report) == [("layout", None)]
    with pytest.raises(UserError) as caught:
        require_trainable(report, "atrium")
    message = str(caught.value)
    assert "nowhere: it does not exist" in message
    assert "pipelines fetch atrium" in message
    assert "pipelines phantom atrium DIR" in message
    assert message.count("\n") == 2


def test_unknown_case_in_the_split_is_an_error(dataset):
    report = check_atrium(dataset, train_cases="la_1,la_22")
    assert errors_of(report) == [("split", None)]
    assert "train_cases names case 'la_22'" in report.errors[0].message


def test_untrainable_data_is_refused_in_three_lines(dataset):
    for case in (1, 2, 3, 4):
        image(dataset, case).unlink()
    with pytest.raises(UserError) as caught:
        require_trainable(check_atrium(dataset, quick=True), "atrium")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("case 'la_1': its image is missing")
    assert lines[1].startswith("case 'la_2': its image is missing")
    assert lines[2] == "4 errors in the data set: run `python -m pipelines check atrium`"


def test_estimate_is_the_documented_formula(monkeypatch):
    monkeypatch.setattr(atrium_estimate, "SECONDS_PER_TRAIN_MEGAPIXEL", 2.0)
    monkeypatch.setattr(atrium_estimate, "SECONDS_PER_VAL_MEGAPIXEL", 1.0)
    monkeypatch.setattr(atrium_estimate, "PATCH_PIXELS", 10_000)
    split = {"train": [{"case": "a"}, {"case": "b"}], "val": [{"case": "c"}], "test": [{"case": "d"}]}
    extents = {"a": (100, 100, 200), "b": None, "c": (100, 100, 100), "d": (9, 9, 9)}
    # an epoch: 400 slices of 0.01 megapixels, 8 s; validation: 3 planes of 1 megavoxel, 3 s every 5th epoch;
    # memory: 3 bytes for each of 3 megavoxels
    expected = {"slices_per_epoch": 400, "cache_mb": 9, "ram_mb": 1009, "minutes": 14, "max_epochs": 100}
    assert estimate_training(split, extents, 100) == expected


def test_estimate_speaks_of_the_bundles_default_settings():
    inference = yaml.safe_load(Path("bundles/atrium/inference.yaml").read_text())
    train = yaml.safe_load(Path("bundles/atrium/train.yaml").read_text())
    assert inference["pixdim"] == atrium_estimate.PIXDIM_MM
    assert inference["planes"] == [0, 1, 2]
    x, y, z = train["patch_size"]
    assert (x * y + x * z + y * z) / 3 == atrium_estimate.PATCH_PIXELS
    assert (train["labelled_share"], train["empty_share"]) == (
        atrium_estimate.LABELLED_SHARE,
        atrium_estimate.EMPTY_SHARE,
    )
    assert train["val_interval"] == atrium_estimate.VAL_INTERVAL


def test_tracking_store_is_checked_where_given(dataset):
    uri = f"sqlite:///{dataset}/dataset.json"
    report = check_atrium(dataset, quick=True, tracking_uri=uri)
    assert errors_of(report) == [("tracking", None)]
    assert "file is not a database" in report.errors[0].message


def test_report_is_json_and_a_table_that_groups_cases_and_escapes_nothing(tmp_path):
    findings = [Finding("info", "files", None, "[bold] stays as it is")]
    findings += [Finding("error", "nan", f"la_{case}", "image has 1 voxels", "replace") for case in range(5)]
    report = Report(facts={"split": {"train": [f"la_{case}" for case in range(16)], "test": []}})
    report.add(findings)
    content = json.loads(report.to_json())
    assert content["ok"] is False
    assert content["findings"][0] == {
        "severity": "error",
        "check": "nan",
        "case": "la_0",
        "message": "image has 1 voxels",
        "remedy": "replace",
    }
    assert content["findings"][-1]["severity"] == "info"
    stream = io.StringIO()
    report.print(Console(file=stream, width=120))
    text = stream.getvalue()
    assert "la_0, la_1, la_2, … (5 cases)" in text
    assert "[bold] stays as it is" in text
    assert "train 16 (la_0 … la_15), test none" in text
    assert "5 errors, 0 warnings" in text


@pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR is not set")
def test_real_left_atrium_passes_quick_in_a_second_and_whole_in_a_few():
    root = Path(os.environ["REAL_DATA_DIR"]) / "left_atrium"
    start = time.perf_counter()
    assert check_atrium(root, quick=True).findings == []
    middle = time.perf_counter()
    report = check_atrium(root)
    assert report.findings == []
    assert [len(names) for names in report.facts["split"].values()] == [16, 4, 20]
    # measured 0.2 s and 2 s; the bounds allow for a busy machine
    assert middle - start < 3
    assert time.perf_counter() - middle < 20
