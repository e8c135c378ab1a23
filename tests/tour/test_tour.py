"""What the notebooks show: curves and tables of draws, sliders with and without widgets, planted numbers."""

import base64
import sys

import jax
import numpy as np
import pandas as pd
import pytest

from sim import tour
from sim.lab import intervals, style
from sim.tour import chains, composing, inequality, one_edit, routers
from sim.tour.curves import measured
from theory import coverage, depth, selection, starvation

KEY = jax.random.key(0)
PNG = b"\x89PNG"


def test_draws_become_means_with_intervals():
    summaries = measured([[0.5], [0.1, 0.2, 0.4]])
    np.testing.assert_allclose(summaries[0], [0.5] * 3)  # one value is exact
    np.testing.assert_allclose(summaries[1], intervals.mean([0.1, 0.2, 0.4]))
    table = tour.tabulate([{"rank": 2, "law": 0.25, "draws": [0.2, 0.3, 0.25]}])
    assert list(table.columns) == ["rank", "law", "measured", "95% interval"]
    assert table["measured"][0] == 0.25 and table["95% interval"][0] == "[0.126, 0.374]"


def test_a_curve_is_its_law_and_its_points():
    one = tour.Curve("a", [0, 1], [0.0, 0.5], [1], [[0.4, 0.6, 0.5]])
    two = tour.Curve("b", [0, 1], [1.0, 1.0])
    (axes,) = tour.curves(one, two, xlabel="x", ylabel="y", ylim=(0, 2)).axes
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert [[0, 0.0], [1, 0.5]] in drawn and [[1, 0.5]] in drawn and [[0, 1.0], [1, 1.0]] in drawn
    assert axes.get_ylim() == (0, 2) and {t.get_text() for t in axes.get_legend().get_texts()} == {"a", "b"}


@pytest.fixture
def shown(monkeypatch):
    """Outputs that a notebook would get."""
    import IPython.display

    outputs = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: outputs.append(bundle))
    return outputs


def test_a_slider_is_a_still_picture_without_widgets(shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    tour.slide(one_edit.leads, lam=(0.0, 1.5, 0.05, 0.5))
    (bundle,) = shown
    assert set(bundle) == {"image/png", "text/plain"} and bundle["text/plain"] == "leads: lam = 0.5"
    assert base64.b64decode(bundle["image/png"]).startswith(PNG)


def test_a_slider_draws_anew_as_it_moves(shown):
    widgets = pytest.importorskip("ipywidgets")
    calls = []

    @style.styled
    def draw(rank, lam):
        calls.append((rank, lam))
        return one_edit.leads(lam)

    tour.slide(draw, rank=(1, 8, 1, 4), lam=(0.0, 1.5, 0.5, 0.5))
    (bundle,) = shown
    assert base64.b64decode(bundle["image/png"]).startswith(PNG)
    model = bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    from ipywidgets.widgets.widget import _instances

    box = _instances[model]
    rank, lam, image = box.children
    assert isinstance(rank, widgets.IntSlider) and isinstance(lam, widgets.FloatSlider)
    assert (rank.min, rank.max, rank.value, lam.step) == (1, 8, 4, 0.5)
    first, calls[:] = bytes(image.value), []
    lam.value = 1.0
    assert calls == [(4, 1.0)] and bytes(image.value) != first and bytes(image.value).startswith(PNG)


def line(picture, index=0):
    return picture.axes[0].lines[index].get_xydata()


def test_pictures_under_sliders_are_the_laws():
    recall = line(inequality.draw_recall(8, 16, 0.8, 1.0, 3.0))
    np.testing.assert_allclose(recall[:, 1], starvation.overwrite_recall(16, 8, recall[:, 0] * 0.8 * 3 / 2))
    critical = float(coverage.critical_lambda(1.0, 0.8 * 0.5 * 3.0))
    assert line(inequality.draw_recall(8, 16, 0.8, 1.0, 3.0), 1)[0, 0] == pytest.approx(critical)
    full = line(inequality.draw_recall(40, 16, 1.0, 1.0, 2.0))  # more rank than facts is full rank
    assert set(np.unique(full[:, 1])) == {0.0, 0.5, 1.0}
    sight = line(routers.sight(0.8, 2.0))
    np.testing.assert_allclose(sight[:, 1], selection.alignment(sight[:, 0], 2.0, 0.8))
    layers = line(chains.layers(16, 32, 0.5))
    np.testing.assert_allclose(layers[30, 1], depth.accuracy(16, 32, layers[30, 0], 0.5, True))
    np.testing.assert_allclose(line(one_edit.leads(0.5)), [[0, 1], [1.5, -0.5]])


def test_the_best_lambda_of_planted_facts():
    """Edits want more than 1/2, untouched facts less than 2/3 or nothing."""
    table = inequality.best(np.array([[1.0], [2.0]]), np.array([[1.0, 1.0], [1.5, -1.0]]), 1.2)
    assert table["accuracy"].tolist() == [1.0, 1.0]
    assert all(0.5 < lam < 2 / 3 for lam in table["best λ"])
    flips = inequality.flips([1.0, 1.0], [2.0, 4.0], KEY)
    assert flips["λ_c = M/Δ"].tolist() == [0.5, 0.25] and flips["largest library"].tolist() == [1, 3]
    np.testing.assert_allclose(flips["measured flip"], [0.5, 0.25], atol=1e-5)
    assert inequality.averages([1, 2, 3], KEY).to_numpy().tolist() == [[1, 1], [0.5, 0.5], [0, 0]]


@pytest.mark.slow
def test_two_first_hops_differ_where_the_answer_is_not_read():
    inside, measurements = composing.two_first_hops(KEY)
    assert measurements["largest difference of a bridge logit"] > 0.1
    assert measurements["largest difference of an answer logit"] == 0
    assert measurements.iloc[0] == 0 and measurements.iloc[3] == measurements.iloc[4] == 1
    assert abs(composing.strengths(inside).iloc[0] - 0.673) < 1e-3


@pytest.mark.slow
def test_every_merge_is_right_once_in_n():
    table, picture = composing.every_merge((4, 8), 2, KEY)
    np.testing.assert_allclose(table.loc[["average", "sum", "concat", "ties"], [4, 8]], [[0.25, 0.125]] * 4)
    assert table.loc["theory, 1/N"].tolist() == [0.25, 0.125, 0.0]
    assert len(picture.axes) == 1
    assert isinstance(composing.lucky((4,), 100), pd.DataFrame)
