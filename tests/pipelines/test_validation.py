from __future__ import annotations

import matplotlib.image
import pytest
import torch
from ignite.engine import Engine, Events

from pipelines.validation import BestCases, draw_segmentation


class Tracker:
    def __init__(self):
        self.files = []

    def log_files(self, *paths, folder=None):
        self.files += [f"{folder}/{path.name}" for path in paths if path.is_file()]


def validate(folder, scores_by_epoch, names=("la_2", "la,1", "la_3"), **arguments):
    """Run an evaluator whose cases have the scores given for each epoch, and return what was logged."""

    def step(engine, batch):
        return [{"pred": item["case"]} for item in batch]

    evaluator, tracker = Engine(step), Tracker()
    state = evaluator.state
    state.key_metric_name, state.best_metric, state.best_metric_epoch = "mean_dice", -1.0, -1

    @evaluator.on(Events.EPOCH_COMPLETED)
    def score():
        scores = torch.tensor(scores_by_epoch[state.epoch - 1])
        state.metric_details = {"mean_dice": scores[:, None]}
        if scores.mean() > state.best_metric:
            state.best_metric, state.best_metric_epoch = float(scores.mean()), state.epoch

    BestCases(**arguments).attach(None, evaluator, folder, tracker)
    for epoch in range(1, len(scores_by_epoch) + 1):
        state.epoch, state.max_epochs, state.iteration = epoch - 1, None, 0
        batches = [[{"case": name}] for name in names]
        state.epoch_length = len(batches)
        state.max_epochs = epoch
        evaluator.run(batches, max_epochs=epoch)
    return tracker.files


def test_the_best_validation_s_cases_are_kept_and_a_worse_one_changes_nothing(tmp_path):
    validate(tmp_path, [[0.5, 0.6, 0.7], [0.8, 0.9, 0.25], [0.1, 0.2, 0.3]])
    assert (tmp_path / "cases.csv").read_text() == 'case,mean_dice\nla_2,0.8\n"la,1",0.9\nla_3,0.25\n'


def test_the_first_cases_are_drawn_at_each_improvement_and_at_no_other_time(tmp_path):
    drawn = []

    def draw(item, path, title):
        path.parent.mkdir(exist_ok=True)
        path.write_text(title)
        drawn.append((item["pred"], title))

    logged = validate(tmp_path, [[0.5, 0.6, 0.7], [0.1, 0.2, 0.3], [0.8, 0.9, 1.0]], draw=draw, pictures=2)
    assert drawn == [
        ("la_2", "la_2, epoch 1: mean_dice 0.500"),
        ("la,1", "la,1, epoch 1: mean_dice 0.600"),
        ("la_2", "la_2, epoch 3: mean_dice 0.800"),
        ("la,1", "la,1, epoch 3: mean_dice 0.900"),
    ]
    assert logged == [f"validation/epoch_{n:03d}_{name}.png" for n in (1, 3) for name in ("la_2", "la,1")]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "validation_la,1.png",
        "validation_la_2.png",
    ]


def test_a_task_says_of_each_case_what_it_likes(tmp_path):
    titles = []

    def draw(item, path, title):
        path.parent.mkdir()
        path.touch()
        titles.append(title)

    def row(item):
        return {"iou": len(item["pred"]) / 8, "view": "PA"}

    validate(tmp_path, [[0.5, 0.6, 0.7]], row=row, draw=draw, pictures=1)
    expected = 'case,iou,view\nla_2,0.5,PA\n"la,1",0.5,PA\nla_3,0.5,PA\n'
    assert (tmp_path / "cases.csv").read_text() == expected
    assert titles == ["la_2, epoch 1: iou 0.500"]


def test_a_detail_missing_for_a_case_is_an_error_and_not_a_shifted_table(tmp_path):
    with pytest.raises(ValueError, match="does not match length"):
        validate(tmp_path, [[0.5, 0.6]])


@pytest.mark.parametrize("empty", [False, True])
def test_a_segmentation_is_drawn_whether_or_not_anything_was_found(tmp_path, empty):
    mask = torch.zeros(1, 24, 20, 6)
    mask[:, 4:10, 5:12, 2:5] = 0 if empty else 1
    item = {"image": torch.rand(1, 24, 20, 6), "pred": mask, "label": torch.zeros_like(mask)}
    draw_segmentation(item, tmp_path / "a.png", "la_1, epoch 2: mean_dice 0.500")
    assert matplotlib.image.imread(tmp_path / "a.png").ndim == 3


def test_a_picture_that_cannot_be_drawn_costs_the_picture_and_not_the_training(tmp_path, caplog):
    def draw(item, path, title):
        raise ValueError("Invalid bounding box")

    logged = validate(tmp_path, [[0.5, 0.6, 0.7]], draw=draw, pictures=1)
    assert logged == []
    assert "validation_la_2.png could not be drawn" in caplog.text
    assert (tmp_path / "cases.csv").is_file()
