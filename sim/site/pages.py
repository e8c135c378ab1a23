"""The pages of the site that stand as text in the checkout already, and the gallery."""

import re
import shutil
import struct
from pathlib import Path

from sim.explore.page import page as explorer
from sim.figures.gallery import ordered

TEXTS = {
    "README.md": "index.md",
    "theory/README.md": "theory.md",
    "figures/CLAIMS.md": "figures/CLAIMS.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "CITATION.cff": "CITATION.cff",
    "sim/bench/README.md": "speed.md",
}
"""Place in the site of each text of the checkout. Relative links between them stay valid."""

LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s#]+)")
"""The target of a link or picture that is a file."""

DISPLAYED = re.compile(r"\n*^(\$\$.+?\$\$)$\n*", re.M | re.S)
"""A formula on lines of its own."""

EXPLORE = """\
# Explorer

Sliders for λ, κ, rank over facts, the number of adapters, margin and swing: the verdict, the phase diagram
with your setting in it, and the Python that gives the same numbers. [Open it alone](figures/explorer.html).

<iframe src="figures/explorer.html" title="explorer" class="explorer"></iframe>
"""

LOOK = """\
.md-grid { max-width: 75rem }
.md-typeset table:not([class]) { font-size: .65rem }
.explorer { width: 100%; height: 64em; border: 1px solid #ccc }
.jp-Notebook img, .jp-RenderedImage img { max-width: 100% }
"""

MATH = """\
window.MathJax = {
  tex2jax: {
    inlineMath: [["\\\\(", "\\\\)"], ["$", "$"]], displayMath: [["\\\\[", "\\\\]"], ["$$", "$$"]],
    skipTags: ["script", "noscript", "style", "textarea", "pre", "code"],
  },
  jax: ["input/TeX", "output/HTML-CSS"],
  "HTML-CSS": { availableFonts: [], imageFont: null, webFont: "STIX-Web", mtextFontInherit: true },
  showMathMenu: false, messageStyle: "none",
};
"""

WORKER = """\
// Browsers start no Worker from disk: the search's then runs in a hidden frame, which talks by events.
if (location.protocol === "file:") window.Worker = class extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe"), waiting = [];
    frame.hidden = true;
    document.body.append(frame);
    const inside = frame.contentWindow, script = inside.document.createElement("script");
    inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
    this.postMessage = data => waiting.push(data);
    script.addEventListener("load", () => {
      this.postMessage = data => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      waiting.forEach(data => this.postMessage(data));
    });
    script.src = url;
    inside.document.head.append(script);
  }
};
"""


def gather(root: Path, docs: Path) -> None:
    """Write the texts, the gallery, the explorer and what they show into ``docs``.

    Raises:
        ValueError: a text links to a file that the site does not have.
    """
    for source, place in TEXTS.items():
        _write(docs / place, page(root, source))
    for picture in sorted((root / "figures").iterdir()):
        if picture.suffix in (".png", ".pdf", ".svg"):
            _copy(picture, docs / "figures" / picture.name)
    _write(docs / "figures" / "index.md", gallery(root / "figures"))
    _write(docs / "explore.md", EXPLORE)
    _write(docs / "figures" / "explorer.html", explorer())
    _write(docs / "assets" / "site.css", LOOK)
    _write(docs / "assets" / "mathjax-setting.js", MATH)
    _write(docs / "assets" / "iframe-worker.js", WORKER)


def page(root: Path, source: str) -> str:
    """A text as the site has it: links as seen from its place there, displayed formulas as paragraphs."""
    text = (root / source).read_text(encoding="utf-8")
    text = LINK.sub(lambda link: _moved(root, source, link[1]), text)
    return DISPLAYED.sub(lambda formula: f"\n\n{formula[1]}\n\n", text)


def gallery(folder: Path) -> str:
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
            shown = f"[![{item.claim}]({item.name}.png){{ width={width} }}]({item.name}.pdf)"
            parts.append(f"## {item.name.replace('_', ' ')}\n\n{shown}\n\n{caption}")
    return "\n\n".join(parts) + "\n"


def _moved(root: Path, source: str, target: str) -> str:
    """The target of a link, as seen from where its page stands in the site."""
    path = (root / source).parent / target
    if not path.exists():
        raise ValueError(f"{source} links to {target}, which is not there")
    inside = path.resolve().relative_to(root.resolve()).as_posix()
    inside = TEXTS.get(inside, inside)
    if inside.startswith("notebooks/") or inside in TEXTS.values() or inside.startswith("figures/"):
        up = "../" * (len(Path(TEXTS[source]).parts) - 1)
        return up + inside
    raise ValueError(f"{source} links to {target}, which the site does not have")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
