"""The preflight checks of chest X-rays: each fault, made by hand, is found with its case and hides no other."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import HTJ2K, CTImageStorage, ExplicitVRLittleEndian
from sklearn.metrics import roc_auc_score

from pipelines.__main__ import main
from pipelines.checks import cardiac, pneumonia, xray
from pipelines.checks.cardiac import check_cardiac
from pipelines.checks.pneumonia import check_pneumonia
from pipelines.checks.report import Report
from pipelines.checks.xray_file import examine
from pipelines.datasets import heart, rsna
from pipelines.datasets.datalist import datalist_hash
from pipelines.errors import UserError
from pipelines.phantoms.xray import write_heart_phantom, write_pneumonia_phantom

REAL = os.environ.get("REAL_DATA_DIR")
needs_real = pytest.mark.skipif(not REAL, reason="REAL_DATA_DIR is not set")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_pneumonia_phantom(folder / "pneumonia", cases=20, seed=0, size=64)
    write_heart_phantom(folder / "heart", cases=6, seed=0, size=64)
    return folder


@pytest.fixture
def lungs(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "pneumonia", tmp_path / "pneumonia")


@pytest.fixture
def hearts(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "heart", tmp_path / "heart")


def images(root: Path) -> list[Path]:
    """The files in the order of the table."""
    return [Path(case["image"]) for case in rsna.scan_cases(root)[0]]


def found(report: Report, check: str) -> list[tuple[str, str | None, str]]:
    return [(f.severity, f.case, f.message) for f in report.findings if f.check == check]


def change(path: Path, edit: Callable[[pydicom.Dataset], None]) -> None:
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # pydicom warns of values that the standard forbids, which is their purpose
        edit(dataset)
        dataset.save_as(path)


def edit_table(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_a_phantom_has_no_fault_and_its_facts_are_counted(lungs):
    report = check_pneumonia(lungs)
    assert report.ok
    facts = json.loads(report.to_json())["facts"]
    assert (facts["cases"], facts["positive"], facts["patients"], facts["headers_read"]) == (20, 8, 16, 20)
    assert facts["split"] == {"train": 18, "val": 2, "test": 0}
    assert facts["sizes"] == {"64 x 64": 20}
    for groups in facts["labels_by"].values():
        assert sum(row["cases"] for row in groups.values()) == 20
        assert sum(row["positive"] for row in groups.values()) == 8


def test_a_phantom_of_hearts_has_no_fault(hearts):
    report = check_cardiac(hearts)
    assert report.findings == []
    assert report.facts["thorax"] == report.facts["cases"] == 6


def remove(path: Path) -> None:
    path.unlink()


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html>" + "x" * 500)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def other_modality(path: Path) -> None:
    change(path, lambda d: d.update({"Modality": "CT", "SOPClassUID": CTImageStorage}))


def colour(path: Path) -> None:
    change(path, lambda d: d.update({"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}))


def frames(path: Path) -> None:
    change(path, lambda d: d.update({"NumberOfFrames": "4"}))


def no_pixels(path: Path) -> None:
    change(path, lambda d: d.pop("PixelData"))


def no_decoder(path: Path) -> None:
    change(path, lambda d: d.file_meta.update({"TransferSyntaxUID": HTJ2K}))


def raw(path: Path, bits: int, rows: int = 64) -> None:
    def edit(dataset: pydicom.Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
        dataset.PixelData = np.zeros((rows, 64), np.uint16).tobytes()
        dataset["PixelData"].VR = "OW"

    change(path, edit)


@pytest.mark.parametrize(
    ("spoil", "check", "message"),
    [
        (remove, "files", "its image is missing, expected"),
        (web_page, "file", "expected a DICOM file, got a web page"),
        (empty, "file", "expected a DICOM file, got an empty file"),
        (cut, "file", "ends before its pixels do"),
        (lambda path: raw(path, 12, rows=63), "file", "ends before its pixels do"),
        (no_pixels, "file", "without pixels"),
        (lambda path: change(path, lambda d: d.update({"Rows": 0})), "file", "without pixels"),
        (no_decoder, "file", "no installed decoder reads the compression"),
        (other_modality, "file", "expected an X-ray (Modality CR or DX), got CT"),
        (colour, "pixels", "expected an image in grey, got colour"),
        (frames, "pixels", "expected one image, got 4 frames"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_and_hides_no_other(lungs, spoil, check, message):
    third, last = images(lungs)[2], images(lungs)[-1]
    spoil(third)
    change(last, lambda d: d.update({"PatientAge": "148Y"}))
    report = check_pneumonia(lungs)
    errors = found(report, check)
    assert [(severity, case) for severity, case, _ in errors] == [("error", third.stem)]
    assert message in errors[0][2]
    assert found(report, "age") == [("warning", last.stem, "PatientAge is not a possible age")]


def test_sixteen_bits_are_said_and_no_error(lungs):
    raw(images(lungs)[0], 16)
    report = check_pneumonia(lungs)
    assert report.ok
    assert [entry[:2] for entry in found(report, "pixels")] == [("info", images(lungs)[0].stem)]


def test_a_missing_tag_is_counted_once_and_another_view_or_body_part_named(lungs):
    first, second, third, *_ = images(lungs)
    change(first, lambda d: d.pop("ViewPosition"))
    change(second, lambda d: d.update({"ViewPosition": "LL"}))
    change(third, lambda d: d.update({"BodyPartExamined": "KNEE"}))
    report = check_pneumonia(lungs)
    assert found(report, "tags") == [
        ("warning", None, "ViewPosition is missing in 1 of 20 files: it counts as unknown")
    ]
    assert [case for _, case, _ in found(report, "header")] == [second.stem, third.stem]
    assert report.ok


def test_no_text_of_a_header_reaches_the_report(lungs):
    text_of_a_header = "Zaphod^Beeblebrox"

    def name(dataset: pydicom.Dataset) -> None:
        for keyword in ("PatientName", "PatientID", "ReferringPhysicianName", "StudyDescription"):
            setattr(dataset, keyword, text_of_a_header)
        dataset.PatientBirthDate, dataset.PatientAge, dataset.Modality = "19520311", "Zaphod", "ZAPHOD"

    for path in (images(lungs)[0], images(lungs)[-1]):
        change(path, name)
    text = check_pneumonia(lungs).to_json()
    assert "aphod" not in text.lower()
    assert "19520311" not in text


def test_one_patient_id_on_both_sides_is_an_error(lungs):
    files = images(lungs)
    for path in (files[0], files[-1]):
        change(path, lambda d: d.update({"PatientID": "77"}))
    report = check_pneumonia(lungs)
    [(severity, _, message)] = found(report, "patients")
    assert severity == "error"
    assert f"'{files[0].stem}' (train), '{files[-1].stem}' (val)" in message


def test_a_mapping_table_of_another_name_is_checked_as_the_training_takes_it(
    lungs, monkeypatch, capsys, store
):
    (lungs / "nih_patients.csv").rename(lungs / "mine.csv")
    alone = command(monkeypatch, capsys, "--dataset_dir", lungs)
    assert any("no table says which images are of one patient" in f["message"] for f in alone["findings"])
    told = command(monkeypatch, capsys, "--dataset_dir", lungs, "--patients", "mine.csv")
    assert (alone["facts"]["patients"], told["facts"]["patients"]) == (20, 16)
    split = rsna.load_split(lungs, patients="mine.csv")
    assert told["facts"]["split_hash"] == datalist_hash(split) != alone["facts"]["split_hash"]
    missing = command(monkeypatch, capsys, "--dataset_dir", lungs, "--patients", "nowhere.csv", code=1)
    assert any("there is no mapping table" in f["message"] for f in missing["findings"])


def command(monkeypatch, capsys, *words, code=0):
    """Run ``check pneumonia --json`` and return its report."""
    monkeypatch.setattr(sys, "argv", ["cardiothorax", "check", "pneumonia", "--json", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == code
    return json.loads(capsys.readouterr().out)


def test_a_bundle_without_patients_refuses_the_option(hearts, monkeypatch, capsys):
    words = ["cardiothorax", "check", "cardiac", "--dataset_dir", str(hearts), "--patients", "mine.csv"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        main()
    assert "the cardiac bundle has no setting `patients`" in capsys.readouterr().err


def test_one_patient_id_in_all_files_is_a_de_identified_set_and_no_error(lungs):
    for path in images(lungs):
        change(path, lambda d: d.update({"PatientID": "ANONYMOUS"}))
    report = check_pneumonia(lungs)
    [(severity, _, message)] = found(report, "patients")
    assert severity == "info"
    assert "taken as removed" in message
    assert report.ok


@pytest.mark.parametrize(("other", "severity"), [(-1, "error"), (1, "warning")])
def test_the_same_pixels_under_two_names_are_found_whatever_the_header(lungs, other, severity):
    files = images(lungs)
    shutil.copy(files[0], files[other])
    change(
        files[other],
        lambda d: d.update({"PatientID": "new", "SOPInstanceUID": "1.2.3", "PatientAge": "001Y"}),
    )
    [(found_severity, _, message)] = found(check_pneumonia(lungs), "duplicates")
    assert found_severity == severity
    assert files[0].stem in message
    assert files[other].stem in message


def test_a_link_to_itself_is_a_missing_image_and_hides_no_other(lungs):
    files = images(lungs)
    files[0].unlink()
    files[0].symlink_to(files[0].name)
    (files[1].parent / "loop.dcm").symlink_to("loop.dcm")
    report = check_pneumonia(lungs)
    assert [(f.severity, f.case) for f in report.findings if f.check == "files"] == [("error", files[0].stem)]


def test_files_in_no_table_are_named(lungs):
    folder = images(lungs)[0].parent
    shutil.copy(images(lungs)[0], folder / "stray.dcm")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden").write_text("x")
    assert [(severity, message[:50]) for severity, _, message in found(check_pneumonia(lungs), "files")] == [
        ("warning", "1 DICOM files are in no table, like 'stray.dcm': t"),
        ("info", "1 files beside the images are no .dcm, like 'notes"),
    ]


def test_a_folder_without_images_is_one_error(lungs):
    shutil.rmtree(images(lungs)[0].parent)
    [(severity, case, message)] = found(check_pneumonia(lungs), "files")
    assert (severity, case) == ("error", None)
    assert "the folder of the images is missing" in message


def test_a_contradiction_of_the_tables_is_named(lungs):
    name = images(lungs)[0].stem
    with open(lungs / rsna.LABELS, "a") as file:
        file.write(f"{name},1,2,3,4,1\n")
    edit_table(
        lungs / rsna.CLASSES, f"{images(lungs)[2].stem},Normal", f"{images(lungs)[2].stem},Lung Opacity"
    )
    report = check_pneumonia(lungs)
    [(severity, _, message)] = found(report, "table")
    assert severity == "error"
    assert "Target is 1 here and 0 in a row above" in message
    assert [case for _, case, _ in found(report, "labels")] == [images(lungs)[2].stem]


def test_a_mapping_that_lacks_images_and_none_at_all_are_told(lungs):
    lines = (lungs / "nih_patients.csv").read_text().splitlines()
    (lungs / "nih_patients.csv").write_text("\n".join(lines[:-3]))
    assert "lacks 3 of 20 images" in found(check_pneumonia(lungs), "patients")[0][2]
    (lungs / "nih_patients.csv").unlink()
    assert found(check_pneumonia(lungs), "patients")[0][0] == "info"


def test_a_side_with_one_label_and_an_impossible_split_are_errors(lungs):
    names = [path.stem for path in images(lungs)]
    [(severity, _, message)] = found(check_pneumonia(lungs, names[:3] + names[5:8], [names[10]]), "labels")
    assert (severity, message) == ("error", "all 1 cases of 'val' have Target 0")
    assert found(check_pneumonia(lungs, ["nobody"]), "split")[0][0] == "error"


@pytest.mark.parametrize(
    ("boxes", "messages"),
    [
        ([[0, 0, 100, 100]], []),
        ([[10, 10, 20, 15]], []),
        ([[-0.4, 0, 100.4, 100]], []),  # rounding
        ([[-1, 0, 50, 50]], ["leaves the image of 100 x 100"]),
        ([[10, 10, 101, 50]], ["leaves the image"]),
        ([[10, 10, 10, 50]], ["is empty"]),
        ([[10, 50, 20, 40]], ["is empty"]),
        ([[10, 10, 90, 12]], ["is 40 times as wide as high"]),
        ([[10, 10, 20, 90]], ["is 0.12 times as wide as high"]),
        ([[10, 10, 20, 20], [10, 10, 20, 20]], ["one box is listed 2 times"]),
    ],
)
def test_boxes_are_checked_against_the_image(boxes, messages):
    results = list(xray.check_boxes("a", boxes, (100, 100), "error"))
    assert len(results) == len(messages)
    assert all(part in result.message for part, result in zip(messages, results, strict=True))


def test_a_box_outside_the_image_is_an_error_for_hearts_and_a_warning_for_lungs(hearts, lungs):
    table = (hearts / heart.LABELS).read_text().splitlines()
    fields = table[1].split(",")
    fields[1] = "200"
    (hearts / heart.LABELS).write_text("\n".join([table[0], ",".join(fields), *table[2:]]))
    assert [entry[:2] for entry in found(check_cardiac(hearts), "boxes")] == [("error", fields[5])]
    name = images(lungs)[1].stem
    with open(lungs / rsna.LABELS, "a") as file:
        file.write(f"{name},60,60,10,10,1\n")
    assert [entry[:2] for entry in found(check_pneumonia(lungs), "boxes")] == [("warning", name)]


def heart_row(hearts: Path, **values: object) -> str:
    """Replace fields of the first row of the table, and return its name."""
    lines = (hearts / heart.LABELS).read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True)) | {
        k: str(v) for k, v in values.items()
    }
    (hearts / heart.LABELS).write_text("\n".join([lines[0], ",".join(row.values()), *lines[2:]]))
    return row["name"]


def set_size(path: Path, columns: int, rows: int) -> None:
    def edit(dataset):
        dataset.Rows, dataset.Columns = rows, columns
        dataset.PixelData = (
            np.random.default_rng(0).integers(0, 255, (rows, columns), dtype=np.uint8).tobytes()
        )
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    change(path, edit)


def test_the_aspect_of_a_hearts_box_is_judged_in_pixels(hearts):
    # the same box of 100 x 40 pixels, in an image of 120 x 48 and in one of 400 x 400
    name = heart_row(hearts, x0=10, y0=4, w=100, h=40, img_shape_x=120, img_shape_y=48)
    set_size(hearts / "stage_2_train_images" / f"{name}.dcm", 240, 96)
    assert found(check_cardiac(hearts), "boxes") == []  # 2.5 times as wide as high
    heart_row(hearts, x0=10, y0=4, w=100, h=20, img_shape_x=120, img_shape_y=48)
    ((severity, case, message),) = found(check_cardiac(hearts), "boxes")
    assert (severity, case) == ("warning", name)
    assert message == "the box (10, 4, 110, 24) is 5 times as wide as high"  # of the fractions, only twice


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ((200, 300), "look exchanged"),
        ((300, 100), "of another shape"),
        ((300, 200), None),
        ((224, 224), None),
    ],
)
def test_an_image_size_of_another_shape_than_the_files_is_told(hearts, named, says):
    name = heart_row(hearts, x0=60, y0=40, w=60, h=50, img_shape_x=named[0], img_shape_y=named[1])
    set_size(hearts / "stage_2_train_images" / f"{name}.dcm", 151, 100)  # 3 : 2, but for rounding
    messages = [entry[2] for entry in found(check_cardiac(hearts), "boxes")]
    assert len(messages) == bool(says)
    assert not says or (says in messages[0] and "the file has 151 x 100" in messages[0])


@pytest.mark.parametrize(("side", "severity"), [(1, "error"), (2, "warning")])
def test_an_image_of_one_pixel_is_an_error_and_a_tiny_one_a_warning(hearts, side, severity):
    name = heart_row(hearts, img_shape_x=300)
    set_size(hearts / "stage_2_train_images" / f"{name}.dcm", side, side)
    ((found_severity, case, message),) = found(check_cardiac(hearts), "pixels")
    assert (found_severity, case) == (severity, name)
    assert message == f"only {side} x {side} pixels: too few to judge a chest by"


def test_names_of_thorax_csv_that_no_image_has_are_told(hearts):
    path = hearts / heart.THORAX
    path.write_text(path.read_text().replace("1.2.276.0.2,", "1.2.276.0.2.dcm,"))
    messages = [
        message for severity, _, message in found(check_cardiac(hearts), "thorax") if severity == "warning"
    ]
    assert messages[0].startswith(
        "1 names in thorax.csv are not in rsna_heart_detection.csv, like '1.2.276.0.2.dcm'"
    )
    path.write_text("name,thorax_x0,thorax_x1,cardiothoracic_ratio\nx,1,2,\n")
    messages = [
        message for severity, _, message in found(check_cardiac(hearts), "thorax") if severity == "warning"
    ]
    assert "thorax.csv has no range of any of the 6 cases" in messages[1]


def test_thorax_faults_and_its_absence_are_told(hearts):
    rows = (hearts / heart.THORAX).read_text().splitlines()
    name = rows[1].split(",")[0]
    rows[1] = f"{name},100,130,0.5"
    (hearts / heart.THORAX).write_text("\n".join(rows[:-1]))
    entries = found(check_cardiac(hearts), "thorax")
    assert [case for _, case, _ in entries] == [None, name, name]
    assert "lacks 1 of 6 cases" in entries[0][2]
    assert "does not hold the heart's" in entries[1][2]
    assert "yet its boxes give" in entries[2][2]
    (hearts / heart.THORAX).unlink()
    assert found(check_cardiac(hearts), "thorax")[0][0] == "info"


@pytest.mark.parametrize("check", [check_pneumonia, check_cardiac])
def test_a_folder_that_is_no_data_set_is_one_error_with_what_to_do(tmp_path, check):
    [finding] = check(tmp_path).findings
    assert (finding.severity, finding.check) == ("error", "layout")
    assert "python -m pipelines phantom" in finding.remedy


def test_a_training_is_refused_with_the_first_errors_and_the_command(lungs, hearts):
    for path in images(lungs)[:3]:
        path.unlink()
    with pytest.raises(
        UserError, match=r"3 errors in the data set: run `python -m pipelines check pneumonia`"
    ):
        pneumonia.require(lungs)
    np.save(hearts / "val_subjects.npy", np.array(["x"]))
    with pytest.raises(UserError, match=r"add the other, or remove it"):
        cardiac.require(hearts)


def test_the_quick_half_reads_no_pixels_but_finds_what_names_and_headers_tell(lungs):
    cut(images(lungs)[0])
    images(lungs)[1].unlink()
    report = check_pneumonia(lungs, quick=True)
    assert [case for severity, case, _ in found(report, "files")] == [images(lungs)[1].stem]
    assert found(report, "file") == []
    assert "split_hash" not in report.facts


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ABC")), min_size=2))
def test_the_auroc_of_groups_is_scikit_learns(pairs):
    labels, groups = zip(*pairs, strict=True)
    score = xray.auroc_of_groups(labels, groups)
    if len(set(labels)) < 2:
        assert score is None
        return
    share = {group: np.mean([y for y, g in pairs if g == group]) for group in groups}
    assert score == pytest.approx(roc_auc_score(labels, [share[group] for group in groups]))


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "0-17"), (17.9, "0-17"), (18, "18-39"), (80, "80+"), (120, "80+"), (None, "unknown")],
)
def test_ages_fall_into_bands(age, band):
    assert xray.age_band(age) == band


@needs_real
@pytest.mark.parametrize(
    ("name", "check", "message"),
    [
        ("html_page_named", "file", "got a web page"),
        ("nih_modality_ct", "file", "expected an X-ray"),
        ("nih_wrong_body_part", "header", "BodyPartExamined"),
        ("rsna_format_real", None, ""),
        ("rsna_format_monochrome1", None, ""),
    ],
)
def test_odd_real_files_are_told_apart(name, check, message):
    result = examine({"case": name, "image": str(Path(REAL) / "odd_dicom" / f"{name}.dcm")})
    assert [finding.check for finding in result.findings] == ([check] if check else [])
    assert all(message in finding.message for finding in result.findings)


@needs_real
def test_the_real_sets_have_no_error_and_take_seconds():
    began = time.process_time()
    report = check_pneumonia(Path(REAL) / "pneumonia")
    assert check_cardiac(Path(REAL) / "heart").ok
    assert time.process_time() - began < 10
    assert report.ok
    assert report.facts["split"]["test"] == 0
    assert report.facts["patients"] == 467
    assert report.facts["labels_by"]["view"]["AP"] == {"cases": 363, "positive": 143, "share": 0.394}
    # by hand: AP against PA among positives and negatives, (177/320 - 100/320) / 2 above a half
    assert report.facts["auroc_of"]["view"] == pytest.approx(0.5 + (177 - 100) / 320 / 2, abs=0.001)
