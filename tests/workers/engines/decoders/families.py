"""Small decoders with random weights, one of each family that our slots drive, and what transformers itself says with them."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models

from workers.arrays import Ids
from workers.engines.decoders.body import Body
from workers.engines.decoders.head import Head
from workers.engines.decoders.slots import Loaded

VOCABULARY: Final = 96
END: Final = 1
WINDOW: Final = 12
SMALL: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
}
LAYERS: Final = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "llama": ("Llama", SMALL),
    "qwen2": ("Qwen2", SMALL | {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": LAYERS}),
    "qwen3": ("Qwen3", SMALL),
    "mistral": ("Mistral", SMALL | {"sliding_window": WINDOW}),
    "gemma": ("Gemma", SMALL),
    "gemma2": ("Gemma2", SMALL | {"sliding_window": WINDOW, "layer_types": LAYERS, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3Text", SMALL | {"sliding_window": WINDOW, "layer_types": LAYERS, "query_pre_attn_scalar": 8}),
    "phi3": ("Phi3", SMALL | {"sliding_window": None}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 3, "n_head": 4}),
    "gpt_neox": ("GPTNeoX", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}),
}


def model_of(family: str, **more: Any) -> Any:
    """transformers' own, in fp32. Its weights are larger than a fresh model's, so that which token is likeliest hangs on the prompt."""
    name, shape = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(
        **{"vocab_size": VOCABULARY, "max_position_embeddings": 1024, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": END}
        | shape
        | more
    )
    torch.manual_seed(len(family))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model


def loaded(model: Any, *, rows: int = 4, tokens: int = 4096) -> Loaded:
    """The same model behind our slots, which it serves alone from now on."""
    head = model.get_output_embeddings()
    return Loaded(
        body=Body(model, torch.device("cpu")),
        head=Head(head.weight, head.bias, getattr(model.config, "final_logit_softcapping", None)),
        tokenizer=tokenizer(),
        end_ids=[END],
        turn_ids=[],
        rows=rows,
        tokens=tokens,
    )


def tokenizer() -> Tokenizer:
    """Every token is a word."""
    return Tokenizer(models.WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w0"))


def prompt(seed: int, length: int) -> Ids:
    return np.random.default_rng(seed).integers(3, VOCABULARY, length, dtype=np.int32)


def greedy(model: Any, ids: Sequence[int], new_tokens: int, ends: Collection[int] = (END,)) -> list[int]:
    """By transformers, alone; the end tokens, which our rows may not begin with, barred at the first place and left out."""
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([list(ids)]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=new_tokens,
            min_new_tokens=1,
            do_sample=False,
        )
    said: list[int] = out[0, len(ids) :].tolist()
    return said[: next((at for at, token in enumerate(said) if token in ends), len(said))]
