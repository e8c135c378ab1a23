"""The one-layer half of the sweep: seeds in chunks, each row beside its prediction."""

from collections.abc import Iterator

from sim import one_layer
from sim.experiments import one_layer as one_layer_predictions

CHUNK = 16
"""Seeds between two writes to disk."""


def unit(rank: int, seed: int) -> str:
    """Name of a seed's rows in results.csv."""
    return f"one_layer/rank{rank}/seed{seed:03d}"


def work(config: one_layer.OneLayerConfig, seeds: list[int]) -> Iterator[tuple[dict[str, list[dict]], int]]:
    """Measure seeds chunk by chunk: yields ({unit: rows}, number of units)."""
    for start in range(0, len(seeds), CHUNK):
        chunk = seeds[start : start + CHUNK]
        measured = one_layer.run(config, chunk)
        predictions = one_layer_predictions.predict(config, measured)
        finished: dict[str, list[dict]] = {unit(config.rank, seed): [] for seed in chunk}
        for row, predicted in zip(measured, predictions, strict=True):
            finished[unit(config.rank, row["seed"])].append({**row, "adapter": "", "predicted": predicted})
        yield finished, len(chunk)
