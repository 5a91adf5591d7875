"""Small decoders with random weights as folders like those of a hub, with chat templates as models in use have them."""

import json
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.workers.engines.decoders.families import model_of

CONTROL: Final = (
    *("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<start_of_turn>", "<end_of_turn>"),
)
THINKING: Final = ("<think>", "</think>")  # added, and not special
TEXTS: Final = ("the goal was late again", "What is the capital of France? It is Paris.", "a user and an assistant, in a system\n\n")
VOCABULARY: Final = 352  # some more than the tokenizer has, as models are padded to

CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES: Final = {
    "chatml": CHATML,
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}"
        "{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama-3": (
        "{{- bos_token }}\n{%- if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}\n"
        "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}"
        "{%- else %}{%- set system_message = '' %}{%- endif %}\n"
        "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Today Date: ' + date_string + '\n\n' }}{{- system_message }}"
        "{{- '<|eot_id|>' }}\n{%- for message in messages %}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
    ),
    "phi-3": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    "thinking": (
        "{%- set ns = namespace(last=messages|length - 1) %}{%- macro turn(role, content) %}"
        "{{- '<|im_start|>' + role + '\n' + content + '<|im_end|>\n' }}{%- endmacro %}"
        "{%- for message in messages %}{%- if message.content is string %}{%- set content = message.content %}"
        "{%- else %}{%- set content = '' %}{%- endif %}{%- if message.role == 'assistant' %}"
        "{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
        "{% generation %}{{- turn(message.role, content) }}{% endgeneration %}"
        "{%- else %}{{- turn(message.role, content) }}{%- endif %}{%- if loop.index0 > 99 %}{%- break %}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
        "{%- if tools %}{{- tools | tojson }}{%- endif %}"
    ),
}


def byte_tokenizer() -> Tokenizer:
    """BPE over bytes, as of GPT-2, Llama 3 and Qwen."""
    made = Tokenizer(models.BPE(unk_token=None))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=330, special_tokens=list(CONTROL), initial_alphabet=sorted(alphabet)))
    made.add_tokens(list(THINKING))
    return made


def word_tokenizer() -> Tokenizer:
    """Every word is a token, those that are control tokens too."""
    words = (*CONTROL, *THINKING, *sorted({word for text in TEXTS for word in text.split()}), "user", "assistant", "system")
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(list(CONTROL))
    return made


def piece_tokenizer() -> Tokenizer:
    """Pieces with scores, as SentencePiece has them, the control tokens among them."""
    letters = sorted({letter for text in (*TEXTS, *CONTROL) for letter in text} - {" ", "\n"})
    pieces = [*((token, 0.0) for token in CONTROL), *((letter, -5.0) for letter in (*letters, "▁")), ("▁the", -2.0), ("user", -2.0)]
    made = Tokenizer(models.Unigram(list(pieces), unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    made.add_special_tokens(list(CONTROL))
    return made


def merging_tokenizer() -> Tokenizer:
    """Merges lead to control tokens, as they may in a vocabulary that was made by hand."""
    letters = sorted({letter for text in (*TEXTS, *CONTROL) for letter in text})
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(CONTROL))} | {}
    merges: list[tuple[str, str]] = []
    for letter in letters:
        vocabulary.setdefault(letter, len(vocabulary))
    for token in ("</s>", "<|im_end|>"):
        for at in range(2, len(token) + 1):
            vocabulary.setdefault(token[:at], len(vocabulary))
            merges.append((token[: at - 1], token[at - 1]))
    made = Tokenizer(models.BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<unk>"))
    made.normalizer = normalizers.NFC()
    made.add_special_tokens(list(CONTROL))
    return made


TOKENIZERS: Final = {"bytes": byte_tokenizer, "words": word_tokenizer, "pieces": piece_tokenizer, "merges": merging_tokenizer}


def make(folder: Path, family: str = "llama", *, template: str | None = CHATML, tokenizer: str = "bytes", **config: Any) -> Any:
    """Writes the model, and returns transformers' own. Its answers end with "</s>" or "<|im_end|>"."""
    made = TOKENIZERS[tokenizer]()
    ends = [made.token_to_id("</s>"), made.token_to_id("<|im_end|>")]
    model = model_of(family, **{"vocab_size": VOCABULARY, "eos_token_id": ends[0], "max_position_embeddings": 512} | config)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    write_tokenizer(folder, made, template)
    return model


def write_tokenizer(folder: Path, tokenizer: Tokenizer, template: str | None) -> None:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")  # type: ignore[no-untyped-call]
    fast.save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)


def change(path: Path, **values: object) -> None:
    """Some values of a JSON file, others as they are; None takes one out."""
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({name: value for name, value in {**before, **values}.items() if value is not None}))
