"""The page of a run: what it says, that nothing in it is markup, and how a real browser shows it."""

import re

import jinja2
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
    keys = pd.MultiIndex.from_tuples(
        [(f"set<{i // 5}>", f"model {i}") for i in range(10)], names=["set", "model"]
    )
    values = {
        ("score", "measured"): [f"0.{i} [0, 1]" for i in (3, 1, 4, 8, 5, 9, 2, 6, 7, 0)],
        ("", "seeds"): 3,
    }
    values[("", "note")] = ["x", ""] * 5
    grouped = pd.DataFrame(values, index=keys)
    sections = {"Table": table, "Wide": pd.DataFrame(np.eye(80)), "Lines": ["a & b", "<i>c</i>"]}
    sections["Grouped"] = grouped
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
    assert text.count("<script") == 1 and not re.search(r"innerHTML|fetch|import|eval", text)
    for markup in ("<b>", "<i>", "<A>", "<line>", "<0>"):
        assert markup not in text
    order = [
        text.index(words) for words in ("careful", "first &lt;line&gt;", "A caption", "<h2>Table", "Manifest")
    ]
    assert order == sorted(order)
    assert "<td>0.500</td>" in text and "<td>-</td>" in text


def test_names_of_rows_are_shown_whether_they_have_a_title_or_not():
    for title in (None, "number"):
        rows = pd.DataFrame({"value": [1.0, None]}, index=pd.Index(["cosine", "norm"], name=title))
        text = report.page("t", [], {}, {"Table": rows}, {})
        assert f"<th>{title or ''}</th><th>value</th>" in text
        assert "<td>cosine</td><td>1.000</td>" in text and "<td>norm</td><td>-</td>" in text
    assert "<th>value</th>" in (bare := report.page("t", [], {}, {"Table": pd.DataFrame({"value": [1]})}, {}))
    assert "<td>0</td>" not in bare


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
    assert seen["rows"] == [2, 80, 6] and seen["cell"] == "<b>bold</b>"
    assert seen["fits"]  # wide tables scroll, the page does not
    assert seen["manifest"] == [4]


USED = """
const table = [...document.querySelectorAll("table")].at(-1), heads = table.tHead.rows[1].cells;
const column = place => [...table.tBodies].map(body =>
  [...body.rows].slice(1).filter(row => row.checkVisibility()).map(row => row.cells[place].textContent));
const click = (place, show) => { heads[place].click(); return column(show); };
const type = words => { box.value = words; box.dispatchEvent(new Event("input")); return column(0); };
const box = table.parentElement.previousElementSibling;
return {
  boxes: document.querySelectorAll("input").length,
  spans: [...table.tHead.rows[0].cells].map(head => [head.textContent, head.colSpan]),
  groups: [...table.tBodies].map(body => body.rows[0].textContent),
  before: column(1), down: click(1, 1), up: click(1, 1),
  word: click(0, 0), back: click(0, 0), empty: click(3, 3), still: click(3, 3),
  one: type("model 7"), both: type("<1> 0.9"), none: type("zzz"), all: type(""),
  letters: parseFloat(getComputedStyle(table).fontSize),
  first: table.tBodies[0].rows[1].cells[0].getBoundingClientRect().width,
};"""


@needs_browser
@pytest.mark.parametrize("width", [1280, 480])
def test_tables_are_grouped_sorted_and_filtered(page, tmp_path, width):
    """Numbers come with the largest first, words with the first; a second click turns it round."""
    seen = run_script(page, USED, tmp_path, width)
    assert seen["boxes"] == 2  # none over the table of two rows
    assert seen["spans"] == [["model", 1], ["score", 1], ["", 2]] and seen["groups"] == ["set<0>", "set<1>"]
    scores = [[f"0.{i} [0, 1]" for i in group] for group in ((3, 1, 4, 8, 5), (9, 2, 6, 7, 0))]
    assert seen["before"] == scores
    assert seen["up"] == [sorted(group) for group in scores]
    assert seen["down"] == [sorted(group, reverse=True) for group in scores]
    models = [[f"model {i}" for i in range(start, start + 5)] for start in (0, 5)]
    assert seen["word"] == models and seen["back"] == [group[::-1] for group in models]
    assert seen["empty"] == seen["still"] == [["x"] * 3 + [""] * 2, ["x"] * 2 + [""] * 3]  # last, either way
    assert list(map(sorted, seen["one"])) == [[], ["model 7", "model 8"]] and seen["both"] == [
        [],
        ["model 5"],
    ]
    assert seen["none"] == [[], []] and sum(map(len, seen["all"])) == 10
    assert seen["letters"] >= 13 and seen["first"] >= 60


def test_a_markdown_template_has_lines_that_go_on_and_nothing_undefined(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# {{ title }}\n\n* one\n  and more\n{% if rows %}\n{{ rows }}\n{% endif %}\nend\n")
    page = report.markdown(path, title="<A>", rows=["| a |", "  b"])
    assert page == "# <A>\n\n* one and more\n| a |\n  b\nend\n"
    assert report.markdown(path, title="A", rows=[]) == "# A\n\n* one and more\nend\n"
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        report.markdown(path, title="A")
