"""The controls a referee asks for: what else could join two facts, and what cannot."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sim.experiments.common import SMALL
from sim.experiments.registry import experiment
from sim.model.training import Schedule
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part, plain
from sim.worlds import two_hop, two_hop_controls
from sim.worlds.controls import RANDOM, stand_ins
from sim.worlds.two_hop import Setting


def _with(schedule: Schedule, *batches: tuple[str, int]) -> Schedule:
    return replace(schedule, batch=schedule.batch + batches)


STAND_INS = tuple(
    name for other in ("unrelated", RANDOM) for name, _ in stand_ins(two_hop_controls.PARTS, other)
)

ALONE = replace(
    SMALL,
    world=two_hop.Config(controls=True),
    pretraining=_with(two_hop.PRETRAINING, *two_hop_controls.PRETRAINING),
    finetuning=_with(two_hop.FINETUNING, *two_hop_controls.FINETUNING),
    methods=("average", "sum"),
    lambdas=(),
    oracle=False,
    losses=True,
)
"""The two hop adapters and the joint one, in a world with controls."""

ALL = replace(ALONE, extras=("direct_expert", *STAND_INS, "compared"))


def unlinked(config: ReuseConfig) -> ReuseConfig:
    """The same with a base that saw one-hop facts, comparisons and identities, and no two-hop answer."""
    batch = tuple(pair for pair in config.pretraining.batch if pair[0] not in ("direct", "traces"))
    return replace(config, pretraining=replace(config.pretraining, batch=batch))


@experiment(
    quick={"identities": ("both",), "unlinked_identities": ("none", "both")},
    paper={"identities": ("pretraining", "data", "both"), "unlinked_identities": tuple(two_hop.TEMPLATES)},
)
def controls(identities: Sequence[str], unlinked_identities: Sequence[str]) -> Iterator[Part]:
    """Controls: known and compared facts, stand-ins, a direct expert, identities, chance of the loss."""
    yield plain(ALL, {"linked/none": Setting()})
    yield plain(ALONE, {f"linked/{i}": Setting(identity=i) for i in identities})
    yield plain(
        unlinked(ALONE), {f"unlinked/{i}": Setting(template="none", identity=i) for i in unlinked_identities}
    )
