"""The Decathlon layout: what is read, how it is hashed, and what each mistake is answered with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pipelines.datasets import datalist, msd
from pipelines.errors import UserError


def write_dataset(root: Path, names: list[str], training: object = None) -> Path:
    """Write an MSD folder whose files are a few bytes of text: nothing here looks into them."""
    for kind in ("imagesTr", "labelsTr"):
        (root / kind).mkdir(parents=True)
        for name in names:
            (root / kind / f"{name}.nii.gz").write_text(f"{kind} {name}")
    entries = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
    content = {"name": "LeftAtrium", "training": entries if training is None else training}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def test_cases_come_in_natural_order_with_absolute_paths_inside_the_folder(tmp_path, monkeypatch):
    write_dataset(tmp_path / "set", ["la_10", "la_2", "la_1.5", "la_1"])
    monkeypatch.chdir(tmp_path)
    cases = msd.read_cases("set")
    assert [case["case"] for case in cases] == ["la_1", "la_1.5", "la_2", "la_10"]
    assert cases[0]["image"] == str(tmp_path / "set" / "imagesTr" / "la_1.nii.gz")
    assert cases[0]["label"] == str(tmp_path / "set" / "labelsTr" / "la_1.nii.gz")


def test_byte_order_mark_and_uncompressed_files_are_read(tmp_path):
    entry = {"image": "imagesTr/a.b.nii", "label": "labelsTr/a.b.nii"}
    root = write_dataset(tmp_path / "set", [], [entry])
    for kind in ("imagesTr", "labelsTr"):
        (root / kind / "a.b.nii").touch()
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text, encoding="utf-8-sig")
    assert msd.read_cases(root)[0]["case"] == "a.b"


def test_missing_folder_names_the_place_and_both_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        msd.read_cases("data/Task02_Heart")
    message = str(caught.value)
    assert f"{tmp_path}/data/Task02_Heart: it does not exist" in message
    assert "python -m pipelines fetch atrium" in message
    assert "python -m pipelines phantom atrium DIR" in message
    assert "--dataset_dir DIR" in message
    assert message.count("\n") <= 2


def test_parent_subfolder_and_json_itself_are_answered_with_the_folder_that_was_meant(tmp_path):
    root = write_dataset(tmp_path / "data" / "Task02_Heart", ["la_1"])
    for given_dir in (tmp_path / "data", root / "imagesTr", root / "dataset.json"):
        with pytest.raises(UserError, match=f"did you mean `--dataset_dir {root}`"):
            msd.read_cases(given_dir)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'training': []}", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "expected a list of cases under 'training', got none"),
        ('{"test": []}', "expected a list of cases under 'training', got none"),
        ('{"training": {"image": "x"}}', "expected a list of cases under 'training', got none"),
        ('{"training": []}', "expected a list of cases under 'training', got an empty one"),
    ],
)
def test_malformed_json_is_a_user_error(tmp_path, text, message):
    root = write_dataset(tmp_path / "set", ["la_1"])
    (root / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=message):
        msd.read_cases(root)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("./imagesTr/la_1.nii.gz", "entry 1 of 'training': expected .*got './imagesTr/la_1.nii.gz'"),
        (None, "expected .*got None"),
        ({"image": "imagesTr/b.nii.gz"}, "expected a .nii.gz file as 'label', got None"),
        ({"image": 3, "label": "labelsTr/b.nii.gz"}, "expected a .nii.gz file as 'image', got 3"),
        ({"image": "imagesTr/b.png", "label": "labelsTr/b.nii.gz"}, "expected a .nii.gz file as 'image'"),
        ({"image": "imagesTr/.nii.gz", "label": "labelsTr/b.nii.gz"}, "expected a .nii.gz file as 'image'"),
        ({"image": "imagesTr/a.nii.gz", "label": "labelsTr/b.nii.gz"}, "case 'a' is listed twice"),
        ({"image": "other/a.nii.gz", "label": "labelsTr/b.nii.gz"}, "case 'a' is listed twice"),
        ({"image": "imagesTr/b.nii.gz", "label": "labelsTr/a.nii.gz"}, "label '.*a.nii.gz' is listed twice"),
    ],
)
def test_malformed_entry_is_a_user_error(tmp_path, entry, message):
    good = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    root = write_dataset(tmp_path / "set", ["a", "b"], [good, entry])
    with pytest.raises(UserError, match=message):
        msd.read_cases(root)


@pytest.mark.parametrize(
    "path",
    ["../a.nii.gz", "imagesTr/../../a.nii.gz", "/a.nii.gz", "..\\a.nii.gz", "C:\\a.nii.gz", "C:a.nii.gz"],
)
@pytest.mark.parametrize("kind", ["image", "label"])
def test_path_out_of_the_folder_is_refused_even_where_the_file_exists(tmp_path, path, kind):
    (tmp_path / "a.nii.gz").touch()
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz", kind: path}
    root = write_dataset(tmp_path / "set", ["a"], [entry])
    with pytest.raises(UserError, match=f"expected '{kind}' as a path inside"):
        msd.read_cases(root)


@pytest.mark.parametrize(("folder", "kind"), [("imagesTr", "image"), ("labelsTr", "label")])
def test_missing_file_is_named_with_its_case(tmp_path, folder, kind):
    root = write_dataset(tmp_path / "set", ["la_1", "la_2"])
    (root / folder / "la_2.nii.gz").unlink()
    with pytest.raises(
        UserError, match=f"case 'la_2': its {kind} is missing, expected .*{folder}/la_2.nii.gz"
    ):
        msd.read_cases(root)


def test_scan_keeps_the_good_cases_beside_the_bad(tmp_path):
    good = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    cases, problems = msd.scan_cases(write_dataset(tmp_path / "set", [], ["x", good, good]))
    assert [case["case"] for case in cases] == ["a"]
    assert len(problems) == 2


def test_hash_is_that_of_the_file_bytes_worked_out_by_hand(tmp_path):
    root = write_dataset(tmp_path / "set", ["la_1", "la_2"])
    sha = {
        t: hashlib.sha256(t.encode()).hexdigest()
        for n in (1, 2)
        for t in (f"imagesTr la_{n}", f"labelsTr la_{n}")
    }
    rows = [
        [side, n, [{"case": n}, sha[f"imagesTr {n}"], sha[f"labelsTr {n}"]]]
        for side, n in (("train", "la_1"), ("val", "la_2"))
    ]
    text = json.dumps(rows, separators=(",", ":"))
    assert datalist.datalist_hash(msd.load_split(root), root) == hashlib.sha256(text.encode()).hexdigest()


def test_hash_follows_content_and_split_but_neither_place_nor_listing_order(tmp_path):
    names = ["la_1", "la_2", "la_3"]
    here, there = write_dataset(tmp_path / "here", names), write_dataset(tmp_path / "there", names[::-1])
    split = msd.load_split(here, 1, 1)
    assert datalist.datalist_hash(split, here) == datalist.datalist_hash(msd.load_split(there, 1, 1), there)
    assert datalist.datalist_hash(split, here) != datalist.datalist_hash(msd.load_split(here, 2, 1), here)
    whole = datalist.dataset_hash(msd.read_cases(here))
    assert whole == datalist.dataset_hash(msd.read_cases(there)[::-1])
    (there / "labelsTr" / "la_3.nii.gz").write_text("redrawn")
    assert whole != datalist.dataset_hash(msd.read_cases(there))


def test_datalist_round_trip_survives_a_move(tmp_path):
    root = write_dataset(tmp_path / "set", ["la_1", "la_2", "la_3"])
    split = msd.load_split(root, 1, 1)
    written = datalist.write_datalist(split, root, tmp_path / "run" / "datalist.json")
    assert written == json.loads((tmp_path / "run" / "datalist.json").read_text())
    assert written["hash"] == datalist.datalist_hash(split, root)
    assert written["train"] == [
        {"case": "la_1", "image": "imagesTr/la_1.nii.gz", "label": "labelsTr/la_1.nii.gz"}
    ]
    assert datalist.read_datalist(tmp_path / "run" / "datalist.json") == split
    root.rename(tmp_path / "moved")
    moved = datalist.read_datalist(tmp_path / "run" / "datalist.json", tmp_path / "moved")
    assert moved == msd.load_split(tmp_path / "moved", 1, 1)
    with pytest.raises(
        UserError, match=r"case 'la_1': its image is missing.*6 missing in all.*\n.*--dataset_dir DIR"
    ):
        datalist.read_datalist(tmp_path / "run" / "datalist.json")


@pytest.mark.parametrize(
    "content",
    [[], {}, {"dataset_dir": "x", "train": 3}, {"dataset_dir": ".", "train": [{"image": "../a.nii.gz"}]}],
)
def test_foreign_datalist_is_a_user_error(tmp_path, content):
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is not a datalist"):
        datalist.read_datalist(tmp_path / "datalist.json")


def test_absent_datalist_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"datalist\.json cannot be read: No such file"):
        datalist.read_datalist(tmp_path / "datalist.json")


@pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR is not set")
def test_real_left_atrium_splits_16_4_20():
    split = msd.load_split(Path(os.environ["REAL_DATA_DIR"]) / "left_atrium")
    assert [len(cases) for cases in split.values()] == [16, 4, 20]
    assert [case["case"] for case in split["val"]] == ["la_017", "la_018", "la_019", "la_020"]
