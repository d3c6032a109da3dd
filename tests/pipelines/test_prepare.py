from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pipelines import prepare as module
from pipelines.errors import UserError
from pipelines.prepare import prepare
from pipelines.readers.xray import ImageInput, find_images, read_xray_reduced

ROOT = Path(__file__).parents[2]


def write_images(folder, count, broken=()):
    """Write small PNG X-rays 000.png, 001.png, ..., each of its own; those of ``broken`` are empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:03}.png"
        if number in broken:
            path.touch()
        else:
            Image.fromarray(noise.integers(0, 255, (20, 30), dtype=np.uint8)).save(path)
    return find_images([folder])


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)


def write_xray(path, **attributes):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "SECRET-7"
    dataset.Modality, dataset.ViewPosition, dataset.PatientSex = "CR", "PA", "F"
    dataset.set_pixel_data(np.arange(200, dtype=np.uint8).reshape(10, 20), "MONOCHROME2", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some values are wrong on purpose
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.save_as(path, enforce_file_format=True)


def count_reads(monkeypatch):
    reads = []
    original = module.read_xray_reduced
    monkeypatch.setattr(
        module, "read_xray_reduced", lambda path, size: reads.append(path) or original(path, size)
    )
    return reads


def test_prepared_images_are_those_that_prediction_reads(tmp_path, small_chunks):
    items = write_images(tmp_path / "images", 10)
    prepared = prepare(items, tmp_path / "cache", size=16, workers=1)
    assert len(prepared) == 10
    for index, item in enumerate(items):
        assert prepared.index[item.case] == index
        assert prepared[index].dtype == np.uint8
        assert (prepared[index] == read_xray_reduced(item.path, 16).pixels).all()


def test_several_processes_give_the_same_as_one(tmp_path, small_chunks):
    items = write_images(tmp_path / "images", 10, broken=[2])
    one = prepare(items, tmp_path / "one", size=16, workers=1)
    two = prepare(items, tmp_path / "two", size=16, workers=2)
    assert one.table.equals(two.table)
    assert all((one[index] == two[index]).all() for index in range(9))


def test_table_holds_what_the_header_says(tmp_path):
    (tmp_path / "images").mkdir()
    write_xray(tmp_path / "images" / "NA.dcm", PixelSpacing=[0.2, 0.3], PatientAge="018M")
    write_xray(tmp_path / "images" / "x.1.dcm", ViewPosition="", PatientAge="148", PatientSex="O")
    table = prepare(find_images([tmp_path / "images"]), tmp_path / "cache", size=8).table
    assert list(table["case"]) == ["NA", "x.1"]
    known, unknown = table.to_dict("records")
    assert known["view"] == "PA"
    assert (known["age"], known["sex"]) == (1.5, "F")
    assert (known["rows"], known["columns"]) == (10, 20)
    assert (known["spacing_row"], known["spacing_column"], known["spacing_tag"]) == (0.2, 0.3, "PixelSpacing")
    assert table.loc[1, ["view", "age", "sex", "spacing_row", "spacing_tag"]].isna().all()
    assert unknown["warnings"] == "the view (AP or PA) is unknown"
    assert not any(name in table.to_csv() for name in ("Doe", "SECRET"))


def test_unreadable_files_are_listed_with_their_reason_and_cost_nothing_else(tmp_path, small_chunks):
    items = write_images(tmp_path / "images", 6, broken=[0, 3])
    (tmp_path / "images" / "005.png").unlink()
    items.append(ImageInput("bad", tmp_path / "images" / "bad.png", "its name is wrong"))
    prepared = prepare(items, tmp_path / "cache", size=16, workers=1)
    assert list(prepared.table["case"]) == ["001", "002", "004"]
    assert (prepared[2] == read_xray_reduced(items[4].path, 16).pixels).all()
    reasons = dict(prepared.failures.to_numpy().tolist())
    assert list(reasons) == ["000", "003", "005", "bad"]
    assert "000.png: expected a DICOM, PNG or JPEG file, got an empty file" in reasons["000"]
    assert "005.png: cannot be read (No such file" in reasons["005"]
    assert reasons["bad"] == "bad.png: its name is wrong"


def test_error_that_nobody_foresaw_is_a_reason_without_its_text(tmp_path, monkeypatch):
    def fail(path, size):
        raise KeyError("Doe^Jane")

    items = write_images(tmp_path / "images", 1)
    monkeypatch.setattr(module, "read_xray_reduced", fail)
    prepared = prepare(items, tmp_path / "cache", size=16)
    assert len(prepared) == 0
    assert list(prepared.failures["reason"]) == ["000.png: cannot be read (KeyError)"]


def test_finished_set_is_opened_without_reading_an_image(tmp_path, monkeypatch):
    items = write_images(tmp_path / "images", 3)
    first = prepare(items, tmp_path / "cache", size=16)
    reads = count_reads(monkeypatch)
    again = prepare(items, tmp_path / "cache", size=16)
    assert reads == []
    assert again.folder == first.folder
    assert (again[1] == first[1]).all()


def test_other_content_other_order_and_other_settings_are_other_sets(tmp_path):
    items = write_images(tmp_path / "images", 3)
    folders = {prepare(items, tmp_path / "cache", size=16).folder}
    folders.add(prepare(items, tmp_path / "cache", size=8).folder)
    folders.add(prepare(items[::-1], tmp_path / "cache", size=16).folder)
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(items[1].path)
    changed = prepare(items, tmp_path / "cache", size=16)
    folders.add(changed.folder)
    assert len(folders) == 4
    assert (changed[1] == read_xray_reduced(items[1].path, 16).pixels).all()


def test_a_touched_or_copied_data_set_is_not_prepared_again(tmp_path, monkeypatch):
    items = write_images(tmp_path / "images", 3)
    first = prepare(items, tmp_path / "cache", size=16)
    reads, hashed = count_reads(monkeypatch), []
    original = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: hashed.append(path) or original(path))
    os.utime(items[1].path, ns=(1, 1))
    assert prepare(items, tmp_path / "cache", size=16).folder == first.folder
    (tmp_path / "copies").mkdir()
    copied = [ImageInput(i.case, Path(shutil.copy(i.path, tmp_path / "copies"))) for i in items]
    for item in copied:
        os.utime(item.path, ns=(2, 2))
    assert prepare(copied, tmp_path / "cache", size=16).folder == first.folder
    assert len(hashed) == 6
    # sizes and times that were seen before are not hashed again
    prepare(copied, tmp_path / "cache", size=16)
    assert len(hashed) == 6
    assert reads == []


def test_content_of_the_same_size_and_another_time_is_never_served_stale(tmp_path):
    items = write_images(tmp_path / "images", 2)
    images = [Image.fromarray(np.full((20, 30), value, np.uint8)) for value in (10, 20)]
    for image in images:
        image.putpixel((0, 0), 200)
    images[0].save(items[0].path)
    first, size = prepare(items, tmp_path / "cache", size=16), items[0].path.stat().st_size
    images[1].save(items[0].path)
    os.utime(items[0].path, ns=(3, 3))
    assert items[0].path.stat().st_size == size
    second = prepare(items, tmp_path / "cache", size=16)
    assert (first[0][8, 8], second[0][8, 8]) == (10, 20)


def test_interrupted_preparation_goes_on_where_it_stopped(tmp_path, small_chunks, monkeypatch):
    items = write_images(tmp_path / "images", 12)
    original, reads = module.read_xray_reduced, []

    def interrupted(path, size):
        reads.append(path)
        if len(reads) == 7:
            raise KeyboardInterrupt
        return original(path, size)

    monkeypatch.setattr(module, "read_xray_reduced", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(items, tmp_path / "cache", size=16, workers=1)
    prepared = prepare(items, tmp_path / "cache", size=16, workers=1)
    # the second chunk is read again from its start, the first is not
    assert [path.name for path in reads[7:]] == [f"{number:03}.png" for number in range(4, 12)]
    assert all((prepared[i] == original(item.path, 16).pixels).all() for i, item in enumerate(items))
    assert sorted(path.name for path in prepared.folder.iterdir()) == [
        "failures.csv",
        "lock",
        "pixels.npy",
        "seen",
        "table.csv",
    ]


def test_chunk_whose_list_was_half_written_is_not_taken_for_whole(tmp_path, small_chunks, monkeypatch):
    items = write_images(tmp_path / "images", 8)
    finished = prepare(items, tmp_path / "cache", size=16, workers=1)
    # as after SIGKILL: no table yet, the second chunk's pixels and list cut short in the middle
    (finished.folder / "table.csv").unlink()
    (finished.folder / "chunks").mkdir()
    module._prepare_chunk(finished.folder, 0, items[:4], 16)
    (finished.folder / "chunks" / ".tmp-abc-0000000004.json").write_text('[{"case": "004", "ro')
    with open(finished.folder / "pixels.npy", "r+b") as file:
        file.seek(-4 * 256, os.SEEK_END)
        file.write(bytes(4 * 256))
    reads = count_reads(monkeypatch)
    again = prepare(items, tmp_path / "cache", size=16, workers=1)
    assert [path.name for path in reads] == ["004.png", "005.png", "006.png", "007.png"]
    assert all((again[i] == read_xray_reduced(item.path, 16).pixels).all() for i, item in enumerate(items))


KILLED = """
import sys, time
from pipelines import prepare as module
from pipelines.readers.xray import find_images

