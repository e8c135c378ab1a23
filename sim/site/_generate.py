"""The pages of the site that are made from the checkout, for mkdocs' plugin gen-files (``mkdocs build``).

Texts are those of the checkout, with their links as seen from their place in the site. Gallery, API reference
and navigation are written here. Notebooks and the commands of the questions are run, unless the environment
says EXECUTE=no: then notebooks have no outputs, and there is no page of questions.
"""

import ast
import importlib.util
import os
import re
import struct
import tempfile
import tomllib
from pathlib import Path

import mkdocs_gen_files
import nbformat
from tqdm import tqdm

from sim.explore.page import page as explorer
from sim.figures.gallery import ordered
from sim.hf.extra import installed, with_extra
from sim.site import _merges
from sim.site._notebooks import executed, still

ROOT = Path(__file__).resolve().parents[2]

TEXTS = {
    "README.md": "index.md",
    "theory/README.md": "theory.md",
    "figures/CLAIMS.md": "figures/CLAIMS.md",
    "figures/GUIDE.md": "figures/GUIDE.md",
    "figures/BOARD.md": "figures/BOARD.md",
    "figures/EXCEPTIONS.md": "figures/EXCEPTIONS.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "CITATION.cff": "CITATION.cff",
    "sim/sweep/README.md": "output.md",
    "sim/bench/README.md": "speed.md",
}
"""Place in the site of each text of the checkout. Relative links between them stay valid."""

NAVIGATION = """\
* [Start](index.md)
{questions}* [Theory](theory.md)
* Figures
    * [Claims](figures/CLAIMS.md)
    * [What does not hold](figures/EXCEPTIONS.md)
    * [Ten rules for data](figures/GUIDE.md)
    * [Merge, route or retrain](figures/BOARD.md)
    * [Gallery](figures/index.md)
{merges}* [Explorer](explore.md)
* Notebooks
{notebooks}
* API
{reference}
* More
    * [Reading the output](output.md)
    * [Contributing](contributing.md)
    * [Changes](changes.md)
    * [Speed](speed.md)
"""

LAUNCHERS = {
    "Run on Binder": "https://mybinder.org/v2/gh/{project}/HEAD?labpath=notebooks/{name}",
    "Open in Colab": "https://colab.research.google.com/github/{project}/blob/HEAD/notebooks/{name}",
}
"""Services that run a notebook of a public repository on GitHub."""

LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s#]+)")
"""The target of a link or picture that is a file."""

DISPLAYED = re.compile(r"\n*^(\$\$.+?\$\$)$\n*", re.M | re.S)
"""A formula on lines of its own."""


def text(source: str, root: Path = ROOT) -> str:
    """A text as the site has it: links as seen from its place there, displayed formulas as paragraphs.

    Raises:
        ValueError: it links to a file that the site does not have.
    """

    def move(link: re.Match) -> str:
        path = (root / source).parent / link[1]
        if not path.exists():
            raise ValueError(f"{source} links to {link[1]}, which is not there")
        inside = path.resolve().relative_to(root.resolve()).as_posix()
        inside = TEXTS.get(inside, inside)
        if not inside.startswith(("notebooks/", "figures/")) and inside not in TEXTS.values():
            raise ValueError(f"{source} links to {link[1]}, which the site does not have")
        return "../" * (len(Path(TEXTS[source]).parts) - 1) + inside

    content = LINK.sub(move, (root / source).read_text(encoding="utf-8"))
    return DISPLAYED.sub(lambda formula: f"\n\n{formula[1]}\n\n", content)


def gallery(folder: Path = ROOT / "figures") -> str:
    """Every figure with its caption, laws first."""
    parts = [
        "# Gallery",
        "Each figure is drawn from a table beside it; the command under it makes both anew.",
    ]
    for item in ordered():
        picture = folder / f"{item.name}.png"
        if picture.exists():
            caption = picture.with_suffix(".md").read_text(encoding="utf-8").strip()
            width = (
                struct.unpack(">I", picture.read_bytes()[16:20])[0] * 2 // 3
            )  # a bit above its size in print
            shown = f"![{item.claim}]({item.name}.png){{ width={width} }}"
            links = f"[PDF]({item.name}.pdf)"
            parts.append(f"## {item.name.replace('_', ' ')}\n\n{shown}\n\n{caption}\n\n{links}")
    return "\n\n".join(parts) + "\n"


