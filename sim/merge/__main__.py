"""``python -m sim.merge A B [C ...] --method NAME --out DIR``: merge PEFT adapters into one."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from sim.lab.cli import run_command
from sim.merge import METHODS, elementwise, merge
from sim.merge.module import refuse_zero_sum
from sim.merge.peft_files import Adapter, atomic_folder, check_mergeable, read_adapter, write_adapter
from theory.lowrank import LowRank, norm, truncated


def _method_table() -> str:
    free = [record for record in METHODS.values() if record.data_free]
    return "\n".join(f"{record.name}: {record.summary}{_options_note(record)}" for record in free)


def _named(flag: str) -> str:
    return ", ".join(record.name for record in METHODS.values() if record.data_free and getattr(record, flag))


def _options_note(record: Any) -> str:
    return f" [{', '.join(f'{k}={v}' for k, v in record.options.items())}]" if record.options else ""


@dataclass(frozen=True)
class MergeCommand:
    """Merge PEFT LoRA adapters of one base model into one adapter, without data and without the base."""

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """One or more PEFT folders (adapter_config.json, adapter_model.safetensors). Never modified."""
    method: Annotated[str, tyro.conf.arg(help=_method_table())]
    out: Path
    """The folder to write. It must not exist, or be empty."""
    weight: Annotated[
        tuple[float, ...],
        tyro.conf.arg(
            help="One number an adapter, negative allowed (1 each by default); used as given, but divided by "
            f"their sum by {_named('normalises')}."
        ),
    ] = ()
    rank: int | None = None
    """Truncate every module to this rank. Default: the sum of the adapters' ranks (svd: the largest)."""
    option: tuple[str, ...] = ()
    """Options of the method, as NAME=VALUE, for example density=0.5 vote=count."""
    seed: Annotated[int, tyro.conf.arg(help=f"Seed of the methods that draw: {_named('uses_key')}.")] = 0


def parsed_options(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE texts as the method's options, each in the type of its default. Raises ValueError."""
    record = METHODS[method]
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in record.options:
            known = ", ".join(f"{k}={v}" for k, v in record.options.items()) or "none"
            raise ValueError(f"--option {text!r}: {method} takes NAME=VALUE out of: {known}")
        kind = type(record.options[name])
        try:
            options[name] = kind(value)
        except ValueError:
            raise ValueError(f"--option {text!r}: {name} must be a {kind.__name__}") from None
    return options


@functools.partial(jax.jit, static_argnames=("method", "rank", "options"))
def merge_module(
    method: str,
    updates: Sequence[LowRank],
    weights: jax.Array | None,
    key: jax.Array | None,
    rank: int | None,
    options: tuple[tuple[str, Any], ...],
) -> tuple[LowRank, jax.Array, jax.Array]:
    """Merge one module into factors: (update, |merge|^2, |what the rank cut off|^2).

    A dense result is cut to ``rank``, or to the sum of the ranks if none is given. Both squares are 0 if
    nothing was cut, and NaN for a method that handles the rank itself, where they are not known.
    """
    record = METHODS[method]
    own_rank = rank if record.uses_rank else None
    merged = merge(method, updates, weights, rank=own_rank, key=key, **dict(options))
    if isinstance(merged, LowRank):
        if rank is None or merged.a.shape[0] <= rank:
            unknown = jnp.full((), jnp.nan if record.uses_rank else 0.0)
            return merged, unknown, unknown
        kept, total = truncated(merged, rank), jnp.square(norm(merged))
    else:
        total = jnp.sum(jnp.square(merged))
        ranks = sum(update.a.shape[0] for update in updates)
        kept = elementwise.truncated_dense(merged, min(rank or ranks, *merged.shape))
    return kept, total, jnp.maximum(total - jnp.square(norm(kept)), 0)


def merge_adapters(
    adapters: Sequence[Adapter],
    method: str,
    weights: Sequence[float] = (),
    *,
    rank: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> tuple[dict[str, LowRank], float]:
    """Merge whole adapters module by module: (updates by module, share of |merge|^2 lost to the rank).

    Raises: ValueError for a method that needs data, mismatched adapters, or anything ``merge`` refuses.
    """
    record = METHODS[method]
    if record.needs:
        raise ValueError(f"{method} is not data-free: it needs {', '.join(record.needs)}; use it from Python")
    if weights:
        refuse_zero_sum(record, weights)
    check_mergeable(adapters)
    if rank is not None:
        for name, update in adapters[0].modules.items():
            largest = min(update.b.shape[0], update.a.shape[1])
            if not 1 <= rank <= largest:
                raise ValueError(f"--rank {rank} must be between 1 and {largest}, the smaller side of {name}")
    given = tuple(sorted((options or {}).items()))
    merged, total, lost = {}, 0.0, 0.0
    bar = tqdm(adapters[0].modules, desc=f"merging by {method}", unit="module", disable=not progress)
    for index, name in enumerate(bar):
        updates = [adapter.modules[name] for adapter in adapters]
        key = jax.random.fold_in(jax.random.key(seed), index) if record.uses_key else None
        dtype = np.result_type(*(update.b.dtype for update in updates))
        updates = [LowRank(u.b.astype(dtype), u.a.astype(dtype), u.scale) for u in updates]
        update, energy, cut = merge_module(
            method, updates, jnp.asarray(weights, dtype) if weights else None, key, rank, given
        )
        merged[name] = jax.tree.map(np.asarray, update)
        if not all(np.isfinite(factor).all() for factor in merged[name][:2]):
            raise ValueError(f"{method} gave NaN on {name}: check the weights and the adapters' norms")
        total, lost = total + float(energy), lost + float(cut)
    return merged, lost / total if total else 0.0


def main(command: MergeCommand) -> None:
    """Read, merge, write; prints what was done. Raises ValueError with one line for anything wrong."""
    if not command.adapters:
        raise ValueError("give at least one adapter folder to merge")
    METHODS[command.method]
    options = parsed_options(command.method, command.option)
    if command.weight and len(command.weight) != len(command.adapters):
        raise ValueError(f"--weight: {len(command.weight)} numbers for {len(command.adapters)} adapters")
    if not np.isfinite(command.weight).all():
        raise ValueError("--weight must be finite numbers")
    adapters = [read_adapter(path) for path in command.adapters]
    bases = {str(adapter.config.get("base_model_name_or_path")) for adapter in adapters}
    with atomic_folder(command.out) as folder:
        merged, lost = merge_adapters(
            adapters,
            command.method,
            command.weight,
            rank=command.rank,
            seed=command.seed,
            options=options,
        )
        write_adapter(folder, merged, adapters)
    ranks = sorted({update.a.shape[0] for update in merged.values()})
    print(
        f"{command.out}: {command.method} of {len(adapters)} adapters, {len(merged)} modules, "
        f"rank {ranks[0] if len(ranks) == 1 else f'{ranks[0]} to {ranks[-1]}'}"
        + ("" if np.isnan(lost) else f"; the rank cut off {100 * lost:.3g}% of the squared norm")
    )
    if len(bases) > 1:
        print(f"note: the adapters name different base models: {', '.join(sorted(bases))}")


if __name__ == "__main__":
    run_command(MergeCommand, main, "sim.merge")
