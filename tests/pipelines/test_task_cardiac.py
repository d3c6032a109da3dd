from __future__ import annotations

import math
import re

import numpy as np
import pytest

from pipelines.readers.xray import XrayHeader
from pipelines.tasks.cardiac import cardiac_result, ratio_note, review_reasons
from pipelines.tasks.cardiac_overlay import overlay

EDGES = [0.375, 0.5, 0.75, 0.75, 0.125, 0.875]


def header(**known):
    return XrayHeader(rows=400, columns=800, **{"view": "PA", **known})


def result(variants, **known):
    return cardiac_result(np.array([variants]), header(**known))


def test_pixels_are_the_files_own_columns_and_rows():
    found = result([EDGES])
    assert found["box_xyxy_px"] == [300, 200, 600, 300]
    assert found["centre_px"] == [450, 250]
    assert (found["width_px"], found["height_px"]) == (300, 100)
    assert found["position"] == 0.0625  # the centre is at 450 of 800 columns, 50 beyond the middle
    assert found["thorax_x_px"] == [100, 700]
    assert found["cardiothoracic_ratio"] == 0.5
    assert found["review"] == {"needed": False, "reasons": []}


def test_mm_are_those_of_rows_and_columns_with_their_tag():
    found = result([EDGES], spacing=(0.5, 0.2), spacing_tag="PixelSpacing")
    assert found["box_xyxy_mm"] == [60, 100, 120, 150]
    assert (found["width_mm"], found["height_mm"]) == (60, 50)
    assert found["mm_missing"] is None
    assert found["spacing_tag"] == "PixelSpacing"
    assert "calibrated to the body or be the detector's own" in found["spacing_note"]


@pytest.mark.parametrize("tag", ["ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_a_detectors_spacing_is_not_the_bodys(tag):
    note = result([EDGES], spacing=(0.5, 0.2), spacing_tag=tag)["spacing_note"]
    assert note.startswith(f"{tag} lies in the plane of the detector, where the body is magnified")


def test_without_a_spacing_mm_are_null_with_the_reason():
    found = result([EDGES])
    assert [found[name] for name in ("box_xyxy_mm", "width_mm", "height_mm", "spacing_tag")] == [None] * 4
    assert found["mm_missing"] == "the file gives no pixel spacing, so nothing is known in mm"


def test_the_answer_is_the_mean_of_the_variants_and_their_spread_the_uncertainty():
    moved = np.array(EDGES) + np.array([[0.01], [-0.01]])
    found = result(moved)
    assert found["box_xyxy_px"] == [300, 200, 600, 300]
    # two values 0.02 apart have a standard deviation of 0.02 / sqrt 2
    x, y = round(16 / math.sqrt(2), 2), round(8 / math.sqrt(2), 2)
    wanted = {"x0": x, "y0": y, "x1": x, "y1": y, "thorax_x0": x, "thorax_x1": x}
    assert found["uncertainty_px"] == pytest.approx(wanted)
    assert result([EDGES])["uncertainty_px"] is None


def test_a_box_alone_has_no_ratio_and_says_why():
    found = result([EDGES[:4]])
    assert (found["cardiothoracic_ratio"], found["thorax_x_px"]) == (None, None)
    assert (
        found["ratio_note"] == "not learnt: the network was trained without ranges of the thorax (thorax.csv)"
    )


@pytest.mark.parametrize(
    ("view", "note"),
    [("PA", None), ("AP", "AP view: magnified"), (None, "view unknown"), ("LL", "not a PA view (LL)")],
)
def test_the_ratio_is_flagged_by_view(view, note):
    assert ratio_note(view) == note
    assert result([EDGES], view=view)["ratio_note"] == note


@pytest.mark.parametrize(
    ("edges", "spread", "view", "reason"),
    [
        ([0.0, 0.5, 0.5, 0.75], None, "PA", "touches the border"),
        ([0.4, 0.7, 0.7, 1.0], None, "PA", "touches the border"),
        ([0.4, 0.4, 0.5, 0.7], None, "PA", "width is 10% of the image, outside 20% to 70%"),
        ([0.3, 0.1, 0.7, 0.9], None, "PA", "height is 80% of the image, outside 18% to 65%"),
        (
            EDGES,
            [0, 0, 0.03, 0, 0, 0],
            "PA",
            "its answers disagree: x1 varies by 3.0%, above 2%",
        ),
        (EDGES, [0, 0, 0, 0, 0.01, 0.05], "PA", "its answers disagree: thorax_x1 varies by 5.0%"),
        (EDGES, None, "LL", r"not a frontal view \(LL\)"),
        ([*EDGES[:4], 0.3, 0.7], None, "PA", "cardiothoracic ratio 0.94 outside 0.3 to 0.8"),
        ([*EDGES[:4], 0.5, 0.5], None, "PA", "cardiothoracic ratio nan outside"),
    ],
)
def test_each_reason_for_a_review(edges, spread, view, reason):
    reasons = review_reasons(np.array(edges), None if spread is None else np.array(spread), view)
    assert len(reasons) == 1
    assert re.search(reason, reasons[0])


def test_a_plain_result_needs_no_review_whether_ap_pa_or_unknown():
    for view in ("AP", "PA", None):
        assert review_reasons(np.array(EDGES), np.full(6, 0.01), view) == []


def test_a_box_of_something_else_has_its_own_name_and_ranges_and_no_ratio():
    ranges = {"width": (0.3, 0.5), "height": (0.5, 0.9)}
    found = cardiac_result(np.array([[[0.0, 0.2, 0.4, 0.6]]]), header(), "lungs", ranges, ratio=False)
    assert found["review"]["reasons"] == [
        "touches the border of the image: a part of the lungs may lie outside",
        "height is 40% of the image, outside 50% to 90%",
    ]
    assert not {"cardiothoracic_ratio", "ratio_note", "thorax_x_px"} & set(found)
    picture = np.full((200, 400), 90, np.uint8)
    assert overlay(picture, np.array([0.0, 0.2, 0.4, 0.6]), found, "a", "lungs").height > 200


@pytest.mark.parametrize("edges", [EDGES, EDGES[:4]])
@pytest.mark.parametrize("known", [{}, {"spacing": (0.5, 0.2), "spacing_tag": "PixelSpacing"}])
def test_the_overlay_marks_the_box_where_it_is(edges, known):
    picture = np.random.default_rng(0).integers(80, 120, (200, 400), dtype=np.uint8)
    image = overlay(picture, np.array(edges), result([edges], **known), "a.b.c")
    pixels = np.array(image.convert("RGB"))[:200]
    orange = (pixels == (230, 159, 0)).all(-1)
    assert orange[100:150, 150].all()  # the left edge, from upper to lower corner
    assert orange[100, 150:300].all()
    assert not orange[:99].any()
    blue = (pixels == (86, 180, 233)).all(-1)
    assert blue[60:200, 50].mean() > (0.9 if len(edges) > 4 else -1)
    assert blue.any() == (len(edges) > 4)


def test_an_overlay_with_a_reason_for_a_review_has_a_red_frame_and_the_reason():
    edges = [0.0, 0.5, 0.5, 0.75]
    plain = overlay(np.full((200, 400), 90, np.uint8), np.array(EDGES), result([EDGES]), "a")
    marked = overlay(np.full((200, 400), 90, np.uint8), np.array(edges), result([edges]), "a")
    assert np.array(marked.convert("RGB"))[0, 0].tolist() == [255, 70, 70]
    assert marked.height > plain.height  # a line for the reason