def reference(root: Path = ROOT) -> dict[str, str]:
    """{room: its page}, theory first, then sim's: each public module, whose docstrings mkdocstrings reads."""
    rooms = ["theory", *sorted(f"sim/{path.parent.name}" for path in (root / "sim").glob("*/__init__.py"))]
    pages = {}
    for room in rooms:
        modules = [path for path in sorted((root / room).rglob("*.py")) if _is_shown(path)]
        parts = [path.relative_to(root).with_suffix("").parts for path in modules]
        names = [".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts]
        room = room.replace("/", ".")
        pages[room] = "\n".join([f"# {room}", *(f"\n::: {name}" for name in names)]) + "\n"
    return pages


def _is_shown(path: Path) -> bool:
    """Whether a module is public and has a docstring."""
    if path.name.startswith("_") and path.name not in ("__init__.py", "__main__.py"):
        return False
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is not None


def numbered(folder: Path = ROOT / "notebooks") -> list[Path]:
    """The notebooks in their order: the tenth after the ninth."""
    return sorted(folder.glob("*.ipynb"), key=lambda path: int(path.stem.partition("_")[0]))


def launch(name: str, repository: str | None) -> str:
    """Links to a notebook's file and, of a public repository on GitHub, to machines that run it."""
    links = [f'<a href="{name}" download>Download this notebook</a>']
    if repository:
        project = repository.rstrip("/").removesuffix(".git").removeprefix("https://github.com/")
        for label, address in LAUNCHERS.items():
            links.append(f'<a href="{address.format(project=project, name=name)}">{label}</a>')
    return " · ".join(links)


def public_repository(root: Path = ROOT) -> str | None:
    """The address that pyproject.toml gives as the project's ``Repository``, if any."""
    with (root / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"].get("urls", {}).get("Repository")


def write(place: str, content: str | bytes) -> None:
    """A file of the site."""
    with mkdocs_gen_files.open(place, "wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def generate() -> None:
    """Write all of it."""
    for source, place in TEXTS.items():
        write(place, text(source))
    for path in sorted((ROOT / "figures").iterdir()):
        if path.suffix in (".png", ".pdf", ".svg"):
            write(f"figures/{path.name}", path.read_bytes())
    write("figures/index.md", gallery())
    merges = _merges.page()
    if merges:
        write("figures/merges.md", merges)
    write("figures/explorer.html", explorer())
    run = os.environ.get("EXECUTE", "yes") != "no"
    if run and installed():
        questions = with_extra("sim.site.questions._answers")
        with tempfile.TemporaryDirectory() as folder:
            write("questions.md", questions.page(questions.answers(Path(folder))))
    # MathJax as a package ships it, so that formulas need no network; its menus' translations left out.
    mathjax = Path(importlib.util.find_spec("jupyter_server_mathjax").origin).parent / "static"
    for path in mathjax.rglob("*"):
        if path.is_file() and "localization" not in path.parts:
            write(f"assets/mathjax/{path.relative_to(mathjax).as_posix()}", path.read_bytes())
    notebooks, repository = [], public_repository()
    for path in tqdm(numbered(), unit="notebook", disable=not run):
        notebook = still(executed(path)) if run else nbformat.read(path, as_version=4)
        title, _, rest = notebook.cells[0].source.partition("\n")
        title = title.strip("# ")
        notebook.cells[0].source = f"# {title}\n\n{launch(path.name, repository)}\n{rest}"
        write(f"notebooks/{path.name}", nbformat.writes(notebook))
        notebooks.append(f"    * [{title}](notebooks/{path.name})")
    pages = reference()
    for room, content in pages.items():
        write(f"api/{room}.md", content)
    api = [f"    * [{room}](api/{room}.md)" for room in pages]
    navigation = NAVIGATION.format(
        questions="* [What people ask](questions.md)\n" if run and installed() else "",
        merges="    * [Predicted and measured](figures/merges.md)\n" if merges else "",
        notebooks="\n".join(notebooks),
        reference="\n".join(api),
    )
    write("SUMMARY.md", navigation)


if __name__ == "<run_path>":  # as the plugin runs it
    generate()
