"""The layout of the RSNA Pneumonia Detection Challenge: cases, boxes, patients, the split and its hash."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from pipelines.datasets import datalist, rsna, xrays
from pipelines.errors import UserError

HEADER = "patientId,x,y,width,height,Target\n"
ROWS = "a,,,,,0\nb,10,20,30,40,1\nb,50.0,60.0,5.0,6.0,1\nc,,,,,1\n"
REAL = os.environ.get("REAL_DATA_DIR")
needs_real = pytest.mark.skipif(not REAL, reason="REAL_DATA_DIR is not set")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / xrays.IMAGES).mkdir()
    for name in "abc":
        (tmp_path / xrays.IMAGES / f"{name}.dcm").write_bytes(b"x")
    (tmp_path / rsna.LABELS).write_text(HEADER + ROWS)
    return tmp_path


def test_rows_become_one_case_a_patient_in_table_order_with_boxes_as_corners(root):
    assert rsna.read_cases(root) == [
        {"case": "a", "image": f"{root}/{xrays.IMAGES}/a.dcm", "label": 0, "boxes": [], "group": "a"},
        {
            "case": "b",
            "image": f"{root}/{xrays.IMAGES}/b.dcm",
            "label": 1,
            "boxes": [[10, 20, 40, 60], [50, 60, 55, 66]],
            "group": "b",
        },
        {"case": "c", "image": f"{root}/{xrays.IMAGES}/c.dcm", "label": 1, "boxes": [], "group": "c"},
    ]


def test_a_zipped_table_reads_the_same(root):
    plain = rsna.read_cases(root)
    with zipfile.ZipFile(root / f"{rsna.LABELS}.zip", "w") as archive:
        archive.write(root / rsna.LABELS, rsna.LABELS)
    (root / rsna.LABELS).unlink()
    assert rsna.read_cases(root) == plain


def test_byte_order_mark_spaces_and_nan_are_no_fault(root):
    plain = rsna.read_cases(root)
    text = (HEADER + ROWS).replace("a,,,,,0", " a ,NaN,nan,,, 0")
    (root / rsna.LABELS).write_text("\ufeff" + text, encoding="utf-8")
    assert rsna.read_cases(root) == plain


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,1,2,3,4,1", "row 6, 'a': Target is 1 here and 0 in a row above"),
        ("a,1,2,3,4,0", "'a': a box is marked, yet Target is 0"),
        ("d,1,2,,4,1", "'d': expected four numbers x, y, width, height or none"),
        ("d,1,2,wide,4,1", "'d': expected four numbers"),
        ("d,,,,,2", "Target must be 0 or 1, got '2'"),
        ("d,,,,,", "Target must be 0 or 1, got ''"),
        (",,,,,0", "expected the name of a file in stage_2_train_images without its suffix, got ''"),
        ("../a,,,,,0", r"expected the name of a file .* got '../a'"),
        (
            "d,,,,,0",
            r"case 'd': its image is missing, expected .*d.dcm;\nrun `python -m pipelines check pneum",
        ),
    ],
)
def test_a_faulty_row_is_named(root, row, message):
    (root / rsna.LABELS).write_text(HEADER + ROWS + row + "\n")
    with pytest.raises(UserError, match=message):
        rsna.read_cases(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER, "expected a row for each case, got none"),
        ("", "is not a CSV table"),
        ("patientId,x,y,width,height,target\na,,,,,0\n", "column 'Target', got .*did you mean 'target'"),
    ],
)
def test_an_unusable_table_is_a_user_error(root, content, message):
    (root / rsna.LABELS).write_text(content)
    with pytest.raises(UserError, match=message):
        rsna.read_cases(root)


def test_a_folder_without_the_table_names_the_one_beside_it(root):
    with pytest.raises(UserError, match=rf"it has no {rsna.LABELS}; did you mean `--dataset_dir {root}`"):
        rsna.read_cases(root / xrays.IMAGES)
    with pytest.raises(UserError, match="does not exist"):
        rsna.read_cases(root / "nowhere")


def test_a_mapping_table_gives_groups_and_the_unmapped_stay_alone(root):
    (root / "nih_patients.csv").write_text("patientId,nih_patient,more\na,7,x\nb,7,y\n")
    assert [case["group"] for case in rsna.read_cases(root)] == ["7", "7", "c"]


def test_the_challenges_own_mapping_is_understood(root):
    entries = [
        {"subset_img_id": "a", "img_id": "00000009_000.png"},
        {"subset_img_id": "c", "img_id": "00000009_004.png"},
    ]
    (root / "map.json").write_text(json.dumps(entries))
    assert [case["group"] for case in rsna.read_cases(root, "map.json")] == ["00000009", "b", "00000009"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "patientId,who\na,1\na,2\n", "'a' is mapped to more than one patient"),
        ("m.csv", "patientId,who,where\na,1,2\n", "expected the columns patientId and nih_patient"),
        ("m.json", '{"a": 1}', "is not the challenge's mapping"),
        ("other.csv", "", "m.csv; give its path, or leave `patients` out"),
    ],
)
def test_an_unusable_mapping_is_a_user_error(root, name, content, message):
    (root / name).write_text(content)
    with pytest.raises(UserError, match=message):
        rsna.read_cases(root, name if name.startswith("m.") else "m.csv")


def test_detailed_classes_are_added_where_the_table_is_there(root):
    (root / rsna.CLASSES).write_text("patientId,class\na,Normal\nb,Lung Opacity\nb,Lung Opacity\n")
    assert [case["class"] for case in rsna.read_cases(root)] == ["Normal", "Lung Opacity", ""]


def numbered(count: int, groups: dict[int, str] | None = None) -> list[dict]:
    return [
        {
            "case": str(i),
            "image": f"{i}.dcm",
            "label": i % 2,
            "boxes": [],
            "group": (groups or {}).get(i, str(i)),
        }
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "train"), [(26_684, 24_000), (640, 576), (30_000, 26_982), (2, 1), (3, 2), (60, 54)]
)
def test_the_default_split_has_the_recipes_share_whatever_the_tables_length(count, train):
    split = rsna.split_patients(numbered(count))
    assert [case["case"] for case in split["train"]] == [str(i) for i in range(train)]
    assert len(split["val"]) == count - train
    assert split["test"] == []


def test_a_patient_is_on_one_side_only():
    split = rsna.split_patients(numbered(10, {0: "p", 9: "p"}), 3, 2)
    assert [case["case"] for case in split["train"]] == ["0", "1", "9"]
    assert [case["case"] for case in split["val"]] == ["2", "3"]
    split = rsna.split_patients(numbered(4, {1: "p", 2: "p", 3: "p"}))
    assert [len(split[side]) for side in ("train", "val", "test")] == [1, 3, 0]


def test_lists_that_tear_a_patient_apart_are_refused():
    with pytest.raises(UserError, match=r"'0' \(train\) and '3' \(val\) are of one patient"):
        rsna.split_patients(numbered(4, {0: "p", 3: "p"}), ["0"], ["3"])
    with pytest.raises(UserError, match=r"'0' \(train\) and '2' \(test\) are of one patient"):
        rsna.split_patients(numbered(4, {0: "p", 2: "p"}), ["0"], ["3"])


def test_one_patient_with_many_images_cannot_be_split():
    with pytest.raises(UserError, match=r"at least 2 patients, .* got 1"):
        rsna.split_patients(numbered(3, {0: "p", 1: "p", 2: "p"}))


def test_the_hash_sees_labels_boxes_groups_and_sizes_but_not_the_folder(root, tmp_path_factory):
    def hashed() -> str:
        return datalist.datalist_hash(rsna.load_split(root))

    hashes = [hashed()]
    elsewhere = tmp_path_factory.mktemp("other") / "set"
    root.rename(elsewhere)
    assert datalist.datalist_hash(rsna.load_split(elsewhere)) == hashes[0]
    elsewhere.rename(root)
    (root / rsna.LABELS).write_text(HEADER + ROWS.replace("30,40", "30,41"))
    hashes.append(hashed())
    (root / xrays.IMAGES / "a.dcm").write_bytes(b"xx")
    hashes.append(hashed())
    (root / "nih_patients.csv").write_text("patientId,nih_patient\na,7\n")
    hashes.append(hashed())
    assert len(set(hashes)) == 4


def test_a_datalist_is_read_as_it_was_written_and_follows_a_moved_folder(root, tmp_path):
    split = rsna.load_split(root)
    written = datalist.write_datalist(split, root, tmp_path / "datalist.json")
    assert written["train"][0]["image"] == f"{xrays.IMAGES}/a.dcm"
    assert written["hash"] == datalist.datalist_hash(split)
    assert datalist.read_datalist(tmp_path / "datalist.json") == split
    with pytest.raises(UserError, match=r"its image is missing.*\(3 missing in all\)"):
        datalist.read_datalist(tmp_path / "datalist.json", tmp_path / "gone")


@pytest.mark.parametrize("image", ["../a.dcm", "/etc/passwd", f"{xrays.IMAGES}/../../b.dcm"])
def test_a_datalist_that_leads_elsewhere_is_refused(root, tmp_path, image):
    content = datalist.write_datalist(rsna.load_split(root), root, tmp_path / "datalist.json")
    content["train"][0]["image"] = image
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is not a datalist: expected 'image' as a path inside"):
        datalist.read_datalist(tmp_path / "datalist.json")


@needs_real
def test_the_real_table_has_its_known_numbers():
    cases, problems = rsna.scan_cases(Path(REAL) / "real_labels")
    split = rsna.split_patients(cases)
    assert problems == []
    assert len(cases) == 26_684
    assert sum(case["label"] for case in cases) == 6_012
    # a row a box, and one for each patient without
    assert sum(max(1, len(case["boxes"])) for case in cases) == 30_227
    assert [len(split[side]) for side in ("train", "val", "test")] == [24_000, 2_684, 0]
    assert cases[4]["boxes"] == [[264, 152, 264 + 213, 152 + 379], [562, 152, 562 + 256, 152 + 453]]


@needs_real
def test_no_patient_of_the_real_set_is_on_both_sides():
    split = rsna.load_split(Path(REAL) / "pneumonia")
    groups = {side: {case["group"] for case in cases} for side, cases in split.items()}
    assert len(split["train"]) + len(split["val"]) == 640
    assert abs(len(split["train"]) - 576) < 10
    assert groups["train"] & groups["val"] == set()
