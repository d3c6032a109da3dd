"""The phantom chest X-rays: the real sets' layouts and headers, exact boxes, the same bytes from the same seed."""

from __future__ import annotations

import math

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGBaseline8Bit
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from pipelines.datasets import heart, rsna
from pipelines.errors import UserError
from pipelines.phantoms.chest import Chest, Ellipse, paint
from pipelines.phantoms.xray import make_xray, write_heart_phantom, write_pneumonia_phantom

SIZE = 96


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def pneumonia(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pneumonia"
    write_pneumonia_phantom(folder, cases=20, seed=3, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "heart"
    write_heart_phantom(folder, cases=10, seed=3, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def headers(pneumonia):
    return [pydicom.dcmread(case["image"]) for case in rsna.read_cases(pneumonia)]


def test_two_of_five_cases_are_positive_and_each_has_boxes_inside_the_image(pneumonia):
    cases = rsna.read_cases(pneumonia)
    assert [case["label"] for case in cases] == [0, 1, 0, 1, 0] * 4
    for case in cases:
        assert (1 <= len(case["boxes"]) <= 2) == bool(case["label"])
        for x0, y0, x1, y1 in case["boxes"]:
            assert 0 <= x0 < x1 <= SIZE
            assert 0 <= y0 < y1 <= SIZE


def test_some_patients_have_two_images_and_stay_on_one_side(pneumonia):
    cases = rsna.read_cases(pneumonia)
    assert len({case["group"] for case in cases}) == 16
    assert cases[3]["group"] == cases[4]["group"] != cases[2]["group"]


def test_headers_look_like_the_challenges(headers):
    for header in headers:
        assert header.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
        assert header.pixel_array.shape == (SIZE, SIZE)
        assert header.pixel_array.dtype == np.uint8
        assert (header.Modality, header.BodyPartExamined) == ("CR", "CHEST")
        assert header.PatientID == header.PatientName
        assert 0.13 < header.PixelSpacing[0] * SIZE / 1024 < 0.2
    assert {header.ViewPosition for header in headers} == {"AP", "PA"}
    assert {header.PhotometricInterpretation for header in headers} == {"MONOCHROME1", "MONOCHROME2"}
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)


def test_monochrome1_is_stored_inverted(headers):
    for header in headers:
        air = np.median(header.pixel_array[:4, :4])  # the left upper corner lies beside the neck
        assert (air > 200) == (header.PhotometricInterpretation == "MONOCHROME1")


def unevenness(xray):
    """The larger spread of blurred brightness within a lung's air, as a share of that of the whole image."""
    pixels, chest = (
        (255 - xray.pixels if xray.photometric == "MONOCHROME1" else xray.pixels) / 255,
        xray.chest,
    )
    points = np.stack(np.meshgrid(*[(np.arange(SIZE) + 0.5) / SIZE] * 2))
    middle = np.minimum.reduce([part.level(points) for part in (*chest.heart, chest.aorta)])
    spreads = []
    for side in (-1, 1):
        lung = np.maximum(chest.lungs[side].level(points), -chest.domes[side].level(points))
        inside = (lung < -0.03) & (middle > 0.02)
        smooth = gaussian_filter(pixels * inside, 2) / (gaussian_filter(inside.astype(float), 2) + 1e-6)
        spreads.append(smooth[inside].std() / pixels.std())
    return max(spreads)


def test_opacities_tell_the_label_within_a_view_without_any_training():
    xrays = [make_xray(5, index, SIZE) for index in range(120)]
    for view in ("AP", "PA"):
        seen = [xray for xray in xrays if xray.view == view]
        labels = [xray.label for xray in seen]
        assert roc_auc_score(labels, [unevenness(xray) for xray in seen]) > 0.8
        # what the header says besides the view tells nothing
        assert abs(roc_auc_score(labels, [xray.age for xray in seen]) - 0.5) < 0.2


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_cases(pneumonia, tmp_path):
    write_pneumonia_phantom(tmp_path / "few", cases=3, seed=3, size=SIZE)
    few, many = files_of(tmp_path / "few"), files_of(pneumonia)
    images = [name for name in few if name.endswith(".dcm")]
    assert len(images) == 3
    assert all(few[name] == many[name] for name in images)
    assert not np.array_equal(make_xray(3, 0, SIZE).pixels, make_xray(4, 0, SIZE).pixels)


def test_boxes_do_not_depend_on_the_size():
    for index in (1, 3):
        assert np.array_equal(make_xray(0, index, 64).chest.boxes, make_xray(0, index, 512).chest.boxes)


def test_the_hearts_box_and_the_thorax_are_exact_for_a_chest_worked_out_by_hand():
    lungs = {-1: Ellipse(0.3, 0.4, 0.15, 0.3, 0), 1: Ellipse(0.7, 0.4, 0.15, 0.3, 0)}
    domes = {side: Ellipse(0.5 + side * 0.2, 0.8, 0.2, 0.2, 0) for side in (-1, 1)}
    parts = (Ellipse(0.5, 0.5, 0.1, 0.05, 0), Ellipse(0.6, 0.5, 0.2, 0.1, math.pi / 2))
    chest = Chest(lungs, domes, parts, Ellipse(0.5, 0.3, 0.01, 0.01, 0), 0.5, 0.5, 1.0)
    # the second ellipse stands upright: half axes 0.1 across and 0.2 along
    assert chest.heart_box == pytest.approx([0.4, 0.3, 0.7, 0.7], abs=1e-6)
    assert chest.thorax == pytest.approx([0.15, 0.85], abs=1e-6)
    chest.opacities.append((1, Ellipse(0.7, 0.4, 0.05, 0.1, 0)))
    assert chest.boxes == pytest.approx(np.array([[0.65, 0.3, 0.75, 0.5]]), abs=1e-6)


@pytest.mark.parametrize("index", [1, 3, 6, 8])
def test_the_lung_is_brighter_in_the_boxes_than_without_the_opacities(index):
    with_them = make_xray(0, index, SIZE).chest
    without = Chest(**{**vars(with_them), "opacities": []})
    bright, dark = (paint(np.random.default_rng(0), chest, False, 128) for chest in (with_them, without))
    for box in with_them.boxes:
        x0, y0, x1, y1 = (box * 128).round().astype(int)
        assert bright[y0:y1, x0:x1].mean() > dark[y0:y1, x0:x1].mean() + 0.03


def test_the_heart_layout_has_dotted_names_and_a_ratio_that_its_boxes_give(hearts):
    cases = heart.read_cases(hearts)
    assert len(cases) == 10
    for case in cases:
        (x0, y0, x1, y1), (left, right) = case["box"], case["thorax"]
        assert "." in case["case"]
        assert 0 < left < x0 < x1 < right < 1
        assert 0 < y0 < y1 < 1
        assert (x1 - x0) / (right - left) == pytest.approx(case["cardiothoracic_ratio"], abs=0.01)
    assert len({case["cardiothoracic_ratio"] for case in cases}) > 5


def test_a_folder_with_this_phantom_is_left_alone_and_another_one_refused(hearts, tmp_path, capsys):
    before = files_of(hearts)
    write_heart_phantom(hearts, cases=10, seed=3, size=SIZE)
    assert "already holds this phantom" in capsys.readouterr().out
    assert files_of(hearts) == before
    with pytest.raises(UserError, match="expected an empty folder or this very phantom"):
        write_heart_phantom(hearts, cases=10, seed=4, size=SIZE)
    with pytest.raises(UserError, match="expected an empty folder or this very phantom"):
        write_pneumonia_phantom(hearts, cases=10, seed=3, size=SIZE)


def test_nothing_is_left_of_a_phantom_that_was_interrupted(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.phantoms.xray.write_dicom", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_heart_phantom(tmp_path / "heart", cases=2, size=SIZE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cases": 1}, "cases must be 2 to 99999, got 1"),
        ({"seed": -1}, "seed must be zero or more, got -1"),
        ({"size": 8}, "size must be 64 to 4096 pixels a side, got 8"),
    ],
)
def test_unusable_arguments_are_user_errors(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        write_pneumonia_phantom(tmp_path / "p", **arguments)
