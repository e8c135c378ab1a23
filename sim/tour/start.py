"""The first line of every notebook."""

from pathlib import Path

from sim.lab import figure, style


def start() -> Path:
    """House style, sharp pictures; returns the folder of the committed tables (``figure.committed``)."""
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    if shell := get_ipython():
        select_figure_formats(shell, {"retina"})
    style.use()
    return figure.committed()
