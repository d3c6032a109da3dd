from __future__ import annotations

import io
import re

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, generate_uid

from pipelines.benchmarks import prepare
from pipelines.benchmarks.prepare import benchmark_prepare
from pipelines.errors import UserError


def write_jpeg_xray(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 80), dtype=np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    dataset.Modality, dataset.ViewPosition = "CR", "AP"
    dataset.set_pixel_data(pixels, "MONOCHROME2", 8)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([jpeg.getvalue()])
    dataset.save_as(path, enforce_file_format=True)


def test_benchmark_gives_a_time_and_a_ratio_for_each_way(tmp_path):
    for number in range(3):
        write_jpeg_xray(tmp_path / f"{number}.dcm", number)
    result = benchmark_prepare(tmp_path, rounds=2)
    assert (result["files"], result["rounds"]) == (3, 2)
    for name in ("cpu_ms", "wall_ms"):
        assert set(result[name]) == {"plain", "decode", "prepare"}
        assert min(result[name].values()) > 0
    for name in (
        "plain_over_prepare",
        "prepare_over_decode",
        "plain_over_prepare_wall",
        "prepare_over_decode_wall",
    ):
        assert result[name] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.dcm", "1.dcm", "2.dcm"]


@pytest.mark.parametrize(
    ("files", "expected"), [(1, [1]), (320, [320]), (321, [161, 160]), (700, [234, 233, 233])]
)
def test_turns_are_of_one_size(files, expected):
    turns = prepare._turns(list(range(files)))
    assert [len(turn) for turn in turns] == expected
    assert sorted(item for turn in turns for item in turn) == list(range(files))


def test_a_file_that_cannot_be_read_is_named_without_its_header(tmp_path):
    write_jpeg_xray(tmp_path / "0.dcm", 0)
    dataset = pydicom.dcmread(tmp_path / "0.dcm")
    dataset.PatientName = "Jane"
    del dataset.PixelData
    dataset.save_as(tmp_path / "1.dcm")
    with pytest.raises(UserError, match=r"1\.dcm[\s\S]*Leave it out") as raised:
        benchmark_prepare(tmp_path)
    assert "Jane" not in str(raised.value)


@pytest.mark.parametrize(
    ("tag", "value"), [("PhotometricInterpretation", "SECRET"), ("NumberOfFrames", 3), ("Modality", "CT")]
)
def test_a_file_that_prepare_would_leave_out_is_refused_and_not_quoted(tmp_path, tag, value):
    write_jpeg_xray(tmp_path / "0.dcm", 0)
    dataset = pydicom.dcmread(tmp_path / "0.dcm")
    setattr(dataset, tag, value)
    dataset.save_as(tmp_path / "1.dcm")
    with pytest.raises(UserError, match=r"1\.dcm[\s\S]*Leave it out") as raised:
        benchmark_prepare(tmp_path)
    assert "SECRET" not in str(raised.value)


def test_a_folder_without_xrays_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        benchmark_prepare(tmp_path)


def test_files_of_another_kind_cannot_be_compared(tmp_path):
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(tmp_path / "x.png")
    with pytest.raises(
        UserError, match=r"expected DICOM with JPEG Baseline to measure, got another kind: x\.png"
    ):
        benchmark_prepare(tmp_path)
