"""How every way of reusing adapters is drawn and spelled: one colour, marker and name in every figure."""

from sim.lab.style import Look, look

ORDER = ("sum", "average", "arrow", "oracle", "joint", "ties", "svd", "lambda=0.75", "concat", "base")
"""A method's place is that of its colour and marker (``sim.lab.style.COLOURS``)."""

ONE_ADAPTER = look(ORDER.index("svd"))
"""One adapter alone; no figure shows it beside the SVD."""

SPELLED = {
    "arrow": "Arrow",
    "base": "base",
    "joint": "joint adapter",
    "logits_average": "logits, average",
    "logits_sum": "logits, sum",
    "oracle": "oracle router",
    "svd": "SVD",
    "ties": "TIES",
}
"""Methods whose name in the tables is not the name in a figure."""

FRACTIONS = {"0.25": "¼", "0.5": "½", "0.75": "¾"}


def look_of(method: str) -> Look:
    """The look of a method. Raises ValueError if it has none."""
    if method not in ORDER:
        raise ValueError(f"method {method!r} has no colour; put it at the end of sim.merge.looks.ORDER")
    return look(ORDER.index(method))


def spelled(method: str, library: str = "parts") -> str:
    """The name of a method, after what its library adds to the parts: "+ bridge, sum"."""
    strength = method.removeprefix("lambda=")
    if strength != method:
        name = f"λ = {FRACTIONS.get(strength, strength)}"
    elif library == "single" and method not in SPELLED:
        name = f"{method} alone"
    else:
        name = SPELLED.get(method, method)
    return name if library in ("parts", "single") else f"+ {library}, {name}"
