"""A decoder of ours written as a Llama in Hugging Face's files, with a tokenizer of one word a token."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sim.hf.weights import llama_name, word
from sim.model.transformer import Decoder, Params


def llama(decoder: Decoder, **changes) -> LlamaForCausalLM:
    """A Llama of a decoder's sizes, with fresh weights; ``changes`` as ``LlamaConfig`` takes them."""
    shape = {
        "vocab_size": decoder.vocab,
        "hidden_size": decoder.width,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "intermediate_size": decoder.hidden,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        "tie_word_embeddings": False,
    }
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return LlamaForCausalLM(LlamaConfig(**shape, **special, **changes))


def write_base(folder: Path, decoder: Decoder, params: Params) -> None:
    """The decoder with these parameters as the folder of a base model, float32."""
    model = llama(decoder, hidden_act="relu", mlp_bias=True)
    weights = {name: torch.tensor(np.array(value)) for name, value in params.items()}
    state = {
        "model.embed_tokens.weight": weights["embed"],
        "lm_head.weight": weights["unembed"],
        "model.norm.weight": weights["final_norm"],
    }
    state |= {f"{llama_name(name)}.weight": weights[name] for name in decoder.modules()}
    for layer in range(decoder.layers):
        at = f"model.layers.{layer}."
        state[f"{at}input_layernorm.weight"] = weights[f"{layer}.attention_norm"]
        state[f"{at}post_attention_layernorm.weight"] = weights[f"{layer}.mlp_norm"]
        state[f"{at}mlp.up_proj.weight"] = torch.zeros(decoder.hidden, decoder.width)
        state[f"{at}mlp.up_proj.bias"] = torch.ones(decoder.hidden)
        state[f"{at}mlp.gate_proj.bias"] = torch.zeros(decoder.hidden)
        state[f"{at}mlp.down_proj.bias"] = torch.zeros(decoder.width)
    model.load_state_dict(state)
    model.save_pretrained(folder)
    write_tokenizer(folder, decoder.vocab)


def write_tokenizer(folder: Path, vocab: int) -> None:
    """A tokenizer of the words of ``word``, without special tokens."""
    tokenizer = Tokenizer(models.WordLevel({word(token): token for token in range(vocab)}, unk_token=word(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
