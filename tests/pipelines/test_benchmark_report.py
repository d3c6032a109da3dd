from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from pipelines.benchmarks import memory, startup, train
from pipelines.benchmarks.meter import PARTS, epoch_seconds
from pipelines.benchmarks.predict_parts import OwnTime
from pipelines.benchmarks.report import Benchmark, Figure, median_ratio


def by_name(figures):
    return {(figure.name, figure.against): figure for figure in figures}


def test_a_ratio_is_judged_where_there_is_one_and_the_value_otherwise():
    assert Figure("loop", 40.0, "images/s", 0.96, "network", at_least=0.95).met is True
    assert Figure("loop", 40.0, "images/s", 0.94, "network", at_least=0.95).met is False
    assert Figure("help", 0.9, "s", at_most=1.0).met is True
    assert Figure("help", 1.1, "s", at_most=1.0).met is False
    assert Figure("network", 40.0, "images/s").met is None


def test_median_ratio_compares_each_round_with_what_was_measured_beside_it():
    assert median_ratio([10, 30, 8], [5, 10, 8]) == 2  # of 2, 3 and 1
    # (4 + 6) / 2 = 5 and (6 + 14) / 2 = 10: ratios 2 and 4
    assert median_ratio([10, 40], [4, 6, 14]) == 3


def test_json_has_every_figure_the_versions_and_no_name_of_the_machine():
    import platform

    figure = Figure("loop", 41.23456, "images/s", 0.971234, "network alone", at_least=0.95)
    content = json.loads(Benchmark("train", "atrium", {"rounds": 3}, [figure]).to_json())
    assert content["figures"] == [
        {
            "name": "loop",
            "value": 41.2346,
            "unit": "images/s",
            "ratio": 0.9712,
            "against": "network alone",
            "at_least": 0.95,
            "at_most": None,
            "reach": "at least 0.95",
            "met": True,
        }
    ]
    assert (content["benchmark"], content["bundle"], content["settings"]) == (
        "train",
        "atrium",
        {"rounds": 3},
    )
    machine = content["machine"]
    assert machine["threads"] >= 1
    assert {"python", "torch", "monai", "mlflow"} <= set(machine["versions"])
    assert platform.node() not in json.dumps(machine).split('"')


def test_table_shows_what_is_not_met():
    console = Console(width=160, record=True, file=io.StringIO())
    figures = [Figure("loop", 41.2, "images/s", 0.9, "network alone", at_least=0.95)]
    Benchmark("train", "atrium", {"rounds": 3}, figures).print(console)
    line = next(line for line in console.export_text().splitlines() if "loop" in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == [
        *("loop", "41.2 images/s", "0.90", "network alone", "at least 0.95", "not met")
    ]


def test_training_figures_from_made_up_speeds():
    speeds = {"loop": [9.0, 19.0, 30.0], "network": [10.0, 20.0, 30.0]}
    speeds |= {"plain": [3.0, 10.0, 30.0], "plain network": [6.0, 20.0, 60.0]}
    found = by_name(train.figures(speeds))
    assert found["network alone", ""].value == 20
    loop = found["loop", "network alone"]
    assert (loop.value, loop.ratio, loop.met) == (19, pytest.approx(0.95), True)  # of 0.9, 0.95 and 1
    assert found["loop", "plain MONAI bundle"].ratio == pytest.approx(1.9)  # of 3, 1.9 and 1
    assert found["plain MONAI bundle", "its own network alone"].ratio == 0.5


def test_part_figures_are_of_a_step_and_beside_the_network_alone():
    network, batch, *_ = PARTS
    rounds = [{network: 2.2, batch: 0.2}, {network: 4.0, batch: 0.4}, {network: 3.0, batch: 0.1}]
    found = by_name(train.part_figures(rounds, network=[2.0, 4.0, 2.0], steps=[10, 20, 20]))
    assert [name for name, _ in found] == [f"of a step: {part}" for part in PARTS]
    loop = found[f"of a step: {network}", "network alone"]
    assert (loop.value, loop.ratio) == (
        pytest.approx(200),
        pytest.approx(1.1),
    )  # of 220, 200, 150; of 1.1, 1 and 1.5
    drawing = found[f"of a step: {batch}", "network alone"]
    assert (drawing.value, drawing.ratio) == (
        pytest.approx(20),
        pytest.approx(0.1),
    )  # of 20, 20, 5; of 0.1, 0.1, 0.05


def test_the_time_of_a_function_is_without_that_of_those_inside_it():
    hand = iter([0.0, 1.0, 4.0, 5.0, 5.5, 10.0])  # outer begins, inner 1 to 4, inner 5 to 5.5, outer ends
    own = OwnTime(lambda: next(hand))
    inner = own.timed("inner", lambda x: 2 * x)
    outer = own.timed("outer", lambda: inner(1) + inner(x=2))
    assert outer() == 6
    assert own.seconds == {"inner": 3.5, "outer": 6.5}


def test_the_time_of_a_function_that_fails_counts():
    hand = iter([0.0, 2.0])
    own = OwnTime(lambda: next(hand))
    with pytest.raises(ZeroDivisionError):
        own.timed("wrong", lambda: 1 / 0)()
    assert own.seconds == {"wrong": 2.0}


def test_startup_figures_from_made_up_seconds():
    seconds = {"python": [0.1], "help": [0.8], "imports": [4.0], "step": [6.0], "fold": [5.0]}
    found = by_name(startup.figures(seconds))
    assert found["python -m pipelines --help", ""].met is True
    step = found["first training step", "importing torch and monai"]
    assert (step.value, step.ratio, step.met) == (6, 1.5, False)
    fold = found["the same as a fold of crossval", "importing torch and monai"]
    assert (fold.value, fold.ratio, fold.met) == (5, 1.25, True)


def test_memory_figures_from_made_up_peaks():
    megabyte = 1_000_000
    trained = [{"peak": (500 + 2 * n) * megabyte, "cached": n * megabyte} for n in (10, 20, 40)]
    predicted = [{"peak": 600 * megabyte, "cached": 0}, {"peak": 630 * megabyte, "cached": 0}]
    found = by_name(memory.figures([1, 2, 4], trained, [1, 4], predicted))
    assert found["training on 4", ""].value == pytest.approx(580)
    slope = found["training, more for each byte cached", ""]
    assert (slope.value, slope.met) == (pytest.approx(2), False)
    assert found["training, largest distance from a line", ""].value == pytest.approx(0, abs=1e-9)
    flat = found["prediction of 4", "that of 1"]
    assert (flat.ratio, flat.met) == (pytest.approx(1.05), True)


def test_an_epoch_of_the_network_alone_is_made_of_its_own_batches():
    wide, high = (16, 5, 128, 96), (16, 5, 96, 64)
    before, after = {wide: 0.4, high: 0.2}, {wide: 0.6, high: 0.4}
    assert epoch_seconds({wide: 3, high: 10}, before, after) == pytest.approx(3 * 0.5 + 10 * 0.3)
    assert epoch_seconds({wide: 2}, before) == pytest.approx(0.8)
