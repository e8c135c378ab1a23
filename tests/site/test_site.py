"""The site: where its pages come from, and the built pages in a real browser."""

import importlib.util
import re
from pathlib import Path

import pytest
from browser import needs_browser, run_script

from sim.figures import FIGURES
from sim.site import api, pages

ROOT = Path(__file__).parents[2]
NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter", "jupyter_server_mathjax")
WANTING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_docs = pytest.mark.skipif(
    bool(WANTING), reason=f"{', '.join(WANTING)} missing (pip install -e '.[docs]')"
)


@pytest.fixture
def checkout(tmp_path):
    """A checkout of two texts that link to each other and to a picture."""
    for name in pages.TEXTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("nothing")
    (tmp_path / "figures" / "a.png").write_text("")
    return tmp_path


def test_links_are_true_from_the_places_in_the_site(checkout):
    (checkout / "README.md").write_text(
        "[t](theory/README.md) ![a](figures/a.png) [w](https://x.y) [h](#run)"
    )
    assert (
        pages.page(checkout, "README.md") == "[t](theory.md) ![a](figures/a.png) [w](https://x.y) [h](#run)"
    )
    (checkout / "figures" / "CLAIMS.md").write_text("[a](a.png) [c](../CHANGELOG.md)")
    assert pages.page(checkout, "figures/CLAIMS.md") == "[a](../figures/a.png) [c](../changes.md)"


@pytest.mark.parametrize(("link", "why"), [("no.md", "is not there"), ("sim/x.py", "the site does not have")])
def test_a_link_that_leads_nowhere_is_refused(checkout, link, why):
    (checkout / "sim" / "x.py").write_text("")
    (checkout / "README.md").write_text(f"[x]({link})")
    with pytest.raises(ValueError, match=f"README.md links to {link}, which {why}"):
        pages.page(checkout, "README.md")


def test_a_displayed_formula_is_a_paragraph(checkout):
    (checkout / "README.md").write_text("so\n$$a=\nb$$\nand $c$, $$d$$ here")
    assert pages.page(checkout, "README.md") == "so\n\n$$a=\nb$$\n\nand $c$, $$d$$ here"


def test_the_gallery_shows_every_figure_that_is_drawn():
    text = pages.gallery(ROOT / "figures")
    shown = re.findall(r"\]\((\w+)\.png\)\{ width=(\d+) \}\]\((\w+)\.pdf\)", text)
    assert {name for name, _, _ in shown} == {
        name for name in FIGURES if (ROOT / f"figures/{name}.png").exists()
    }
    assert all(name == other and 400 < int(width) < 1000 for name, width, other in shown)


def test_the_reference_has_a_page_a_room_and_every_public_module(tmp_path):
    pages = [name for entry in api.write(ROOT, tmp_path) for name in entry]
    assert pages[0] == "theory" and {"sim.lab", "sim.merge", "sim.worlds"} <= set(pages)
    text = "".join(path.read_text() for path in (tmp_path / "api").glob("*.md"))
    entries = set(re.findall(r"^::: (\S+)$", text, re.M))
    assert {"theory.coverage", "sim.lab.report", "sim.merge.methods.linear", "sim.worlds.two_hop"} <= entries
    assert not any("._" in name and not name.endswith("__main__") for name in entries)


def test_without_the_extra_it_says_what_to_install(command, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *at: None if name in NEEDED else find_spec(name, *at)
    )
    code, out, err = command("sim.site", "--no-execute")
    assert code == 2 and out == "" and err.endswith("not installed; pip install -e '.[docs]'\n")


def test_a_widget_leaves_its_picture():
    from sim.site._notebooks import nbformat, still

    data = {"application/vnd.jupyter.widget-view+json": {}, "image/png": "x"}
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=data)])
    notebook = still(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}}))
    assert notebook.cells[0].outputs[0].data == {"image/png": "x"} and "widgets" not in notebook.metadata


FORMULAS = """
await new Promise(done => MathJax.Hub.Queue(done));
const article = document.querySelector("article"), raw = [];
const walk = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const where = walk.currentNode.parentElement;
  const apart = "code, pre, script, style, .MathJax, .MathJax_Preview, .jp-OutputArea";
  if (!where.closest(apart) && walk.currentNode.data.includes("$")) raw.push(walk.currentNode.data);
}
return { typeset: document.querySelectorAll("span.MathJax").length, raw,
         faulty: [...document.querySelectorAll(".merror, .MathJax_Error")].map(e => e.textContent),
         wide: document.documentElement.scrollWidth - innerWidth };
"""
PICTURES = """
const pictures = [...document.querySelectorAll("article img")];
return { shown: pictures.filter(one => one.naturalWidth > 0).length, all: pictures.length };
"""
SEARCH = """
const box = document.querySelector(".md-search__input"), links = ".md-search-result__link";
box.focus();
box.value = "dilution";
for (const kind of ["keyup", "input"]) box.dispatchEvent(new Event(kind, { bubbles: true }));
for (let i = 0; i < 100 && !document.querySelector(links); i++)
  await new Promise(done => setTimeout(done, 100));
return [...document.querySelectorAll(links)].map(link => link.getAttribute("href"));
"""


@needs_docs
@needs_browser
@pytest.mark.slow
def test_the_site_is_built_and_a_browser_shows_it(command, tmp_path):
    """Without running the notebooks: nothing comes from elsewhere, formulas are set, pictures are there."""
    out = tmp_path / "site"
    code, printed, err = command("sim.site", "--no-execute", "--out", out)
    assert code == 0 and f"open {out / 'index.html'}" in printed, err
    for path in out.rglob("*.html"):
        assert not re.search(
            r'<(?:script|img|iframe|link)[^>]+(?:src|href)="(?:https?:)?//', path.read_text()
        ), path
    for name, least in (("theory.html", 500), ("notebooks/3_dilution_rank_template.html", 15)):
        result = run_script(out / name, FORMULAS, tmp_path)
        assert result["typeset"] >= least and result["faulty"] == [] and result["raw"] == [], (
            name,
            result,
        )
        assert result["wide"] <= 0
    gallery = run_script(out / "figures" / "index.html", PICTURES, tmp_path)
    assert gallery["shown"] == gallery["all"] >= len(FIGURES) - 3
    links = run_script(out / "theory.html", SEARCH, tmp_path)  # from disk
    assert any("3_dilution_rank_template.html" in link for link in links), links
    explorer = run_script(out / "explore.html", "return frames[0] !== undefined;", tmp_path)
    assert explorer is True and "λ κ ρ Δ" in (out / "figures" / "explorer.html").read_text()
    reference = (out / "api" / "theory.html").read_text()
    assert 'id="theory.coverage.decides"' in reference
    assert {path.stem[0] for path in (out / "notebooks").glob("*.html")} >= set("123456789")
