"""What a person does in the MLflow UI with the runs of two trainings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from conftest import kept_logging, run_tiny, use_store
from servers import MlflowServer

from pipelines.runs import read_tracking

# what an element says itself, and not by way of those in it
OWN = "const own = e => [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent).join('').trim();"
VIEW = "?workflowType=machine_learning"


@pytest.fixture(scope="module")
def ui(
    phantom: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """The UI of a store with two trainings of different learning rates, which no other test evaluates."""
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch, kept_logging():
        store = use_store(folder, empty_store, patch)
        run_tiny(phantom, folder / "runs", run_name="reference")
        other = run_tiny(phantom, folder / "runs", run_name="other", lr=0.01)
    server = MlflowServer(store, folder / "artifacts")
    try:
        server.start()
        client = mlflow.MlflowClient(server.uri)
        ids = {name: read_tracking(other.parent / name)["run_id"] for name in ("reference", "other")}
        runs = {name: client.get_run(run_id) for name, run_id in ids.items()}
        page = f"{server.uri}/#/experiments/{runs['other'].info.experiment_id}/runs"
        yield SimpleNamespace(runs=runs, page=page)
    finally:
        server.kill()


def until(found: Any, seconds: float = 90.0) -> Any:
    """Return what ``found()`` gives once that is anything."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, "the page does not show it"
        time.sleep(0.2)
    return result


def click(browser: Any, css: str, text: str = "") -> None:
    """Click each element that a selector finds, and that says ``text`` itself where that is given; wait for one."""
    found = "return [...document.querySelectorAll(arguments[0])].filter(e => !arguments[1] || own(e) === arguments[1])"
    for element in until(lambda: browser.run(OWN + found, css, text)):
        browser.run("arguments[0].click()", element)


def compared(browser: Any, count: int) -> dict[str, list[str]]:
    """Return the metrics of ``count`` compared runs as the page shows them: the names stand before all values."""
    _, _, rest = body(browser).partition("\nMetrics\n")
    lines = [line.strip() for line in rest.partition("\nArtifacts\n")[0].splitlines() if line.strip()]
    lines = lines[1:]  # the switch
    names, values = lines[: len(lines) // (count + 1)], lines[len(lines) // (count + 1) :]
    return {name: values[n * count : (n + 1) * count] for n, name in enumerate(names)}


def beside(browser: Any, name: str) -> list[str]:
    """Return the cells beside the one that says ``name``."""
    script = """const rows = [...document.querySelectorAll("tr")];
        const row = rows.find(r => r.children[0].innerText.trim() === arguments[0]);
        return row ? [...row.children].slice(1).map(cell => cell.innerText.trim()) : []"""
    return browser.run(script, name)


def body(browser: Any) -> str:
    """Return all text that the page shows."""
    return browser.run("return document.body.innerText")


def test_two_runs_are_selected_and_compared_by_the_numbers_of_their_trainings(ui, browser):
    browser.open(ui.page + VIEW, width=1400, height=2400)  # what is out of sight is not in the page
    until(lambda: set(ui.runs) <= set(browser.texts("a")))
    assert "Task02_Heart" in body(browser)
    click(browser, "input[aria-label^='Press Space to toggle row selection']")
    click(browser, "button[data-testid=runs-compare-button]")
    names = until(lambda: [name for name in beside(browser, "Run Name:") if name in ui.runs])
    assert sorted(names) == sorted(ui.runs)
    runs = [ui.runs[name] for name in names]
    assert beside(browser, "lr") == [run.data.params["lr"] for run in runs]
    # the list holds only what it has room for; the best scores come first
    shown = until(lambda: "best/mean_dice" in (found := compared(browser, len(runs))) and found)
    assert "best/epoch" in shown
    for metric, texts in shown.items():
        values = [run.data.metrics.get(metric) for run in runs]
        if None in values:  # a training may end before the machine was looked at
            assert metric.startswith("system/")
            continue
        assert [float(text) for text in texts] == pytest.approx(values, rel=5e-3, abs=6e-4), metric


def test_a_run_tells_first_how_good_it_is_and_names_its_data_and_its_model(ui, browser):
    name, run = next(iter(ui.runs.items()))
    browser.open(f"{ui.page}/{run.info.run_id}{VIEW}")
    text = until(lambda: "best mean_dice" in (shown := body(browser)) and shown)
    best = run.data.metrics
    epochs = run.data.params["max_epochs"]
    assert (
        f"best mean_dice {best['best/mean_dice']:.4f} in epoch {best['best/epoch']:.0f} of {epochs}" in text
    )
    assert f"--ckpt_path runs/atrium/{name}" in text
    assert "Task02_Heart" in text
    assert "**" not in text  # it is shown as what it is, Markdown


def test_a_figure_of_a_run_opens(ui, browser):
    run = next(iter(ui.runs.values()))
    browser.open(f"{ui.page}/{run.info.run_id}/artifacts{VIEW}")
    for name in ("figures", "learning_curves.png"):
        click(browser, "#root *", name)
    width = "return Math.max(0, ...[...document.images].map(image => image.naturalWidth))"
    assert until(lambda: (pixels := browser.run(width)) > 300 and pixels)
