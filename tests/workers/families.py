"""Small models with random weights of the families that people bring, as folders like those of a hub."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("the", "goal", "was", "late", "bank", "rate", "fell", "again", "and", "nobody", "saw", "it", "rise")
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")  # the padding token has id 0
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
DISTILLED = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
LABELS = {0: "calm", 1: "cross", 2: "glad"}
POSITIONS = 66

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SMALL),
    "minilm": ("Bert", {**SMALL, "hidden_act": "gelu_new"}),
    "roberta": ("Roberta", SMALL),
    "xlm-r": ("XLMRoberta", SMALL),
    "distilbert": ("DistilBert", DISTILLED),
    "deberta-v2": ("DebertaV2", {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "mpnet": ("MPNet", SMALL),
    "modernbert": ("ModernBert", {**SMALL, "global_attn_every_n_layers": 2, "local_attention": 16}),
}
PACKED = ("bert", "minilm", "roberta", "xlm-r", "distilbert")


def make(family: str, folder: Path, *, classifier: bool) -> Any:
    """Writes the model to the folder, and returns transformers' own, ready to be asked."""
    torch.manual_seed(len(family))
    name, shape = FAMILIES[family]
    vocabulary = {token: place for place, token in enumerate(SPECIAL + WORDS)}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(vocabulary),
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        **({"id2label": LABELS, "label2id": {label: place for place, label in LABELS.items()}} if classifier else {}),
        **shape,
    )
    build: Callable[[Any], Any] = getattr(transformers, f"{name}{'ForSequenceClassification' if classifier else 'Model'}")
    model = build(config).eval()
    with torch.no_grad():  # fresh biases are zero and fresh norms one: a weight that is mixed up or left out must show
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"]
    return model