original = module.read_xray_reduced
def slow(path, size):
    time.sleep(0.05)
    return original(path, size)
module.read_xray_reduced = slow
module.CHUNK = 4
if __name__ == "__main__":
    module.prepare(find_images([sys.argv[1]]), sys.argv[2], size=16, workers=2)
"""


def test_sigkill_leaves_no_process_behind_and_what_was_read_is_kept(tmp_path, small_chunks, monkeypatch):
    items = write_images(tmp_path / "images", 60)
    (tmp_path / "killed.py").write_text(KILLED)
    arguments = [sys.executable, tmp_path / "killed.py", tmp_path / "images", tmp_path / "cache"]
    process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(done := list(tmp_path.glob("cache/*/chunks/0*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: not group_lives(process.pid))
    lists = [json.loads(path.read_text()) for path in tmp_path.glob("cache/*/chunks/0*.json")]
    whole = [entry["case"] for entries in lists for entry in entries]
    assert 8 <= len(whole) < 60
    assert done
    reads = count_reads(monkeypatch)
    prepared = prepare(items, tmp_path / "cache", size=16, workers=1)
    assert {path.stem for path in reads} == {item.case for item in items} - set(whole)
    assert all((prepared[i] == read_xray_reduced(item.path, 16).pixels).all() for i, item in enumerate(items))


def test_two_that_prepare_the_same_at_once_read_each_file_once(tmp_path, small_chunks, monkeypatch):
    items = write_images(tmp_path / "images", 10)
    reads = count_reads(monkeypatch)
    with ThreadPoolExecutor(2) as pool:  # each opens the lock's file anew, as another process would
        one, two = pool.map(lambda _: prepare(items, tmp_path / "cache", size=16, workers=1), range(2))
    assert one.folder == two.folder
    assert sorted(reads) == [item.path for item in items]
    assert (one[9] == read_xray_reduced(items[9].path, 16).pixels).all()


def test_a_disk_that_fills_up_is_answered_and_what_was_read_is_kept(tmp_path, small_chunks, monkeypatch):
    items, original = write_images(tmp_path / "images", 8), module.os.fsync
    synced = []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) == 4:  # the empty file, the first chunk's pixels and their list, and now the second's
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(UserError, match=r"No space left on device.*choose another cache_dir"):
            prepare(items, tmp_path / "cache", size=16, workers=1)
    kept = [path.name for path in tmp_path.glob("cache/*/chunks/0*.json")]
    assert kept == ["0000000000.json"]
    reads = count_reads(monkeypatch)
    prepare(items, tmp_path / "cache", size=16, workers=1)
    assert [path.name for path in reads] == ["004.png", "005.png", "006.png", "007.png"]


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_worker_that_dies_is_a_user_error(tmp_path, small_chunks, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    class Pool:
        def __init__(self, *args, **kwargs):
            pass

        def submit(self, *args):
            raise BrokenProcessPool

        def shutdown(self, **kwargs):
            pass

    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    with pytest.raises(UserError, match=r"ended unexpectedly.*run again, it goes on where it stopped"):
        prepare(write_images(tmp_path / "images", 8), tmp_path / "cache", size=16, workers=2)


def test_prepared_set_pickles_as_its_path_and_shares_the_file(tmp_path):
    prepared = prepare(write_images(tmp_path / "images", 3), tmp_path / "cache", size=16)
    pixels = prepared[0]
    content = pickle.dumps(prepared)
    assert len(content) < 500
    assert (pickle.loads(content)[0] == pixels).all()  # noqa: S301 - pickled a line above
    assert not pixels.flags.owndata
    assert not pixels.flags.writeable


def test_nothing_is_written_into_the_data_set(tmp_path):
    items = write_images(tmp_path / "set" / "images", 2)
    with pytest.raises(UserError, match="expected a cache_dir outside the data set"):
        prepare(items, tmp_path / "set" / "images" / "cache")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    with pytest.raises(UserError, match="outside the data set"):
        prepare(items, tmp_path / "link" / "cache", dataset_dir=tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").rglob("*")) == ["000.png", "001.png", "images"]


def test_what_cannot_be_prepared_is_refused(tmp_path, monkeypatch):
    items = write_images(tmp_path / "images", 2)
    with pytest.raises(UserError, match="expected X-rays to prepare"):
        prepare([], tmp_path / "cache")
    with pytest.raises(UserError, match="expected each case once, got '001' several times"):
        prepare([*items, items[1]], tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"expected to write to .* choose another cache_dir"):
        prepare(items, tmp_path / "file" / "cache")
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(UserError, match=r"expected 0\.00 GB free for the prepared X-rays"):
        prepare(items, tmp_path / "cache")


def test_real_xrays_are_prepared_with_the_odd_ones_listed(tmp_path):
    root = os.environ.get("REAL_DATA_DIR")
    if not root or not Path(root, "odd_dicom").is_dir():
        pytest.skip("REAL_DATA_DIR is not set: no real X-rays")
    prepared = prepare(find_images([Path(root, "odd_dicom")]), tmp_path)
    assert len(prepared) == 5
    assert list(prepared.failures["case"]) == ["html_page_named", "nih_modality_ct"]
    assert prepared[prepared.index["rsna_format_real"]].shape == (224, 224)
