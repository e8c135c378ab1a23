"""The site: where its pages come from, and the built pages in a real browser."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import needs_browser, run_script

from sim.figures import FIGURES

pages = pytest.importorskip("sim.site._generate", reason="pip install -e '.[docs]'", exc_type=ImportError)

ROOT = Path(__file__).parents[2]


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
        pages.text("README.md", checkout) == "[t](theory.md) ![a](figures/a.png) [w](https://x.y) [h](#run)"
    )
    (checkout / "figures" / "CLAIMS.md").write_text("[a](a.png) [c](../CHANGELOG.md)")
    assert pages.text("figures/CLAIMS.md", checkout) == "[a](../figures/a.png) [c](../changes.md)"


@pytest.mark.parametrize(("link", "why"), [("no.md", "is not there"), ("sim/x.py", "the site does not have")])
def test_a_link_that_leads_nowhere_is_refused(checkout, link, why):
    (checkout / "sim" / "x.py").write_text("")
    (checkout / "README.md").write_text(f"[x]({link})")
    with pytest.raises(ValueError, match=f"README.md links to {link}, which {why}"):
        pages.text("README.md", checkout)


def test_a_displayed_formula_is_a_paragraph(checkout):
    (checkout / "README.md").write_text("so\n$$a=\nb$$\nand $c$, $$d$$ here")
    assert pages.text("README.md", checkout) == "so\n\n$$a=\nb$$\n\nand $c$, $$d$$ here"


def test_the_gallery_shows_every_figure_that_is_drawn():
    text = pages.gallery(ROOT / "figures")
    shown = re.findall(r"\]\((\w+)\.png\)\{ width=(\d+) \}\n.*?\[PDF\]\((\w+)\.pdf\)", text, re.S)
    assert {name for name, _, _ in shown} == {
        name for name in FIGURES if (ROOT / f"figures/{name}.png").exists()
    }
    assert all(name == other and 400 < int(width) < 1000 for name, width, other in shown)


def test_the_reference_has_a_page_a_room_and_every_public_module():
    rooms = pages.reference()
    assert next(iter(rooms)) == "theory" and {"sim.lab", "sim.merge", "sim.worlds"} <= set(rooms)
    entries = set(re.findall(r"^::: (\S+)$", "".join(rooms.values()), re.M))
    assert {"theory.coverage", "sim.lab.report", "sim.merge.methods.linear", "sim.worlds.two_hop"} <= entries
    assert not any("._" in name and not name.endswith("__main__") for name in entries)


def test_notebooks_stand_in_the_order_of_their_numbers():
    assert [int(path.stem.partition("_")[0]) for path in pages.numbered()] == list(range(1, 12))


def test_a_notebook_is_a_file_to_have_and_runs_elsewhere_if_the_project_is_public():
    name, elsewhere = "4_routing.ipynb", '<a href="https://mybinder.org/v2/gh/ab/cd/HEAD?labpath=notebooks/'
    assert pages.launch(name, None) == f'<a href="{name}" download>Download this notebook</a>'
    links = pages.launch(name, "https://github.com/ab/cd.git").split(" · ")
    assert len(links) == 3 and links[0] == pages.launch(name, None)
    assert links[1] == f'{elsewhere}{name}">Run on Binder</a>'
    assert 'github/ab/cd/blob/HEAD/notebooks/4_routing.ipynb"' in links[2]


def test_the_repository_is_that_of_the_project(tmp_path):
    for urls, address in (
        ("", None),
        ('[project.urls]\nRepository = "https://github.com/a/b"', "https://github.com/a/b"),
    ):
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{urls}')
        assert pages.public_repository(tmp_path) == address


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
document.querySelector("article a.glightbox").click();
const large = ".gslide.current img";
for (let i = 0; i < 50 && !document.querySelector(large); i++)
  await new Promise(done => setTimeout(done, 100));
return { shown: pictures.filter(one => one.naturalWidth > 0).length, all: pictures.length,
         zoomable: document.querySelectorAll("article a.glightbox img").length,
         enlarged: document.querySelector(large)?.src === pictures[0].src };
"""
NARROW = """
const code = document.querySelector(".jp-InputArea pre"), article = document.querySelector("article");
const cells = [...document.querySelectorAll(".jp-InputArea")];
return { wide: document.documentElement.scrollWidth - innerWidth,
         share: code.clientWidth / article.clientWidth,
         cut: cells.filter(cell => cell.scrollWidth > cell.clientWidth).length };
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


@needs_browser
@pytest.mark.slow(90)
def test_the_site_is_built_and_a_browser_shows_it(tmp_path):
    """Without running the notebooks: nothing comes from elsewhere, formulas are set, pictures are there."""
    out = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(out)]
    environment = {**os.environ, "EXECUTE": "no", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
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
    assert gallery["shown"] == gallery["all"] == gallery["zoomable"] >= len(FIGURES) - 3
    assert gallery["enlarged"]
    narrow = run_script(out / "notebooks" / "4_routing.html", NARROW, tmp_path, 480)
    assert narrow["wide"] <= 0 and narrow["share"] > 0.8 and narrow["cut"] == 0, narrow
    links = run_script(out / "speed.html", SEARCH, tmp_path)  # from disk, of a page with few formulas
    assert any("3_dilution_rank_template.html" in link for link in links), links
    explorer = run_script(out / "explore.html", "return frames[0] !== undefined;", tmp_path)
    assert explorer is True and "λ κ ρ Δ" in (out / "figures" / "explorer.html").read_text()
    reference = (out / "api" / "theory.html").read_text()
    assert 'id="theory.coverage.decides"' in reference
    assert {path.stem[0] for path in (out / "notebooks").glob("*.html")} >= set("123456789")
    for path in pages.numbered():
        page = (out / "notebooks" / f"{path.stem}.html").read_text()
        assert f'href="{path.name}">Download this notebook</a>' in page
        assert (out / "notebooks" / path.name).is_file()
