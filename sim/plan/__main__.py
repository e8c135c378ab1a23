"""``python -m sim.plan --facts 200 --adapters 3 --lam 0.5``: which rank do these adapters need?"""

from dataclasses import dataclass

from sim.lab.cli import run_command
from sim.plan.miniature import compared, domains, seen
from sim.plan.ranks import Need, Plan, plan

RANGE = (
    "The ranks are for least squares (or training stopped early), one matrix, distinct answers and adapters "
    "on unrelated facts, which then do not disturb each other at any number of them."
)


TOLERANCE = 0.05
"""Mean distance of law and measurement up to which the law holds."""


@dataclass(frozen=True)
class PlanCommand:
    """Which rank adapters need to keep their facts in a merge, from closed forms alone.

    Examples:
    * python -m sim.plan --facts 200 --adapters 3 --lam 0.5
    * python -m sim.plan --facts 50 --adapters 2 --lam 1 --recall 0.8 --width 768
    """

    facts: int
    """Facts that each adapter is taught."""
    adapters: int = 2
    """Adapters in the merge."""
    lam: float | None = None
    """Coefficient of each update in the merge, above 0 and at most 1; times the overlap kappa where prompts
    are worded otherwise than in training. Default: the average, 1 over the number of adapters."""
    recall: float = 0.95
    """Share of its facts that each adapter is to answer in the merge."""
    width: int | None = None
    """Width of a matrix that stores the facts as associations, for the capacity of section 7 as well."""


def lines_of(needs: tuple[Need, ...]) -> list[str]:
    """One aligned line a need: case, facts, lambda, rank and section."""
    cells = [
        (f"{n.case}", f"{n.facts} facts", f"lambda {n.lam:.3g}", str(n), f"section {n.section}")
        for n in needs
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def answer(result: Plan, lam: float, recall: float) -> list[str]:
    """The answer: the ranks, what else would do, and what the miniature measured."""
    lines = [f"Rank for a recall of {recall:g}, with the 95% interval of what one adapter needs:", ""]
    lines += lines_of(result.needs)
    if result.alternatives:
        lines += ["", "What else would do, for overwriting:", "", *lines_of(result.alternatives)]
    lines.append(
        f"train with cross entropy to a loss below {result.loss:.2g} (section 6, Cross-entropy; enough rank)"
    )
    return [*lines, "", RANGE, *_domains(), _miniature(lam, recall)]


def _domains() -> list[str]:
    """The law's error where it was measured, by domain."""
    rows = domains(compared())
    widest = max(map(len, rows.index))
    lines = [
        f"  {name.ljust(widest)}  {'holds' if row['error'] <= TOLERANCE else 'fails'}, {row['error']:.2f}"
        for name, row in rows.iterrows()
    ]
    return ["Mean error of recall in the miniature (F facts an adapter), by domain:", *lines]


def _miniature(lam: float, recall: float) -> str:
    """What the miniature says of the law."""
    run = seen(lam, recall, compared())
    needed = "no rank measured reached it" if run.rank is None else f"rank {run.rank} did"
    ends = ", ".join("more" if end is None else str(end) for end in (run.low, run.high))
    amount = "too much" if run.bias < 0 else "too little"
    failure = f"the law fails there and asks for {amount}: train at the rank that did and measure"
    verdict = "the law holds there" if run.error <= TOLERANCE else failure
    verdict += f"; over all ranks and lambdas it promises at most {max(run.excess, 0):.2f} too much"
    return (
        f"In the miniature (two adapters of {run.facts} overwrites, cross entropy, LoRA on every matrix) at "
        f"lambda {run.lam:g}: {needed} [{ends}]. Law and measurement differ by {run.error:.2f} on average: "
        f"{verdict} (python -m sim.plan.miniature)."
    )


def main(command: PlanCommand) -> None:
    """Print the answer. ValueError for bad input."""
    lam = command.lam
    if lam is None and command.adapters >= 1:
        lam = 1 / command.adapters
    result = plan(command.facts, command.adapters, 1.0 if lam is None else lam, command.recall, command.width)
    print("\n".join(answer(result, lam, command.recall)))


if __name__ == "__main__":
    run_command(PlanCommand, main, "sim.plan")
