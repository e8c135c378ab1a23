"""The experiments of the paper in miniature: which cells each one runs, one setting varied at a time.

An experiment is a function from a profile name to ``Part``s; ``@experiment`` makes the command, its help
text and the figures know it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from sim.model.transformer import ATTENTION, MLP
from sim.reuse.cell import ReuseConfig
from sim.worlds.two_hop import ENTITIES, TEMPLATES, WORDINGS, Setting, TwoHopConfig

DEFAULT = ReuseConfig(
    world=TwoHopConfig(bridges=256),
    libraries=("hop1", "hop2", "joint", "bridge", "expert"),
    methods=("average", "sum", "ties", "svd"),
)
"""The point around which settings vary: 2 layers of width 64, rank 4 on every matrix."""


SMALL = replace(DEFAULT, libraries=("hop1", "hop2", "joint"), methods=("average", "sum", "ties"))
"""The two hop adapters and the ceiling alone: for programs that must compile quickly."""


def default(profile: str) -> ReuseConfig:
    """``DEFAULT`` in the paper profile, ``SMALL`` in the quick one."""
    return DEFAULT if profile == "paper" else SMALL


@dataclass(frozen=True)
class Part:
    """Cells that share one compiled program: a configuration, and per cell a label, a setting and ranks.

    ``ranks`` gives kinds of matrices a rank of their own (0: not adapted); others have ``config.rank``.
    """

    config: ReuseConfig
    cells: tuple[tuple[str, Setting, tuple[tuple[str, int], ...]], ...]


@dataclass(frozen=True)
class Experiment:
    """A named set of parts. ``summary`` is its line in the help text."""

    name: str
    summary: str
    parts: Callable[[str], Iterator[Part]] = field(repr=False)


EXPERIMENTS: dict[str, Experiment] = {}


def experiment(function: Callable[[str], Iterator[Part]]) -> Callable[[str], Iterator[Part]]:
    """Register ``function(profile) -> parts`` under its own name, its docstring as the help line."""
    name = function.__name__
    EXPERIMENTS[name] = Experiment(name, (function.__doc__ or "").strip().split("\n")[0], function)
    return function


def _plain(config: ReuseConfig, settings: list[tuple[str, Setting]]) -> Part:
    return Part(config, tuple((label, setting, ()) for label, setting in settings))


@experiment
def familiarity(profile: str) -> Iterator[Part]:
    """Library and method against who the facts are about and where the template occurs (main figure)."""
    templates = TEMPLATES if profile == "paper" else ("none", "both")
    entities = ENTITIES if profile == "paper" else ("real", "fake")
    yield _plain(default(profile), [(f"{e}/{t}", Setting(e, t)) for e in entities for t in templates])


@experiment
def names(profile: str) -> Iterator[Part]:
    """The same with names of two tokens, where an unseen name is a new pair of known pieces."""
    entities = ENTITIES if profile == "paper" else ("real", "fake")
    config = replace(default(profile), world=replace(DEFAULT.world, name_tokens=2), layers=3)
    steps = 1200 if profile == "paper" else 600
    config = replace(config, pretraining=replace(config.pretraining, steps=steps))
    yield _plain(config, [(e, Setting(e, "both")) for e in entities])


@experiment
def bridges(profile: str) -> Iterator[Part]:
    """Dose of traces in both adapters' data: how many, worded how, on a base that knows them or not."""
    doses = (0, 4, 16, 64, 256) if profile == "paper" else (4, 64)
    wordings = WORDINGS if profile == "paper" else ("shared",)
    templates = ("data", "both") if profile == "paper" else ("both",)
    yield _plain(
        default(profile),
        [
            (f"{template}/{wording}/{dose}", Setting("real", template, wording, dose))
            for template in templates
            for wording in wordings
            for dose in doses
        ],
    )


@experiment
def exposure(profile: str) -> Iterator[Part]:
    """Familiarity as a dose on two axes: facts and traces about the names that pretraining saw."""
    facts = (0, 1, 2, 4) if profile == "paper" else (0, 4)
    traces = (0, 1, 4, 16) if profile == "paper" else (0, 16)
    yield _plain(
        default(profile),
        [
            (f"facts{f}/traces{t}", Setting("fake", "both", facts_seen=f, traces_seen=t))
            for f in facts
            for t in traces
        ],
    )


@experiment
def rank(profile: str) -> Iterator[Part]:
    """Rank 1 to 64, and LoRA on all matrices, on attention or on the MLP."""
    ranks = (1, 2, 4, 8, 16, 32, 64) if profile == "paper" else (1, 16)
    largest = max(ranks)
    everything = {f"rank{r}": dict.fromkeys(ATTENTION + MLP, r) for r in ranks}
    if profile == "paper":
        everything["attention"] = dict.fromkeys(ATTENTION, 4) | dict.fromkeys(MLP, 0)
        everything["mlp"] = dict.fromkeys(MLP, 4) | dict.fromkeys(ATTENTION, 0)
    setting = Setting("real", "both")
    yield Part(
        # No "svd": it would truncate to the largest rank, not to the cell's.
        replace(default(profile), rank=largest, methods=("average", "sum", "ties")),
        tuple((label, setting, tuple(sorted(by_kind.items()))) for label, by_kind in everything.items()),
    )


def _shaped(layers: int, width: int) -> Part:
    """The default cell at another depth or width; wide models need a smaller step: rate * width is kept."""
    rates = {
        name: replace(getattr(SMALL, name), rate=getattr(SMALL, name).rate * 64 / width)
        for name in ("pretraining", "finetuning")
    }
    config = replace(SMALL, layers=layers, width=width, hidden=4 * width, **rates)
    return _plain(config, [(f"layers{layers}/width{width}", Setting("real", "both"))])


@experiment
def depth(profile: str) -> Iterator[Part]:
    """Depth 1, 2, 4 of the decoder."""
    for layers in (1, 2, 4) if profile == "paper" else (1,):
        yield _shaped(layers, 64)


@experiment
def width(profile: str) -> Iterator[Part]:
    """Width 64, 128, 256 of the decoder."""
    for wide in (64, 128, 256) if profile == "paper" else (32,):
        yield _shaped(2, wide)


@experiment
def damage(profile: str) -> Iterator[Part]:
    """What gentler training keeps: steps 50 to 400 at one rate, retention against damage."""
    for steps in (50, 100, 200, 400) if profile == "paper" else (100,):
        schedule = replace(SMALL.finetuning, steps=steps)
        yield _plain(replace(SMALL, finetuning=schedule), [(f"steps{steps}", Setting("real", "pretraining"))])
