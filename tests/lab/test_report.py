"""The page of a run: what it says, that nothing in it is markup, and how a real browser shows it."""

import re

import numpy as np
import pandas as pd
import pytest
from browser import needs_browser, run_script

from sim.lab import report, style

NAN = float("nan")


@style.styled
def picture():
    drawn, axes = style.figure()
    axes.plot([0, 1], [0, 1])
    axes.set(xlabel="predicted", ylabel="measured")
    return drawn


@pytest.fixture
def page(tmp_path):
    table = pd.DataFrame({"model": ["sum", "<b>bold</b>"], "measured": [0.5, NAN]})
    sections = {"Table": table, "Wide": pd.DataFrame(np.eye(80)), "Lines": ["a & b", "<i>c</i>"]}
    manifest = {"command": "python -m sim.x '<A>'", "commit": "abc", "config": {"rank": [4]}}
    verdict = ["first <line>", "second"]
    return report.write(
        tmp_path, "A title", verdict, {"A caption": picture()}, sections, manifest, ["careful"]
    )


@pytest.mark.parametrize(
    ("three", "text"),
    [
        ((0.8125, 0.716, 0.8496), "0.81 [0.72, 0.85]"),
        ((0.5, NAN, NAN), "0.50"),
        ((NAN, NAN, NAN), ""),
    ],
)
def test_a_cell(three, text):
    assert report.cell(*three) == text


def test_the_page_is_one_file_of_escaped_text(page):
    text = page.read_text()
    assert page.name == "report.html"
    assert re.findall(r'(?:src|href)="([^"]{19})', text) == ["data:image/svg+xml;"] and "http" not in text
    assert "<script" not in text
    for markup in ("<b>", "<i>", "<A>", "<line>"):
        assert markup not in text
    order = [
        text.index(words) for words in ("careful", "first &lt;line&gt;", "A caption", "<h2>Table", "Manifest")
    ]
    assert order == sorted(order)
    assert "<td>0.500</td>" in text and "<td>-</td>" in text


def test_equal_runs_give_equal_pages(page):
    before = page.read_bytes()
    again = report.page("t", [], {"A caption": picture()}, {}, {})
    assert again == report.page("t", [], {"A caption": picture()}, {}, {})
    assert again.split("base64,")[1].split('"')[0].encode() in before


SEEN = """
const figure = document.querySelector("figure img"), tables = [...document.querySelectorAll("table")];
return {
  title: document.title,
  verdict: [...document.querySelectorAll(".verdict p")].map(line => line.textContent),
  picture: figure.naturalWidth > 0 && figure.getBoundingClientRect().width,
  rows: tables.map(table => table.tBodies[0].rows.length),
  cell: tables[0].tBodies[0].rows[1].cells[0].textContent,
  fits: document.documentElement.scrollWidth <= innerWidth,
  manifest: JSON.parse(document.querySelector("details pre").textContent).config.rank,
};"""


@needs_browser
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_it(page, tmp_path, width):
    seen = run_script(page, SEEN, tmp_path, width)
    assert seen["title"] == "A title" and seen["verdict"] == ["first <line>", "second"]
    assert 300 < seen["picture"] <= 500
    assert seen["rows"] == [2, 80] and seen["cell"] == "<b>bold</b>"
    assert seen["fits"]  # wide tables scroll, the page does not
    assert seen["manifest"] == [4]
