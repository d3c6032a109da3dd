from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, generate_uid

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


def test_files_of_another_kind_cannot_be_compared(tmp_path):
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(tmp_path / "x.png")
    with pytest.raises(
        UserError, match=r"expected DICOM with JPEG Baseline to measure, got another kind: x\.png"
    ):
        benchmark_prepare(tmp_path)
