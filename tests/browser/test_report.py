"""Reports and comparisons in a real browser, opened from files."""

from __future__ import annotations

import itertools
import json

import pytest

from pipelines.reports.compare_page import write_comparison
from pipelines.reports.comparison import compare
from pipelines.reports.record import read_record
from pipelines.reports.report import write_report

BUNDLES = ("atrium", "pneumonia", "cardiac")
SHOWN = (
    "return [...document.querySelectorAll('.cases figure')].map(f => getComputedStyle(f).display != 'none')"
)
# as much as the page's letters stand out from their background (WCAG 2): of every element with text of its own
CONTRAST = """
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
  }
};
let least = 99;
for (const e of document.querySelectorAll("main *, header *, nav *")) {
  if (![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) continue;
  const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
  least = Math.min(least, (a + 0.05) / (b + 0.05));
}
return least;
"""


@pytest.fixture(scope="module")
def reports(browser, evaluated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    return {
        bundle: write_report(read_record(evaluated[bundle][0]), folder / f"{bundle}.html")
        for bundle in BUNDLES
    }


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_report_shows_the_metrics_of_the_run_and_asks_nothing_of_the_network(
    browser, reports, evaluated, bundle
):
    browser.open(reports[bundle])
    metrics = json.loads((evaluated[bundle][0] / "metrics.json").read_text())["metrics"]
    rows = browser.run(
        "return [...document.querySelectorAll('tr[data-metric]')].map(r => [r.dataset.metric, r.cells[1].innerText])"
    )
    shown = dict(rows)
    assert set(shown) == set(metrics)
    for name, metric in metrics.items():
        if metric["value"] is None:
            assert shown[name].split()[:1] == ["-"]
        elif browser.run(
            "return document.querySelector(`tr[data-metric='${arguments[0]}']`).checkVisibility()", name
        ):
            assert float(shown[name].split()[0]) == pytest.approx(metric["value"], abs=0.0051), name
    assert browser.console() == []
    assert browser.requests() == [reports[bundle].as_uri()]


def test_cases_are_stepped_through_by_buttons_and_arrow_keys(browser, reports):
    browser.open(reports["cardiac"])
    assert browser.run(SHOWN) == [True, False, False]
    assert browser.texts(".steps output") == ["1 of 3"]
    browser.press("ARROW_RIGHT")
    assert browser.run(SHOWN) == [False, True, False]
    browser.run("document.querySelector('.cases').focus()")
    browser.press("END")
    assert browser.texts(".steps output") == ["3 of 3"]
    browser.press("ARROW_RIGHT")
    assert browser.texts(".steps output") == ["1 of 3"]
    browser.press("ARROW_LEFT", "HOME")
    assert browser.run(SHOWN) == [True, False, False]
    browser.click(".next")
    assert browser.texts(".steps output") == ["2 of 3"]
    browser.click(".previous")
    assert browser.texts(".steps output") == ["1 of 3"]


def test_arrow_keys_in_a_wide_table_scroll_it_and_step_nothing(browser, reports):
    browser.open(reports["cardiac"], width=360)
    browser.run("document.querySelector('.scroll').focus()")
    browser.press("ARROW_RIGHT")
    assert browser.texts(".steps output") == ["1 of 3"]


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_scrolls_a_report_down_alone_and_every_letter_stands_out(browser, reports, bundle, dark):
    browser.open(reports[bundle], width=360, height=740, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.run("return innerWidth") == 360
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 28)" if dark else "rgb(255, 255, 255)"
    )
    assert browser.run(CONTRAST) >= 4.5


def test_the_tab_key_reaches_everything_in_the_order_of_the_page_and_is_seen(browser, reports):
    browser.open(reports["atrium"])
    places, outlines = [], []
    for _ in range(40):
        browser.press("TAB")
        if browser.run("return document.activeElement === document.body"):  # behind the last one
            break
        places.append(
            browser.run("return [...document.querySelectorAll('*')].indexOf(document.activeElement)")
        )
        outlines.append(browser.run("return getComputedStyle(document.activeElement).outlineStyle"))
    assert len(places) > 5
    assert places == sorted(places)
    assert len(set(places)) == len(places)
    assert set(outlines) == {"solid"}


def test_headings_descend_step_by_step_and_every_picture_and_button_has_a_name(browser, reports):
    browser.open(reports["pneumonia"])
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert browser.run("return [...document.images].every(i => i.alt && i.naturalWidth > 0)")
    assert browser.run("return [...document.querySelectorAll('button')].every(b => b.innerText.trim())")
    assert browser.run("return document.title") == "old - pneumonia"


def test_paper_shows_every_case_and_no_buttons(browser, reports):
    browser.open(reports["cardiac"])
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.run(SHOWN) == [True, True, True]
        assert browser.run("return document.querySelector('.steps').checkVisibility()") is False
        assert browser.run("return document.querySelector('nav').checkVisibility()") is False
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_comparison_shows_the_verdict_and_stands_alone(browser, evaluated, tmp_path, bundle):
    compared = compare([read_record(run) for run in evaluated[bundle]])
    page = write_comparison(compared, tmp_path / "page.html")
    browser.open(page)
    assert browser.texts(".verdict") == [compared.pairs[0].sentences[0]]
    cells = browser.run(
        "return [...document.querySelector('table.paired tbody tr').cells].map(c => c.innerText)"
    )
    first = compared.pairs[0].scores[0]
    numbers = [float(cell.split()[0]) for cell in cells[2:5]]
    assert numbers == pytest.approx([first.a, first.b, first.value], abs=0.0051)
    browser.open(page, width=800)
    table = "document.querySelector('table.paired')"
    assert browser.run(f"return {table}.scrollWidth <= {table}.parentElement.clientWidth")
    browser.open(page, width=360)
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.run(CONTRAST) >= 4.5
    assert browser.console() == []
    assert browser.requests() == [page.as_uri()]
