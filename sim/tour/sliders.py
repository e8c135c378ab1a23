"""What every notebook begins with, and sliders that teach: a picture drawn anew as they move."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from sim.lab import figure, style

Span = tuple[float, float, float, float]
"""(smallest, largest, step, start) of a slider; whole numbers give a slider of whole numbers."""


def start() -> Path:
    """House style, sharp pictures; returns the folder of the committed tables (``figure.committed``)."""
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    if shell := get_ipython():
        select_figure_formats(shell, {"retina"})
    style.use()
    return figure.committed()


def slide(draw: Callable[..., Figure], **spans: Span) -> None:
    """Show ``draw(**values)`` under a slider a value (ipywidgets, extra ``notebooks``).

    Without ipywidgets, in a page made of the notebook, or where it is run without anybody looking, it is the
    picture of the starting values: that is in the output beside the widget.
    """
    from IPython.display import display

    picture = _png(draw(**{name: span[3] for name, span in spans.items()}))
    still = {"image/png": base64.b64encode(picture).decode()}
    words = ", ".join(f"{name} = {span[3]:g}" for name, span in spans.items())
    display(still | _widget(draw, spans) | {"text/plain": f"{draw.__name__}: {words}"}, raw=True)


def _widget(draw: Callable[..., Figure], spans: dict[str, Span]) -> dict:
    """The sliders' part of the output, {} without ipywidgets."""
    try:
        import ipywidgets
    except ImportError:
        return {}
    sliders = {name: _slider(ipywidgets, name, span) for name, span in spans.items()}
    image = ipywidgets.Image(format="png")

    def show(_=None) -> None:
        image.value = _png(draw(**{name: slider.value for name, slider in sliders.items()}))

    for slider in sliders.values():
        slider.observe(show, names="value")
    show()
    box = ipywidgets.VBox([*sliders.values(), image])
    return {kind: value for kind, value in box._repr_mimebundle_().items() if kind != "text/plain"}


def _slider(ipywidgets, name: str, span: Span):
    low, high, step, start = span
    kind = ipywidgets.IntSlider if all(isinstance(value, int) for value in span) else ipywidgets.FloatSlider
    return kind(min=low, max=high, step=step, value=start, description=name, continuous_update=False)


def _png(picture: Figure) -> bytes:
    written = io.BytesIO()
    picture.savefig(written, format="png", dpi=150)
    return written.getvalue()
