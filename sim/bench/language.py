"""Time of an adapter step on a real language model's sizes, against PyTorch + PEFT, one adapter at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tqdm import tqdm

from sim.bench.clock import benchmark, clocked, has_peers, machine_speed, on_cpu
from sim.model import llama_adapters
from sim.model.llama import KINDS, NORMS, Llama, Params
from sim.model.llama_adapters import Questions, Training

SMOLLM2 = Llama(49152, 30, 576, 9, 3, 64, 1536, theta=100000.0)
TINY = Llama(512, 2, 64, 4, 2, 16, 128)
RANK, BATCH, TOKENS, ANSWER, RATE = 8, 32, 48, 24, 1e-3
STEPS, REPEATS = 10, 3

AT_ONCE = 16
"""Adapters that a device trains at once."""


def random_params(model: Llama, dtype) -> Params:
    """Weights of the size that a trained model has; time does not depend on them."""
    shapes = {kind: (model.layers, *model.shape(kind)) for kind in KINDS}
    shapes |= {"embed": (model.vocab, model.width)}
    keys = dict(zip(shapes, jax.random.split(jax.random.key(0), len(shapes)), strict=True))
    params = {
        name: 0.02 * jax.random.normal(keys[name], shape, jnp.float32) for name, shape in shapes.items()
    }
    params |= {norm: jnp.ones((model.layers, model.width)) for norm in NORMS}
    params["final_norm"] = jnp.ones(model.width)
    return {name: value.astype(dtype) for name, value in params.items()}


def random_questions(model: Llama, adapters: int) -> Questions:
    """A batch for every adapter: an answer of the last half of its tokens."""
    tokens = np.random.default_rng(0).integers(0, model.vocab, (adapters, BATCH, TOKENS)).astype(np.int32)
    position = np.broadcast_to(np.arange(TOKENS - ANSWER - 1, TOKENS - 1), (adapters, BATCH, ANSWER))
    target = np.take_along_axis(tokens, position + 1, axis=-1)
    return jax.tree.map(jnp.asarray, Questions(tokens, position, target, np.ones_like(target, np.float32)))


def floor(model: Llama) -> float:
    """Operations of one adapter step whatever the program: two a weight and token forward and two backward to
    the inputs, none for frozen weights; six a number of the factors; the readout at the answer's tokens."""
    matrices = [model.shape(kind) for kind in KINDS]
    frozen = 4.0 * model.layers * sum(out * into for out, into in matrices) * BATCH * TOKENS
    factors = 6.0 * model.layers * RANK * sum(out + into for out, into in matrices) * BATCH * TOKENS
    return frozen + factors + 4.0 * model.vocab * model.width * BATCH * ANSWER


def ours(
    model: Llama, adapters: int, remat: bool = False, steps: int = STEPS, repeats: int = REPEATS
) -> tuple[float, float, float]:
    """(milliseconds of a step of one of the adapters, seconds of the first call, loss of fresh adapters)."""
    params = random_params(model, jnp.float32 if on_cpu() else jnp.bfloat16)
    keys = jax.random.split(jax.random.key(1), adapters)
    training = llama_adapters.begin(jax.vmap(lambda key: llama_adapters.init(model, RANK, key))(keys))
    questions = random_questions(model, adapters)
    index = jnp.broadcast_to(jnp.arange(BATCH), (steps, adapters, BATCH))
    rate = jnp.full((steps, adapters), RATE)

    def run(training: Training):
        return llama_adapters.train(model, params, training, questions, index, rate, remat=remat)

    first, (training, losses) = clocked(lambda: run(training))
    times = []
    for _ in range(repeats):
        elapsed, (training, _) = clocked(lambda training=training: run(training))
        times.append(elapsed)
    return 1e3 * min(times) / (steps * adapters), first, float(losses[0].mean())


def peft_step(model: Llama) -> tuple[float, float, float]:
    """The same by transformers and PEFT on the same device: one adapter, the loss of the answer's tokens."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = LlamaConfig(
        vocab_size=model.vocab, hidden_size=model.width, num_hidden_layers=model.layers,
        num_attention_heads=model.heads, num_key_value_heads=model.groups, head_dim=model.head,
        intermediate_size=model.hidden, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": model.theta},
    )  # fmt: skip
    base = LlamaForCausalLM(config).to(device, torch.bfloat16 if device == "cuda" else torch.float32)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    network = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=modules)).train()
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=RATE)
    tokens = torch.as_tensor(
        np.asarray(random_questions(model, 1).tokens[0]), dtype=torch.long, device=device
    )
    labels = tokens.clone()
    labels[:, : TOKENS - ANSWER] = -100

    def run():
        for _ in range(STEPS):
            loss = network(input_ids=tokens, labels=labels).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        return loss.item()  # waits for the device

    with torch.no_grad():
        fresh = network(input_ids=tokens, labels=labels).loss.item()
    first = clocked(run)[0]
    return 1e3 * min(clocked(run)[0] for _ in range(REPEATS)) / STEPS, first, fresh


@benchmark
def language() -> pd.DataFrame:
    """Train rank-8 adapters of all linear layers of a Llama of SmolLM2-135M's sizes: 32 x 48 tokens a step.

    ``milliseconds`` are of one step of one adapter. ours: all adapters in one program, sharded over the
    devices, weights random, activations stored or (remat) computed again. On a CPU a tiny Llama. PyTorch +
    PEFT (extra ``bench``) trains one after the other on one device.
    """
    model, devices = (TINY if on_cpu() else SMOLLM2), jax.device_count()
    cases = [(2, False)] if on_cpu() else [(1, False), (16, True), (16, False), (32, False)]
    operations, rows = floor(model), []
    floor_milliseconds = 1e3 * operations / machine_speed()[1]
    for each, remat in tqdm(cases, desc="language model benchmark", unit="case"):
        milliseconds, first, loss = ours(model, each * devices, remat)
        tool = "ours, remat" if remat else "ours"
        rows.append([tool, each * devices, devices, milliseconds, first, loss])
    if has_peers("torch", "peft", "transformers"):
        rows.append(["torch + peft", 1, 1, *peft_step(model)])
    columns = ["tool", "adapters", "devices", "milliseconds", "first", "loss"]
    table = pd.DataFrame(rows, columns=columns)
    best = table["milliseconds"][table["tool"].str.startswith("ours")].min()
    table = table.assign(floor_operations=operations, floor_milliseconds=floor_milliseconds)
    return table.assign(ratio_to_ours=table["milliseconds"] / best)
