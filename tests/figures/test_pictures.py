"""Every figure as a picture: letters, sizes, nothing over anything, in every format and on every page."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.lines import Line2D
from pictures import Measured, check

from sim.figures import FIGURES
from sim.lab import style
from sim.lab.figure import committed
from sim.merge import looks

DRAWN = [name for name in FIGURES if (committed() / f"{name}.csv").exists()]
"""All figures but those of experiments that have no committed run (test_figures.py)."""


def picture(name):
    return FIGURES[name].draw(pd.read_csv(committed() / f"{name}.csv"))


@pytest.fixture(scope="module", params=DRAWN)
def drawn(request):
    """A figure and its picture on the default page; drawing it sets no style for others."""
    before = dict(rcParams)
    measured = Measured(picture(request.param))
    assert dict(rcParams) == before
    return FIGURES[request.param], measured


def test_nothing_overlaps(drawn):
    assert check(drawn[1]) == []


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(set(style.PAGES) - {"icml"}))
@pytest.mark.parametrize("name", DRAWN)
def test_nor_on_the_pages_of_other_journals(name, page):
    with style.on(style.PAGES[page]):
        layout = Measured(picture(name))
    wide = layout.picture.get_figwidth()
    assert wide in (style.PAGES[page].column, style.PAGES[page].text)
    assert check(layout) == []


def test_letters_are_six_points_and_more(drawn):
    small = {text.get_text(): text.get_fontsize() for text in drawn[1].texts() if text.get_fontsize() < 6}
    assert not small


def test_panels_have_letters_and_the_caption_says_what_each_shows(drawn):
    item, layout = drawn
    titles = [axes.get_title(loc="left") for axes in layout.panels]
    if len(titles) > 1:
        assert [title[:3] for title in titles] == [f"({letter})" for letter in "abcdefghi"[: len(titles)]]
        caption = (committed() / f"{item.name}.md").read_text()
        assert all(f" ({letter}) " in caption for letter in "abcdefghi"[: len(titles)])
    else:
        assert item.panels == ()


def test_a_name_has_one_look_in_all_panels_and_a_method_its_own_in_all_figures(drawn):
    own = {looks.spelled(method): looks.look_of(method) for method in looks.ORDER}
    own |= {looks.spelled(method, "single"): looks.look_of(method) for method in ("joint", "base")}
    looks_by_name = {}
    for line in [line for axes in drawn[1].panels for line in axes.lines]:
        look, name = (line.get_color(), line.get_marker(), line.get_markerfacecolor()), line.get_label()
        if not name.startswith("_"):
            assert looks_by_name.setdefault(name, look) == look, name
            if name in own:
                assert look[:2] == (own[name].colour, own[name].marker), name


def test_legends_show_markers_and_lines_without_bars(drawn):
    handles = [handle for legend in drawn[1].legends() for handle in legend.legend_handles]
    assert all(isinstance(handle, Line2D) for handle in handles)


def test_axes_of_shares_run_from_nought_to_one(drawn):
    """Where all that is drawn lies between 0 and 1 and comes near 1, no axis goes much further."""
    for axes in drawn[1].panels:
        for name in ("x", "y"):
            lines = [line for line in axes.lines if line.get_transform() == axes.transData]
            values = [np.ravel(getattr(line, f"get_{name}data")()).astype(float) for line in lines]
            values = np.concatenate(values) if values else np.zeros(1)
            values = values[np.isfinite(values)]
            linear = getattr(axes, f"get_{name}scale")() == "linear"
            if linear and values.size and 0.9 < values.max() <= 1 and values.min() >= 0:
                assert max(getattr(axes, f"get_{name}lim")()) <= 1.1, axes.get_title(loc="left")


def test_captions_have_one_bold_sentence_then_panels_then_methods(drawn):
    item, layout = drawn
    text = (committed() / f"{item.name}.md").read_text()
    assert text.startswith(f"**{item.claim}** ") and text.count("**") == 2
    areas = ("coverage_phase", "merge_forecast")  # shades and circles, no bars
    drawn_bars = any(axes.collections for axes in layout.panels) and item.name not in areas
    assert "bars" in text.lower() or "intervals" in text or not drawn_bars


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank", "coverage_phase"])
def test_every_format_is_written_and_again_the_same(name, tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        style.save(picture(name), folder / name, style.FORMATS)
    starts = {"pdf": b"%PDF", "png": b"\x89PNG", "pgf": b"%% Creator", "svg": b"<?xml"}
    for suffix, start in starts.items():
        first, second = (tmp_path / folder / f"{name}.{suffix}" for folder in ("one", "two"))
        assert first.read_bytes().startswith(start) and first.read_bytes() == second.read_bytes()
    assert "includegraphics" not in (tmp_path / "one" / f"{name}.pgf").read_text()  # no picture beside it


def test_names_longer_than_their_panel_are_broken():
    drawn, panels = style.figure(style.PAGE, 2.5, ncols=3)
    panels[0].set_xlabel("a name that is much longer than the panel it belongs to")
    panels[0].set_title("another one of that kind", loc="left")
    panels[1].set_xlabel("short")
    layout = Measured(style.fitted(style.lettered(drawn)))
    for text in (panels[0].xaxis.label, panels[0]._left_title):
        assert "\n" in text.get_text()
        assert layout.box(text).width <= 1.25 * panels[0].bbox.width
    assert panels[1].get_xlabel() == "short" and panels[2].get_title(loc="left") == "(c)"
    assert "".join(panels[0].get_xlabel().split()) == "anamethatismuchlongerthanthepanelitbelongsto"


def test_the_pages_give_widths_and_letters():
    page = style.PAGES["neurips"].of_width(8.0)
    assert page.text == 8.0 and page.column == pytest.approx(8.0 * 3.1 / 5.5)
    with style.on(style.Page(3.0, 5.0, 10.0)):
        wide, _ = style.figure(style.PAGE)
        narrow, _ = style.figure(style.COLUMN)
        assert style.settings()["font.size"] == 10.0
    assert (wide.get_figwidth(), narrow.get_figwidth()) == (5.0, 3.0)
    for wrong in ({"text": 2.0}, {"font": 6.0}):
        with pytest.raises(ValueError, match="outside"):
            style.Page(**wrong)
