"""Small decoders with random weights, one of each family that our slots drive, and what transformers itself says with them."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models

from workers.arrays import Ids
from workers.engines.decoders.head import Head
from workers.engines.decoders.slots import Loaded
from workers.engines.decoders.torch_decoder import body_of

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
GPT: Final[dict[str, Any]] = {"n_embd": 32, "n_layer": 3, "n_head": 4}
WINDOWED: Final[dict[str, Any]] = SMALL | {"sliding_window": WINDOW, "layer_types": LAYERS}
EXPERTS: Final[dict[str, Any]] = SMALL | {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "output_router_logits": False}
SCALED: Final[dict[str, Any]] = {
    "embedding_multiplier": 2.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.5,
    "logits_scaling": 4.0,
}
LATENT: Final[dict[str, Any]] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 6,
    "head_dim": 4,
    "num_key_value_heads": 4,
}
FALCON: Final[dict[str, Any]] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
# Each with what of its attention and its logits can differ.
PACKED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "llama": ("Llama", SMALL),
    "qwen2": ("Qwen2", WINDOWED | {"use_sliding_window": True}),
    "qwen3": ("Qwen3", WINDOWED | {"use_sliding_window": True}),
    "mistral": ("Mistral", SMALL | {"sliding_window": WINDOW}),
    "gemma": ("Gemma", SMALL),
    "gemma2": ("Gemma2", WINDOWED | {"query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3Text", WINDOWED | {"query_pre_attn_scalar": 8}),
    "phi3": ("Phi3", SMALL | {"sliding_window": WINDOW}),
    "gpt2": ("GPT2", GPT),
    "gpt_neox": ("GPTNeoX", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}),
    "apertus": ("Apertus", SMALL),
    "arcee": ("Arcee", SMALL),
    "biogpt": ("BioGpt", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}),
    "cohere": ("Cohere", SMALL | {"logit_scale": 0.3, "use_qk_norm": True}),
    "cohere2": ("Cohere2", WINDOWED | {"logit_scale": 0.3}),
    "ernie4_5": ("Ernie4_5", SMALL),
    "exaone4": ("Exaone4", WINDOWED),
    "glm": ("Glm", SMALL),
    "glm4": ("Glm4", SMALL),
    "glm4_moe": ("Glm4Moe", EXPERTS | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}),
    "granite": ("Granite", SMALL | SCALED),
    "granitemoe": ("GraniteMoe", SMALL | SCALED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "helium": ("Helium", SMALL),
    "hunyuan": ("HunYuanDenseV1", SMALL),
    "ministral": ("Ministral", WINDOWED),
    "mixtral": ("Mixtral", SMALL | {"num_local_experts": 4, "sliding_window": WINDOW}),
    "nanochat": ("NanoChat", SMALL),
    "olmo": ("Olmo", SMALL | {"clip_qkv": 1.0}),
    "olmo2": ("Olmo2", SMALL),
    "olmo3": ("Olmo3", WINDOWED),
    "olmoe": ("Olmoe", EXPERTS | {"num_experts": 4}),
    "opt": ("OPT", {"hidden_size": 32, "word_embed_proj_dim": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 48}),
    "phi": ("Phi", SMALL),
    "gpt_oss": ("GptOss", WINDOWED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gptj": ("GPTJ", GPT | {"rotary_dim": 4}),
    "minicpm3": ("MiniCPM3", SMALL | LATENT),
    "mpt": ("Mpt", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 1024}),
    "nemotron": ("Nemotron", SMALL),
    "persimmon": ("Persimmon", SMALL),
    "phimoe": ("Phimoe", SMALL | {"num_local_experts": 4, "sliding_window": WINDOW}),
    "qwen2_moe": ("Qwen2Moe", EXPERTS | WINDOWED | {"use_sliding_window": True, "num_experts": 4, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("Qwen3Moe", EXPERTS | {"use_sliding_window": True, "sliding_window": WINDOW, "num_experts": 4}),
    "seed_oss": ("SeedOss", SMALL),
    "smollm3": ("SmolLM3", WINDOWED | {"use_sliding_window": True, "no_rope_layers": [1, 0, 1]}),
    "starcoder2": ("Starcoder2", SMALL | {"sliding_window": WINDOW}),
    "vaultgemma": ("VaultGemma", WINDOWED | {"query_pre_attn_scalar": 8}),
}
PADDED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "codegen": ("CodeGen", GPT | {"rotary_dim": 4}),
    "deepseek_v2": ("DeepseekV2", EXPERTS | LATENT),
    "deepseek_v3": ("DeepseekV3", EXPERTS | LATENT | {"n_routed_experts": 8, "n_group": 2, "topk_group": 1}),
    "falcon": ("Falcon", FALCON),
    "falcon-alibi": ("Falcon", FALCON | {"alibi": True, "multi_query": False}),
    "falcon-2": ("Falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "gpt_bigcode": ("GPTBigCode", GPT),
    "gpt_neo": (
        "GPTNeo",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": WINDOW, "attention_types": [[["global", "local"], 1]]},
    ),
    "stablelm": ("StableLm", SMALL | {"use_qkv_bias": True}),
    "xglm": ("XGLM", {"d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 48}),
}
FAMILIES: Final = PACKED | PADDED


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
    return Loaded(
        head=Head.of_model(model),
        body=body_of(model, torch.device("cpu")),
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
