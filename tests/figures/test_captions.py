"""Captions for LaTeX: symbols as formulas, a label, nothing of this project; and serif letters."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import font_manager
from pictures import Measured, check

from sim.figures import FIGURES, __main__, captions
from sim.lab import style
from sim.lab.figure import Figure, committed

DRAWN = [name for name in FIGURES if (committed() / f"{name}.csv").exists()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("95% of A_B & #1 {x}", r"95\% of A\_B \& \#1 \{x\}"),
        ("2λκρ = 1", r"2$\lambda\kappa\rho$ = 1"),
        ("½ < λ ≤ 1", r"$\frac12$ $<$ $\lambda$ $\leq$ 1"),
        ("|A₀| = √2, d²", r"$|$A$_0|$ = $\surd$2, d$^2$"),
        ('said "so" and "no"', "said ``so'' and ``no''"),
        ("a\\b ~ 5$", r"a\textbackslash{}b \textasciitilde{} 5\$"),
        ("m → ∞, F ≫ d", r"m $\to$ $\infty$, F $\gg$ d"),
    ],
)
def test_a_text_is_escaped_for_latex(text, expected):
    assert captions.escaped(text) == expected


def test_a_caption_has_claim_panels_methods_seeds_and_a_label():
    table = pd.DataFrame(
        {"measured": [0.5, np.nan], "low": [0.4, np.nan], "high": [0.6, np.nan], "seeds": [3, 9]}
    )
    panels, setting = ("Left 5%.", "Right."), "Sizes (section 12, 2f). As (twice) shown."
    item = Figure("a_b", "It λ.", panels, setting, "section 3", lambda source: table, lambda rows: None, ())
    assert captions.tex(item, table) == (
        "\\caption{\\textbf{It $\\lambda$.} (a) Left 5\\%. (b) Right. Sizes. As (twice) shown. "
        "Bars: 95\\% intervals. 3 seeds a point.}\n\\label{fig:a_b}\n"
    )


@pytest.mark.parametrize("name", DRAWN)
def test_the_committed_captions_are_written_by_the_script_and_free_of_internals(name):
    text = (committed() / f"{name}.tex").read_text()
    assert text == captions.tex(FIGURES[name], pd.read_csv(committed() / f"{name}.csv"))
    assert text.isascii() and text.endswith(f"\\label{{fig:{name}}}\n")
    assert not re.search(r"python|profile|section \d|README|CLAIMS|(?<!`)`(?!`)|\*\*|sim\.", text)
    assert not re.search(r"(?<!\\)[%&#]", text) and text.count("$") % 2 == 0
    bare = re.sub(r"\\[{}\\]", "", text)
    depth = np.cumsum([{"{": 1, "}": -1}.get(character, 0) for character in bare])
    assert depth.min() >= 0 and depth[-1] == 0


def fonts(layout):
    return {font_manager.get_font(font_manager.findfont(text.get_fontproperties())).family_name
            for text in layout.texts()}  # fmt: skip


def test_serif_letters_are_on_request(tmp_path, monkeypatch):
    def picture():
        return FIGURES["rank"].draw(pd.read_csv(committed() / "rank.csv"))

    with style.on(style.Page(serif=True)):
        assert fonts(Measured(picture())) == {"STIXGeneral"}
    assert fonts(Measured(picture())) == {"DejaVu Sans"}
    pages = []
    monkeypatch.setattr(__main__.gallery, "draw_all", lambda *_: pages.append(style._PAGES[-1]))
    __main__.main(__main__.Draw(("rank",), out=tmp_path, serif=True, preset="neurips", font=9.0))
    __main__.main(__main__.Draw(("rank",), out=tmp_path))
    assert pages == [style.Page(3.1, 5.5, 9.0, True), style.Page()]


@pytest.mark.slow
@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("name", DRAWN)
def test_nothing_overlaps_in_serif_letters_and_every_sign_is_there(name):
    with style.on(style.Page(serif=True)):
        assert check(Measured(FIGURES[name].draw(pd.read_csv(committed() / f"{name}.csv")))) == []
