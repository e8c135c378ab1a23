"""The palette, held to what a print in grey and a reader without green receptors see."""

import itertools

import matplotlib
import numpy as np
import pytest

from sim.lab import style
from sim.merge import looks

DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
"""Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB."""

XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Of linear sRGB, white D65."""


def linear(colour):
    value = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def cielab(rgb):
    """(L*, a*, b*) of linear RGB."""
    part = XYZ @ rgb / XYZ.sum(1)
    x, y, z = np.where(part > 216 / 24389, np.cbrt(part), (24389 / 27 * part + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def lightness(colour):
    return cielab(linear(colour))[0]


def difference(one, other):
    """Distance of two colours as a deuteranope sees them."""
    seen = [cielab(np.clip(DEUTERANOPIA @ linear(colour), 0, 1)) for colour in (one, other)]
    return np.linalg.norm(seen[0] - seen[1])


def test_the_distance_knows_what_is_known():
    assert cielab(linear("white")) == pytest.approx([100, 0, 0], abs=0.05)
    assert cielab(linear("#FF0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    red, green = "#B45000", "#7D6E00"  # told apart by hue alone
    normal = np.linalg.norm(cielab(linear(red)) - cielab(linear(green)))
    assert difference(red, green) < 0.6 * normal and difference("white", "black") == pytest.approx(
        100, abs=0.1
    )


def test_neighbours_of_the_palette_differ_in_grey_and_under_deuteranopia():
    for one, other in itertools.pairwise(style.COLOURS):
        assert abs(lightness(one) - lightness(other)) >= 15, (one, other)
        assert difference(one, other) >= 35, (one, other)


def test_no_two_colours_of_the_palette_are_the_same_under_deuteranopia():
    assert min(difference(*pair) for pair in itertools.combinations(style.COLOURS, 2)) >= 15


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_levels_grow_lighter_and_stay_apart(count):
    colours = [look.colour for look in style.levels(count)]
    for one, other in itertools.pairwise(colours):
        assert lightness(other) - lightness(one) >= 10 and difference(one, other) >= 20
    assert len({look.marker for look in style.levels(count)}) == count


def test_every_colour_stands_out_from_paper():
    drawn = [*style.COLOURS, *(look.colour for look in style.levels(5))]
    assert max(map(lightness, drawn)) <= 80


def test_a_method_has_one_look_and_one_name():
    shown = [looks.look_of(method) for method in looks.ORDER]
    assert len({look.colour for look in shown}) == len({look.marker for look in shown}) == len(shown)
    names = [looks.spelled(method) for method in looks.ORDER]
    in_rows = {"logits_sum", "logits_average"}  # the board sets them in rows: no colour of their own
    assert len(set(names)) == len(names) and set(looks.SPELLED) - in_rows <= set(looks.ORDER)
    assert looks.spelled("lambda=0.75") == "λ = ¾" and looks.spelled("sum", "bridge") == "+ bridge, sum"
    assert (
        looks.spelled("hop1", "single") == "hop1 alone"
        and looks.spelled("joint", "single") == "joint adapter"
    )
    with pytest.raises(ValueError, match="alchemy"):
        looks.look_of("alchemy")


@pytest.mark.parametrize(
    "methods", [("joint", "oracle", "sum", "average", "arrow"), ("joint", "sum", "lambda=0.75", "average")]
)
def test_methods_that_stand_in_one_legend_differ_in_grey_and_under_deuteranopia(methods):
    for pair in itertools.combinations([looks.look_of(method).colour for method in methods], 2):
        assert difference(*pair) >= 25 and abs(lightness(pair[0]) - lightness(pair[1])) >= 8
