"""The pages in a real browser, and what they may load."""

from __future__ import annotations

import re

import pytest
from browser import browser, is_here
from running_server import running


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(served, page):
    found = served.get(page)
    assert found.status_code == 200
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", found.text)
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "Graz &lt;b&gt;" in found.text or page == "/docs"
    assert "Graz <b>" not in found.text


def test_docs_name_every_end_point(served):
    text = served.get("/docs").text
    for path in served.get("/openapi.json").json()["paths"]:
        assert path in text


FOCUS = "return document.activeElement.dataset.column"
CELLS = (
    "[...document.querySelectorAll('#answers tbody tr')].map(r => [...r.children].slice(0, 2).map(c => c.innerText))"
)


@pytest.mark.skipif(not is_here, reason="needs chromium and chromedriver")
def test_a_person_fills_in_a_row_and_sees_all_answers(of_all_columns, tmp_path):
    bundle, _ = of_all_columns
    with running(bundle, api_key="open") as (client, server), browser(tmp_path / "profile") as page:
        page.open(server.url + "/")
        unlabelled = "[...document.querySelectorAll('input,select,textarea')].filter(e => !e.labels.length).length"
        assert page.run(f"return {unlabelled}") == 0
        page.click("button[type=submit]")
        page.wait("!document.getElementById('key-part').hidden")
        page.type("#key", "open")
        page.type("[data-column=length]", "long")
        page.click("button[type=submit]")
        page.wait("document.activeElement.getAttribute('aria-invalid') === 'true'")
        assert page.run(FOCUS) == "length"
        assert "a finite number" in page.run("return document.getElementById('error').innerText")
        page.type("[data-column=length]", "0.25")
        page.run("document.querySelector('[data-column=town]').value = 'Graz <b>'")
        page.click("button[type=submit]")
        page.wait("!document.getElementById('answers').hidden")
        rows = dict(page.run(f"return {CELLS}"))
        row = page.run(
            "return Object.fromEntries([...document.querySelectorAll('[data-column]')].map(f => [f.dataset.column, f.value]))"
        )
        assert row["town"] == "Graz <b>"
        answer = client.post("/predict", json={"rows": [row]}, headers={"X-API-Key": "open"}).json()["predictions"][0]
        assert list(rows) == [task.name for task in bundle.tasks]
        assert float(rows["price"]) == pytest.approx(answer["price"]["value"], rel=1e-4)
        assert rows["ill"] == answer["ill"]["value"]
        page.screenshot(tmp_path / "page.png")
        complaints = [text for text in page.complaints() if "401" not in text and "422" not in text]
        assert not complaints
        page.open(server.url + "/docs")
        assert "/predict/file" in page.run("return document.body.innerText")
        page.screenshot(tmp_path / "docs.png")
        assert not page.complaints()
