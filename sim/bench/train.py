"""Time of an adapter step, against PyTorch: PEFT one adapter at a time, and ``torch.func.vmap``."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Int
from tqdm import tqdm

from sim.bench.clock import benchmark, machine_speed, seconds
from sim.lab import parallel
from sim.model import lora
from sim.model.sequences import Sequences
from sim.model.training import Schedule, completion_loss, fit
from sim.model.transformer import Decoder, Params, completion_logits, init
from sim.reuse.library import adapter_of, factors_of

WIDTHS = (64, 128)
RANK, BATCH, TOKENS, PROMPT, VOCAB = 4, 64, 14, 5, 110
RATE = 2e-3


def sizes() -> tuple[int, int]:
    """(adapters trained at once, steps): as many as a GPU has room for, or two a core."""
    return (2 * jax.device_count(), 100) if jax.default_backend() == "cpu" else (512, 200)


def material(width: int) -> tuple[Decoder, Params, Int[Array, "B T"]]:
    """A decoder of two layers with random weights, and a batch of random sequences."""
    decoder = Decoder(VOCAB, 2, width, 4, 4 * width)
    tokens = np.random.default_rng(0).integers(0, VOCAB, (BATCH, TOKENS)).astype(np.int32)
    return decoder, init(decoder, jax.random.key(0)), tokens


def trained(decoder: Decoder, steps: int, params: Params, tokens: Array, key: Array) -> Array:
    """Losses of an adapter of every matrix, trained as ``sim.reuse.library.finetune`` does."""
    start = lora.init(decoder, decoder.modules(), RANK, jax.random.wrap_key_data(key))
    group = Sequences(tokens, jnp.ones(BATCH, jnp.float32), PROMPT)

    def logits(factors, drawn):
        return completion_logits(decoder, lora.fold(params, adapter_of(factors)), drawn.tokens, PROMPT)

    schedule = Schedule(steps, RATE, (("facts", BATCH),))
    return fit(logits, factors_of(start), {"facts": group}, schedule, jax.random.wrap_key_data(key)).losses


def ours(width: int, adapters: int, steps: int, effort: int = 1) -> tuple[float, float, float]:
    """(seconds of all steps of all adapters, of the first call, loss of a fresh adapter on the batch).

    effort: the compiler's (``parallel.compiler_options``); 1 is what experiments use.
    """
    decoder, params, tokens = material(width)
    jobs = [
        {"params": params, "tokens": tokens, "key": np.asarray([0, index], np.uint32)}
        for index in range(adapters)
    ]
    program = parallel.Program(trained, decoder, steps, effort=effort)

    def stages(job):
        return program(job["params"], job["tokens"], job["key"])

    def run() -> list[np.ndarray]:
        return [losses for _, results in parallel.map_runs(stages, jobs) for losses in results]

    first = seconds(run, 1)
    group = Sequences(tokens, np.full(BATCH, 1 / BATCH, np.float32), PROMPT)
    loss = completion_loss(completion_logits(decoder, params, tokens, PROMPT), group)
    return seconds(run), first, float(loss)


def floor(width: int, layers: int = 2) -> tuple[float, float]:
    """(bytes, operations) of one adapter step, whatever the program.

    Operations: two a weight and token forward, two backward to the inputs, none for frozen weights, and six a
    number of the factors; the last layer's queries, output and MLP and the readout only at the completion.
    Bytes: the factors, their gradients and two moments, read and written once.
    """
    every, last = BATCH * (TOKENS - 1), BATCH * (TOKENS - PROMPT)
    keys = 2 * width**2
    others = 2 * width**2 + 8 * width**2
    frozen = every * (layers * keys + (layers - 1) * others) + last * (others + VOCAB * width)
    factors = layers * RANK * (4 * 2 * width + 2 * 5 * width)
    return 4.0 * 8 * factors, 4.0 * frozen + 6.0 * every * factors


@benchmark
def train() -> pd.DataFrame:
    """Train rank-4 adapters of every matrix: batches of 64 x 14 tokens, 2 layers, width 64 and 128.

    ``microseconds`` are of one step of one adapter: ours with all adapters at once, PyTorch + PEFT (extra
    ``bench``) with one after the other, and with as many at once by ``torch.func.vmap``; ``first`` includes
    compilation, with tuned products in the row "ours, tuned". ``loss`` is a fresh adapter's, the same for
    all: it adds nothing yet.
    """
    has_peers = all(importlib.util.find_spec(name) for name in ("torch", "peft"))
    bandwidth, speed = machine_speed()
    adapters, steps = sizes()
    rows = []
    for width in tqdm(WIDTHS, desc="training benchmark", unit="width"):
        moved, operations = floor(width)
        case = {"width": width, "adapters": adapters, "steps": steps}
        case |= {"floor_bytes": moved, "floor_operations": operations}
        case["floor_microseconds"] = 1e6 * max(moved / bandwidth, operations / speed)
        elapsed, first, loss = ours(width, adapters, steps)
        each = 1e6 / (adapters * steps)
        mine = elapsed * each
        rows.append({**case, "tool": "ours", "microseconds": mine, "first": first, "loss": loss})
        if jax.default_backend() != "cpu":
            elapsed, first, _ = ours(width, adapters, steps, effort=2)
            tuned = {"microseconds": elapsed * each, "first": first, "loss": loss}
            rows.append({**case, "tool": "ours, tuned", **tuned})
        if has_peers:
            rows += [{**case, **row} for row in peers(width, adapters, steps)]
        for row in rows:
            if row["width"] == width:
                row["ratio_to_ours"] = row["microseconds"] / mine
    return pd.DataFrame(rows)


def peers(width: int, adapters: int, steps: int) -> list[dict]:
    """The same by PyTorch: a row each for PEFT one at a time, and for ``torch.func.vmap``."""
    import torch

    from sim.bench import _torch_decoder as peer

    torch.manual_seed(0)
    decoder, params, tokens = material(width)
    rows = []
    for name, count in (("torch + peft", 1), ("torch.func.vmap", adapters)):
        model = peer.with_adapter(decoder, params, RANK)
        given = torch.as_tensor(tokens, dtype=torch.long, device=next(model.parameters()).device)
        with torch.no_grad():
            loss = peer.loss(model(given, PROMPT), given, PROMPT).item()
        make = (peer.one_at_a_time, peer.many_at_once)[count > 1]
        run = make(model, given, PROMPT, RATE, *([count] if count > 1 else []))
        first = seconds(lambda run=run: run(1), 1)
        each = 1e6 * seconds(lambda run=run: run(steps)) / (count * steps)
        rows.append({"tool": name, "microseconds": each, "first": first, "loss": loss})
    return rows
