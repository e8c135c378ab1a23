"""Claim 4, one a world: the results of the two-hop world, tested in another world by one set of rules."""

from collections.abc import Mapping, Sequence

from sim.experiments.common.cells import GIVEN
from sim.experiments.common.claim import METHODS, NOTHING, POOLED, PREDICTED, SHARE, Cell, Rule, claim

HISTORY = (
    "An earlier rule took the best of all methods and coefficients in each setting for the sum, and counted "
    "methods above a guess in place of a margin."
)


def world_claim(
    number: str,
    world: str,
    subject: str,
    figure: str,
    *,
    shared: Sequence[str],
    unshared: Sequence[str],
    unseen: Mapping[str, str],
    metric: str = "cot_answer",
    at_once: Sequence[str] = ("direct",),
    numbers: Mapping[str, Cell] | None = None,
    fixed: str = "2026-11-29",
    history: str = "",
    limits: str,
) -> None:
    """Register the claim that reuse in a world is as in the two-hop world. The world's experiment has its
    name.

    Args:
        shared, unshared: settings with familiar entities, with a shared template and without.
        unseen: {setting with the least familiar entities: the familiar setting of the comparison}.
        metric: of the answer that is written step by step.
        at_once: questions that need both adapters and are answered at once.
        history: of every rule, if it is not that of the first ones.
    """

    def written(labels: Sequence[str], method: str = "sum") -> tuple[Cell, ...]:
        return tuple(Cell(world, label, method, metric) for label in labels)

    joint, guess = written(shared, "joint"), f"direct{GIVEN}"
    rules = (
        Rule(
            "reach",
            "accuracy step by step with a shared template: sum, over the joint adapter",
            written(shared),
            joint,
            above=SHARE,
            ratio=True,
            history=history or HISTORY,
        ),
        Rule(
            "once",
            "accuracy of answers at once that are among the taught ones, all settings together",
            tuple(Cell(world, POOLED, method, name + GIVEN) for name in at_once for method in METHODS),
            below=NOTHING,
            null=PREDICTED,
        ),
        Rule(
            "without",
            "accuracy step by step without a shared template",
            tuple(cell for method in METHODS for cell in written(unshared, method)),
            below=NOTHING,
            null=Cell(world, POOLED, "sum", guess),
        ),
        Rule(
            "familiar",
            "accuracy step by step of the sum, shared template: familiar entities, less the least familiar",
            written(list(unseen.values())),
            written(list(unseen)),
            above=NOTHING,
        ),
    )
    own = {
        "sum": written(shared)[0],
        "joint": joint[0],
        "average": written(shared, "average")[0],
        "bare": written(unshared)[0],
        "sum_once": Cell(world, POOLED, "sum", guess),
    }
    claim(
        number,
        f"The same in {subject}",
        figure,
        world,
        fixed=fixed,
        history=history,
        rules=rules,
        numbers=own | dict(numbers or {}),
        evidence=f"With familiar entities and a shared template (`{shared[0]}`) the sum answers {{sum}} step "
        "by step, the joint adapter {joint}, the average {average}; without a template the sum has {bare}. "
        "At once the sum is right in {sum_once} of its answers that are among the taught ones, a guess in "
        "{sum_once.predicted:.4f}.",
        limits=f"{limits} Without a shared template the model nearest to its bound has {{without}}. The "
        f"joint "
        "adapter has the rank of one of the two adapters, not of both.",
    )
