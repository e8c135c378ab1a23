"""The registry of figures: where the numbers come from, and how they are drawn, kept apart.

A figure is a ``collect`` function (numbers, from theory, twins or committed runs) and a ``draw`` function
(a picture, from that table alone). Declaring both in one place is all it takes: the command, its list
and the tests read the registry.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure as Picture


@dataclass(frozen=True)
class Figure:
    """One figure of the paper.

    claim:   what a reader should see, one sentence; opens the caption.
    setting: sizes and seeds, for the caption.
    section: section of theory/README.md, or the experiment of ``sim.grid`` it draws.
    collect: profile ("quick" or "paper") -> table; every number of the picture is in it.
    draw:    table -> picture.
    """

    name: str
    claim: str
    setting: str
    section: str
    collect: Callable[[str], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Picture]


FIGURES: dict[str, Figure] = {}


def figure(claim: str, setting: str, section: str, collect: Callable[[str], pd.DataFrame]):
    """Register a ``draw`` function under its own name, together with what it draws."""

    def register(draw: Callable[[pd.DataFrame], Picture]) -> Callable[[pd.DataFrame], Picture]:
        name = draw.__name__
        FIGURES[name] = Figure(name, claim, setting, section, collect, draw)
        return draw

    return register
