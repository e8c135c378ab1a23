"""The two-hop half of the sweep: its cells and their rows."""

import dataclasses
from collections.abc import Iterator

from sim.reuse import cell as reuse
from sim.reuse import jobs, predictors
from sim.worlds import World
from sim.worlds.two_hop import Setting

SCORES = {
    "hop1": "hop1_recall",
    "hop2": "hop2_recall",
    "direct": "two_hop_direct",
    "cot_answer": "two_hop_cot",
    "untouched": "untouched_recall",
}
"""Metric names of the results table for scores of ``reuse.ask``; the others keep theirs."""

LAMBDAS = {"average": 0.5, "sum": 1.0, "concat": 1.0}
"""Merges that are linear in the adapters, and the coefficient they give to each of two."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of one seed: a unit of work and of resumption."""

    rank: int
    setting: Setting
    seed: int

    @property
    def unit(self) -> str:
        """Name in results.csv."""
        setting = self.setting
        return f"two_hop/rank{self.rank}/{setting.entities}/{setting.template}/seed{self.seed:03d}"


def cells(
    config: reuse.ReuseConfig, todo: list[Cell], ready: dict[jobs.Base, dict]
) -> Iterator[tuple[dict[str, list[dict]], int]]:
    """Run cells of one rank, chunk by chunk: yields ({unit: rows}, number of units)."""

    def work(_, params, world, key):
        return reuse.run(config, params, world, key)

    def rows(cell, world, result):
        return rows_of(config, cell, world, result)

    return jobs.run(config, todo, ready, work, rows)


def rows_of(config: reuse.ReuseConfig, cell: Cell, world: World, result: dict) -> list[dict]:
    """The measurements of one cell as rows, each beside its prediction where there is one.

    Predictions: direct two-hop at chance, 1/edits (section 2; a theorem for the one-layer model, a
    claim here), and the recall of single and linearly merged adapters on the last MLP output from
    the logits of base and single adapters (section 12, exact).
    """
    common = {
        "model": "transformer",
        "world": "two_hop",
        "rank": cell.rank,
        "seed": cell.seed,
        "entities": cell.setting.entities,
        "template": cell.setting.template,
        "facts": config.world.edits,
    }
    rows = []
    for name, scores in result["scores"].items():
        family, _, method = name.rpartition("/")
        lam = LAMBDAS.get(method)
        counts = dict(scores)
        right, asked = counts.pop("cot_hop2")
        counts["cot_hop2_given_hop1"] = (right, scores["cot_hop1"][0])
        for score, (right, asked) in counts.items():
            if asked == 0:
                continue
            predicted = None
            if score == "direct":
                predicted = config.world.chance
            elif score in reuse.HOPS:
                predicted = recall_prediction(result["linear"], world, family, method, score)
            rows.append(
                common
                | {
                    "adapter": family,
                    "method": method,
                    "lam": lam,
                    "metric": SCORES.get(score, score),
                    "predicted": predicted,
                    "measured": float(right) / float(asked),
                    "trials": int(asked),
                }
            )
    return rows


def recall_prediction(linear: dict, world: World, family: str, method: str, hop: str) -> float | None:
    """Predicted recall of a hop's facts, or None where section 12 gives no exact prediction."""
    if f"{family}/hop1/{hop}" not in linear:
        return None
    lams = {"hop1": (1.0, 0.0), "hop2": (0.0, 1.0)}.get(method) or (LAMBDAS.get(method),) * 2
    if lams[0] is None:
        return None
    singles = [linear[f"{family}/{name}/{hop}"] for name in reuse.HOPS]
    probe = world.probes[hop]
    logits = predictors.tangent(linear[f"base/{hop}"], singles, lams)
    right = predictors.right(logits, probe.tokens[:, probe.prompt :])
    return float(right.all(axis=-1).mean())
