"""``python -m sim.site``: build the site from a checkout, warnings as errors. It needs the extra ``docs``."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sim.lab import cli, files
from sim.site import api, pages

ROOT = Path(__file__).resolve().parents[2]

NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter", "jupyter_server_mathjax", "nbclient")


@dataclass(frozen=True)
class Site:
    """Build the site: theory, figures, notebooks with their outputs, and the API."""

    out: Path = ROOT / "build" / "site"
    """Folder of the site, made anew. Open its index.html; no server is needed."""
    execute: bool = True
    """Run the notebooks, some minutes; without it they are shown as they are, without outputs."""


def main(args: Site) -> None:
    """Gather the pages, run the notebooks, build. Raises what ``cli.run_command`` turns into one line."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed; pip install -e '.[docs]'")
    if not (ROOT / "mkdocs.yml").exists():
        raise ValueError("the site is built from a checkout of the repository, not from an installed package")
    work = ROOT / "build"
    docs = work / "docs"
    shutil.rmtree(docs, ignore_errors=True)
    pages.gather(ROOT, docs)
    _mathjax(docs / "assets" / "mathjax")
    configuration = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": str(docs),
        "plugins": {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT)]}}}},
        "nav": navigation(_notebooks(docs / "notebooks", args.execute), api.write(ROOT, docs)),
    }
    place = work / "mkdocs.yml"  # JSON is YAML
    files.write_text(place, json.dumps(configuration, indent=1))
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "-f",
        place,
        "-d",
        args.out.resolve(),
    ]
    # Without the theme's advertisement of its successor.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    if subprocess.run([str(word) for word in words], cwd=ROOT, env=environment).returncode:
        raise ValueError("mkdocs found the faults above")
    print(f"open {args.out / 'index.html'} in a browser")


def navigation(
    notebooks: list[dict[str, str]], reference: list[dict[str, object]]
) -> list[dict[str, object]]:
    """The tabs of the site."""
    figures = [{"Claims": "figures/CLAIMS.md"}, {"Gallery": "figures/index.md"}]
    more = [{"Contributing": "contributing.md"}, {"Changes": "changes.md"}, {"Speed": "speed.md"}]
    return [
        {"Start": "index.md"},
        {"Theory": "theory.md"},
        {"Figures": figures},
        {"Explorer": "explore.md"},
        {"Notebooks": notebooks},
        {"API": reference},
        {"More": more},
    ]


def _notebooks(folder: Path, execute: bool) -> list[dict[str, str]]:
    """Copies of the notebooks, run or not, and their part of the navigation."""
    folder.mkdir(parents=True)
    entries = []
    with tqdm(sorted((ROOT / "notebooks").glob("*.ipynb")), unit="notebook", disable=not execute) as bar:
        for path in bar:
            bar.set_postfix_str(path.stem)
            if execute:
                import nbformat

                from sim.site._notebooks import executed, still

                nbformat.write(still(executed(path)), folder / path.name)
            else:
                shutil.copyfile(path, folder / path.name)
            title = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0]
            entries.append({title.strip("# \n"): f"notebooks/{path.name}"})
    return entries


def _mathjax(folder: Path) -> None:
    """MathJax as a package ships it, so that formulas need no network; its menus' translations left out."""
    package = Path(importlib.util.find_spec("jupyter_server_mathjax").origin).parent
    shutil.copytree(package / "static", folder, ignore=shutil.ignore_patterns("localization"))


if __name__ == "__main__":
    cli.run_command(Site, main, "sim.site")
