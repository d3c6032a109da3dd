"""The layout of the cardiac detection labels: boxes scaled by the size they name, names with dots, the split."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import datalist, heart, xrays
from pipelines.errors import UserError

HEADER = "label,x0,y0,w,h,name,img_shape_x,img_shape_y\n"
ROWS = "heart,20,25,60,50,1.2.840.1,200,100\nheart,56,56,112,84,b,224,224\nheart,1,1,2,2,c.d,4,4\n"
NAMES = ["1.2.840.1", "b", "c.d"]
REAL = os.environ.get("REAL_DATA_DIR")
needs_real = pytest.mark.skipif(not REAL, reason="REAL_DATA_DIR is not set")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / xrays.IMAGES).mkdir()
    for name in NAMES:
        (tmp_path / xrays.IMAGES / f"{name}.dcm").write_bytes(b"x")
    (tmp_path / heart.LABELS).write_text(HEADER + ROWS)
    return tmp_path


def test_boxes_are_fractions_of_the_size_that_their_row_names(root):
    cases = heart.read_cases(root)
    assert [case["case"] for case in cases] == NAMES
    assert cases[0]["box"] == pytest.approx([0.1, 0.25, 0.4, 0.75])  # 20 of 200 columns, 25 of 100 rows
    assert cases[1]["box"] == pytest.approx([0.25, 0.25, 0.75, 0.625])
    assert cases[0]["image"] == f"{root}/{xrays.IMAGES}/1.2.840.1.dcm"
    assert "thorax" not in cases[0]


def test_the_thorax_is_a_fraction_of_the_same_width_and_nan_where_the_table_leaves_it_open(root):
    (root / heart.THORAX).write_text(
        "name,source,thorax_x0,thorax_x1,cardiothoracic_ratio\n1.2.840.1,s,10,190,0.33\nb,s,22.4,201.6,\n"
    )
    first, second, third = heart.read_cases(root)
    assert first["thorax"] == pytest.approx([0.05, 0.95])
    assert first["cardiothoracic_ratio"] == 0.33
    assert second["thorax"] == pytest.approx([0.1, 0.9])
    assert math.isnan(second["cardiothoracic_ratio"])
    assert all(map(math.isnan, third["thorax"]))


def test_nan_goes_through_a_datalist(root, tmp_path):
    (root / heart.THORAX).write_text("name,thorax_x0,thorax_x1,cardiothoracic_ratio\nb,22,201,\n")
    split = heart.load_split(root, 2, 1)
    datalist.write_datalist(split, root, tmp_path / "datalist.json")
    again = datalist.read_datalist(tmp_path / "datalist.json")
    assert "NaN" not in (tmp_path / "datalist.json").read_text()
    assert math.isnan(again["train"][1]["cardiothoracic_ratio"])
    assert datalist.datalist_hash(again) == datalist.datalist_hash(split)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("heart,1,1,0,5,d,9,9", "row 5, 'd': w and h must be above 0, got 0 and 5: the box is empty"),
        ("heart,1,1,5,-5,d,9,9", "'d': w and h must be above 0"),
        ("heart,1,1,5,,d,9,9", "'d': expected a number in each of x0, y0, w, h"),
        ("heart,1,1,5,inf,d,9,9", "'d': expected a number"),
        ("heart,1,1,5,5,d,0,9", "img_shape_x and img_shape_y must be above 0"),
        ("heart,1,1,5,5,b,9,9", "'b': it is listed twice"),
        ("heart,1,1,5,5,../b,9,9", "expected the name of a file"),
        ('heart,1,1,5,5,"d\ne",9,9', r"row 5, 'd\\ne': expected the name of a file"),
        (f"heart,1,1,5,5,{'é' * 126},9,9", "expected the name of a file"),  # 252 bytes and .dcm: one too many
        ("heart,1,1,5,5,d,9,9", "case 'd': its image is missing"),
    ],
)
def test_a_faulty_row_is_named(root, row, message):
    (root / heart.LABELS).write_text(HEADER + ROWS + row + "\n")
    with pytest.raises(UserError, match=message):
        heart.read_cases(root)


@pytest.mark.parametrize("row", ["b,200,20,0.5", "b,x,20,0.5", "b,10,20,-0.5", "b,,20,0.5"])
def test_a_faulty_row_of_the_thorax_is_named(root, row):
    (root / heart.THORAX).write_text(f"name,thorax_x0,thorax_x1,cardiothoracic_ratio\n{row}\n")
    with pytest.raises(UserError, match=r"thorax.csv: row 2, 'b': expected thorax_x0 below thorax_x1"):
        heart.read_cases(root)


def test_a_second_row_of_the_thorax_is_named(root):
    rows = ["name,thorax_x0,thorax_x1,cardiothoracic_ratio", "b,22,201,", "b,25,201,"]
    (root / heart.THORAX).write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"thorax.csv: row 3, 'b': it is listed twice"):
        heart.read_cases(root)


@pytest.mark.parametrize("suffix", ["", "_det"])
def test_the_files_of_subjects_decide(root, suffix):
    np.save(root / f"train_subjects{suffix}.npy", np.array(["c.d", "b"]))
    np.save(root / f"val_subjects{suffix}.npy", np.array(["1.2.840.1"]))
    split = heart.load_split(root)
    assert [case["case"] for case in split["train"]] == ["b", "c.d"]
    assert [case["case"] for case in split["val"]] == ["1.2.840.1"]
    assert [case["case"] for case in heart.load_split(root, 1, 1)["train"]] == [
        "1.2.840.1"
    ]  # a knob goes first


def test_a_file_of_subjects_that_holds_objects_is_not_loaded(root):
    np.save(root / "train_subjects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(root / "val_subjects.npy", np.array(["b"]))
    with pytest.raises(UserError, match=r"train_subjects.npy: expected an array of names"):
        heart.load_split(root)


def test_one_of_the_two_files_alone_is_refused(root):
    np.save(root / "val_subjects.npy", np.array(["b"]))
    with pytest.raises(UserError, match="add the other, or remove it"):
        heart.load_split(root)


@pytest.mark.parametrize(("count", "train"), [(496, 400), (400, 323), (60, 48), (2, 1), (1000, 806)])
def test_the_default_split_has_the_recipes_share(tmp_path, count, train):
    split = heart.split_images([{"case": str(i), "image": f"{i}.dcm"} for i in range(count)], tmp_path)
    assert [case["case"] for case in split["train"]] == [str(i) for i in range(train)]
    assert len(split["val"]) == count - train


def test_rows_that_are_longer_than_the_first_line_are_refused(root):
    rows = "".join(f"extra,{row}\n" for row in ROWS.splitlines())
    (root / heart.LABELS).write_text(HEADER + rows)
    with pytest.raises(UserError, match="its rows hold more values than its first line names columns"):
        heart.read_cases(root)


def test_a_fault_of_the_files_of_subjects_names_them_and_no_setting_alone(root):
    np.save(root / "train_subjects.npy", np.array(["b.dcm"]))
    np.save(root / "val_subjects.npy", np.array(["c.d"]))
    with pytest.raises(
        UserError, match=r"train_subjects and val_subjects \(.npy\) in .*case 'b.dcm', which is not in"
    ):
        heart.load_split(root)


@needs_real
def test_the_real_table_is_split_as_its_files_say():
    folder = Path(REAL) / "real_labels"
    cases, problems = heart.scan_cases(folder)
    split = heart.split_images(cases, folder)
    assert problems == []
    assert [len(split[side]) for side in ("train", "val", "test")] == [400, 96, 0]
    assert cases[0]["box"] == pytest.approx([91 / 224, 71 / 224, (91 + 77) / 224, (71 + 102) / 224])


@needs_real
def test_real_names_with_dots_find_their_files():
    split = heart.load_split(Path(REAL) / "heart")
    assert [len(split[side]) for side in ("train", "val", "test")] == [323, 77, 0]
    ratios = [case["cardiothoracic_ratio"] for side in split.values() for case in side]
    assert sum(not math.isnan(ratio) for ratio in ratios) == 169
