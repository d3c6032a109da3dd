from __future__ import annotations

import pytest
from conftest import ROOT

from pipelines.benchmarks.predict import benchmark_predict
from pipelines.errors import UserError
from pipelines.phantoms.xray import write_pneumonia_phantom


def test_prediction_and_network_are_timed_on_the_same_images(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    write_pneumonia_phantom(tmp_path / "rsna", cases=5, size=64)
    result = benchmark_predict(tmp_path / "rsna" / "stage_2_train_images", rounds=1, batch_size=4, size=32)
    assert (result["files"], result["rounds"]) == (5, 1)
    assert result["network_ms"] > 0
    assert result["prediction_ms"] > 0
    assert result["prediction_over_network"] > 0


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds nothing to read"):
        benchmark_predict(tmp_path)
