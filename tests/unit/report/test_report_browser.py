"""Pages in a real browser: they draw, ask for nothing, fit a phone, and can be read in both themes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chromium import Browser, found
from sample_records import NASTY, renamed, run_record, sample, staged_record

from polytask.report import write_page

pytestmark = pytest.mark.skipif(found() is None, reason="no chromium here")

TASKS = [f"assay_{index:03d}" for index in range(139)]
PAGES = {
    "study": lambda: sample(),
    "nasty": lambda: renamed(NASTY),
    "many": lambda: renamed(TASKS),
    "run": lambda: run_record(),
    "stages": lambda: staged_record(6, 2),
    "comparison": lambda: [sample(), renamed(TASKS[:12]), run_record()],
}

CONTRAST = """
(() => {
  const rgb = (text) => { const n = (text.match(/[\\d.]+/g) || []).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = (node) => { for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] > 0.99) return c; } return null; };
  const poor = new Set(); let seen = 0;
  const judge = (node, colour) => {
    const style = getComputedStyle(node), under = ground(node);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    seen += 1;
    const found = ratio(rgb(colour).slice(0, 3), under.slice(0, 3));
    if (found < (large ? 3 : 4.5)) poor.add(`${node.tagName}.${node.getAttribute("class")} ${colour} on ${under}: ${found.toFixed(2)} ${node.textContent.slice(0, 40)}`);
  };
  for (const node of document.querySelectorAll("body *:not(script):not(svg *)")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (own && node.getClientRects().length) judge(node, getComputedStyle(node).color);
  }
  for (const node of document.querySelectorAll(".xtick text, .ytick text, .legendtext, .xtitle, .ytitle")) judge(node, getComputedStyle(node).fill);
  return { seen, poor: [...poor] };
})()
"""

WIDE = """
[...document.querySelectorAll("body *")].filter((node) => !node.closest(".scroll, pre, .skip, .stack thead, svg") && node.getBoundingClientRect().right > WIDTH + 1)
  .map((node) => `${node.tagName}.${node.className}`).slice(0, 5)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    pytest.importorskip("plotly")
    folder = tmp_path_factory.mktemp("pages")
    return {name: write_page(make(), folder / f"{name}.html", charts=True) for name, make in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_draws_in_both_themes_and_on_a_phone(browser, pages, name):
    for theme, width, mobile in (("light", 1280, False), ("dark", 390, True)):
        browser.open(pages[name], width, theme=theme, mobile=mobile)
        assert browser.complaints == []
        assert browser.requests == [pages[name].resolve().as_uri()], "a page is one file"
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(WIDE.replace("WIDTH", str(width))) == []
        found = browser.run(CONTRAST)
        assert found["poor"] == []
        assert found["seen"] > 30
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 28)")


def test_tables_and_figures_are_there_and_have_a_size(browser, pages):
    browser.open(pages["study"], 1280)
    assert browser.run("document.querySelector('h1').textContent").startswith("Learning together helped 1 of 4 tasks")
    assert browser.run("document.querySelectorAll('#verdict tbody tr').length") == 4
    assert browser.run("document.querySelectorAll('#arms .matrix tbody tr').length") >= 4
    drawn = browser.run(
        "[...document.querySelectorAll('.chart')].map(b => [b.getBoundingClientRect().height, b.querySelectorAll('path.point, .js-line, .heatmaplayer image, .heatmaplayer path').length])"
    )
    assert len(drawn) == 16
    assert all(height > 150 and marks > 0 for height, marks in drawn)
    axes = browser.run(
        "[...document.querySelectorAll('#curves .chart, #answers .chart')].every(b => b.querySelector('.xtitle') && b.querySelector('.ytitle'))"
    )
    assert axes, "every axis says what it is"


def test_many_tasks_are_found_by_name_and_verdict(browser, pages):
    browser.open(pages["many"], 1280)
    rows = "[...document.querySelectorAll('#verdict tbody tr')].filter(r => r.getClientRects().length).length"
    assert browser.run(rows) == 24
    type_in = "(() => {{ const f = document.getElementById('filter'); f.value = '{}'; f.dispatchEvent(new Event('input')); }})()"
    browser.run(type_in.format("assay_13"))
    assert browser.run(rows) == 9  # 130 to 138
    assert browser.run("document.getElementById('filter-count').textContent") == "9 of 139 tasks"
    browser.run(type_in.format(""))
    browser.run("document.querySelector('#verdict button').click()")
    assert browser.run(rows) == 139
    browser.wait_for("document.querySelector('#verdict .chart svg.main-svg') !== null")
    assert browser.run("document.querySelectorAll('#verdict .chart path.point').length") == 139
    assert browser.complaints == []


def test_on_paper_it_is_white_whole_and_of_sensible_length(browser, pages, tmp_path):
    browser.open(pages["study"], 1280, theme="dark")
    paper = browser.paper()
    assert paper.startswith(b"%PDF")
    assert 2 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 20
    assert browser.complaints == []
