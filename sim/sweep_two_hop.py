"""The two-hop half of the sweep: bases, cells, and their rows."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from sim import cache, parallel, predictors, reuse
from sim.training import require_finite
from sim.worlds import World
from sim.worlds.two_hop import Setting, build

ROOT = 20250613

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

    @property
    def base(self) -> tuple[Setting, int]:
        """Cells with the same value share a base."""
        return self.setting.pretraining, self.seed


def key(*path: int) -> jax.Array:
    """The key at a path of numbers below the root, by repeated fold_in."""
    value = jax.random.key(ROOT)
    for number in path:
        value = jax.random.fold_in(value, number)
    return value


def bases(
    config: reuse.ReuseConfig, cells: list[Cell], use_cache: bool, ready: dict[tuple[Setting, int], dict]
) -> Iterator[tuple[None, int]]:
    """Fill ``ready`` with the bases of the cells, loaded from the cache or trained, chunk by chunk.

    Yields (None, how many more are ready).

    Raises:
        FloatingPointError: a base's loss became NaN or infinite.
    """
    wanted = dict.fromkeys(cell.base for cell in cells)
    recipe = {name: getattr(config, name) for name in ("world", "layers", "width", "heads", "hidden")}
    paths = {base: cache.base_path([recipe, config.pretraining, ROOT, *base]) for base in wanted}
    if use_cache:
        found = {base: cache.load(path) for base, path in paths.items()}
        ready |= {base: params for base, params in found.items() if params is not None}
        yield None, len(ready)
    missing = [base for base in wanted if base not in ready]
    train = parallel.chunked(
        lambda job: reuse.pretrain(config, job["world"], jax.random.wrap_key_data(job["key"]))
    )
    jobs = [
        {
            "world": build(config.world, seed, setting),
            "key": jax.random.key_data(key(0, seed)),
        }
        for setting, seed in missing
    ]
    for positions, results in train(jobs):
        for position, (params, losses) in zip(positions, results, strict=True):
            base = missing[position]
            require_finite(losses, f"base with template {base[0].template}, seed {base[1]}")
            ready[base] = params
            if use_cache:
                cache.save(paths[base], params)
        yield None, len(positions)


def cells(
    config: reuse.ReuseConfig, todo: list[Cell], ready: dict[tuple[Setting, int], dict[str, np.ndarray]]
) -> Iterator[tuple[dict[str, list[dict]], int]]:
    """Run cells of one rank, chunk by chunk: yields ({unit: rows}, number of units).

    Raises:
        FloatingPointError: an adapter's loss became NaN or infinite.
    """
    work = parallel.chunked(
        lambda job: reuse.run(config, job["base"], job["world"], jax.random.wrap_key_data(job["key"]))
    )
    jobs = [
        {
            "base": ready[cell.base],
            "world": build(config.world, cell.seed, cell.setting),
            "key": jax.random.key_data(key(1, cell.seed)),
        }
        for cell in todo
    ]
    for positions, results in work(jobs):
        finished = {}
        for position, result in zip(positions, results, strict=True):
            cell = todo[position]
            for family, losses in result["losses"].items():
                require_finite(losses, f"{family} adapters of {cell.unit}")
            finished[cell.unit] = rows_of(config, cell, jobs[position]["world"], result)
        yield finished, len(finished)


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
    logits = predictors.tangent_logits(linear[f"base/{hop}"], singles, lams)
    return predictors.accuracy(logits, probe.tokens[:, probe.prompt :])
