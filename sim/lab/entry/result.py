"""Results that print their verdict and, in a notebook, draw themselves."""

import abc
import base64
import io
from collections.abc import Sequence
from html import escape

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from sim.lab import style

DIGITS = "{:.3f}".format


class Result(abc.ABC):
    """The result of a command: a verdict in a few lines, a short table and a figure."""

    @property
    @abc.abstractmethod
    def verdict(self) -> Sequence[str]:
        """The result in sentences, the most important first."""

    @abc.abstractmethod
    def table(self) -> pd.DataFrame:
        """The numbers behind it, short enough to read."""

    @abc.abstractmethod
    def figure(self) -> Figure:
        """The same drawn."""

    def __repr__(self) -> str:
        return "\n".join(self.verdict)

    def __str__(self) -> str:
        return f"{self!r}\n\n{self.table().to_string(float_format=DIGITS, na_rep='-')}"

    def _repr_html_(self) -> str:
        """Verdict, figure and table, as a notebook shows them."""
        picture = base64.b64encode(png(self.figure())).decode()
        return (
            "".join(f"<p>{escape(line)}</p>" for line in self.verdict)
            + f'<img alt="figure" style="max-width: 100%" width="560" src="data:image/png;base64,{picture}">'
            + self.table().to_html(border=0, na_rep="-", float_format=DIGITS)
        )

    def _repr_png_(self) -> bytes:
        return png(self.figure())


def png(drawn: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(style.settings()):
        drawn.savefig(buffer, format="png")
    return buffer.getvalue()
