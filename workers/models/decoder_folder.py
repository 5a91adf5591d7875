"""What the files of a causal language model's folder say, for whoever only lists it and for whoever loads it: whether it can be run here,
how far it reads, its end tokens, its chat template. Light: no torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from workers.models.folder_config import MAX_BYTES, Unreadable, read_json

# Each is held against transformers token by token (tests/workers/engines/decoders/test_families.py). Those whose attention is ours to
# replace run packed; those whose attention is code of their own run as that has it, padded.
PACKED: Final = frozenset(
    {"apertus", "arcee", "biogpt", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4_moe"}
    | {"gpt2", "gpt_neox", "granite", "granitemoe", "helium", "hunyuan_v1_dense", "llama", "ministral", "mistral", "mixtral", "nanochat"}
    | {"olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "qwen2", "qwen3", "qwen3_moe", "seed_oss", "smollm3"}
    | {"starcoder2", "vaultgemma"}
)
PADDED: Final = frozenset(
    {"bloom", "codegen", "deepseek_v2", "deepseek_v3", "falcon", "gpt_bigcode", "gpt_neo", "gpt_oss", "gptj", "minicpm3", "mpt", "nemotron"}
    | {"persimmon", "phimoe", "qwen2_moe", "stablelm", "xglm"}
)
FAMILIES: Final = PACKED | PADDED
# Of a row these keep more than keys and values, which a step does not carry.
STATEFUL: Final = frozenset(
    {"bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "lfm2_moe", "mamba", "mamba2", "minimax"}
    | {"nemotron_h", "olmo_hybrid", "qwen3_5_text", "qwen3_next", "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2", "zaya"}
)
TEXT_WRITERS: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")  # how the names of such architectures end
MOST_TOKENS: Final = 32_768  # of prompt and answer, whatever the positions would allow: what a lane on a CPU holds
MOST_LAYERS: Final = 1_024  # no model comes near; a million of them would be built before a weight is missed

# Scaled positions: whose frequencies are the same at every length; and those that change with the longest row of a step, for all of its
# rows, so that only the length is read that the model was first trained for.
STEADY_ROPES: Final = frozenset({"default", "linear", "llama3", "yarn"})
CHANGING_ROPES: Final = frozenset({"dynamic", "longrope", "su"})
_ROPES: Final = sorted(STEADY_ROPES | CHANGING_ROPES)

TEMPLATE_FILE: Final = "chat_template.jinja"


def writes_text(config: Mapping[str, Any]) -> bool:
    """Whether it is a decoder: by its architecture, or where it names none by its family."""
    names = config.get("architectures") or []
    return any(str(name).endswith(TEXT_WRITERS) for name in names) or (not names and config["model_type"] in FAMILIES)


def longest(config: Mapping[str, Any], positions: int | None) -> int:
    """How many tokens it reads and writes together. Raises Unreadable where it cannot be run here."""
    if config["model_type"] in STATEFUL:
        raise Unreadable(
            "config.json: a model of its model_type keeps a state besides keys and values, which does not run here: take a server."
        )
    if config["model_type"] not in FAMILIES:
        raise Unreadable(f"config.json: no decoder of its model_type runs here. Those that do: {', '.join(sorted(FAMILIES))}.")
    if config.get("quantization_config"):
        raise Unreadable("config.json: its weights are quantised, which is not read: take the model in bf16 or fp32.")
    if config.get("use_bidirectional_attention"):
        raise Unreadable("config.json: its tokens look ahead (use_bidirectional_attention), so it cannot go on with a text.")
    return min(longest_of_any(positions), *_limits_of_ropes(config), MOST_TOKENS)


def longest_of_any(positions: int | None) -> int:
    """As `longest`, of a model whose own form knows the rest."""
    return min(MOST_TOKENS, positions or MOST_TOKENS)


def _limits_of_ropes(config: Mapping[str, Any]) -> Iterator[int]:
    for said in (config.get("rope_scaling"), config.get("rope_parameters")):
        if said is None:
            continue
        if not isinstance(said, dict):
            raise Unreadable("config.json: its rope scaling is no object.")
        kinds = [one for one in said.values() if isinstance(one, dict)] or [said]  # one for each kind of layer, or one for all
        for rope in kinds:
            kind = rope.get("rope_type") or rope.get("type") or "default"
            if not isinstance(kind, str) or kind not in _ROPES:
                raise Unreadable(f"config.json: its kind of rope scaling does not run here. Those that do: {', '.join(_ROPES)}.")
            if kind in CHANGING_ROPES:
                yield _first_length(config, rope)


def _first_length(config: Mapping[str, Any], rope: Mapping[str, Any]) -> int:
    """Of what the model was trained on before it was stretched."""
    for said in (rope, config):
        length = said.get("original_max_position_embeddings")
        if isinstance(length, int) and not isinstance(length, bool) and length > 0:
            return length
    if (length := config.get("max_position_embeddings")) is not None and rope.get("rope_type", rope.get("type")) == "dynamic":
        return int(length)
    raise Unreadable("config.json: a rope scaling of its kind needs original_max_position_embeddings.")


def chat_template(folder: Path) -> str | None:
    """The folder's own; None where it has none. Raises Unreadable."""
    path = folder / TEMPLATE_FILE
    if path.exists():
        return _text(path)
    found = read_tokenizer_config(folder).get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((one.get("template") for one in found if isinstance(one, dict) and one.get("name") == "default"), None)
    if found is not None and not isinstance(found, str):
        raise Unreadable("tokenizer_config.json: its chat_template is no text.")
    return found or None


def _text(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise Unreadable(f"{path.name} is no file, or larger than {MAX_BYTES >> 20} MiB.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Unreadable(f"{path.name} cannot be read as UTF-8.") from None


def read_tokenizer_config(folder: Path) -> Mapping[str, Any]:
    """Empty where there is none. Raises Unreadable."""
    return _object(folder / "tokenizer_config.json")


def named_tokens(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """Its special tokens by their names ("bos_token"), as a template knows them."""
    found = {}
    for name, said in tokenizer_config.items():
        token = said.get("content") if isinstance(said, dict) else said
        if name.endswith("_token") and isinstance(token, str) and token:
            found[name] = token
    return found


def end_tokens(folder: Path, config: Mapping[str, Any]) -> list[int]:
    """What generation_config.json names, else config.json. Raises Unreadable."""
    for name, said in (("generation_config.json", _object(folder / "generation_config.json")), ("config.json", config)):
        ids = said.get("eos_token_id")
        ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
        if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in ids):
            raise Unreadable(f"{name}: eos_token_id is no number of a token, nor a list of them.")
        if ids:
            return ids
    return []


def _object(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise Unreadable(f"{path.name} is no object.")
    return found
