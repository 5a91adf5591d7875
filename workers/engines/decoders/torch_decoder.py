"""A causal language model of transformers, as it is loaded: its weights, and how it is spoken to."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoModelForCausalLM

from db.errors import TextmillError
from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.batches.policy import Policy
from workers.engines.contract.generation import Message
from workers.engines.contract.plan import CPU_DECODER, Format
from workers.engines.decoders.body import Body
from workers.engines.decoders.distributions import logprobs
from workers.engines.decoders.head import Head
from workers.engines.decoders.lora import merge
from workers.engines.decoders.padded_body import PaddedBody
from workers.engines.decoders.slots import Loaded, TorchSlots
from workers.engines.decoders.wording.house import HouseWording
from workers.engines.decoders.wording.own import OwnWording
from workers.engines.decoders.wording.wording import Wording
from workers.engines.folders.files import read_config
from workers.engines.folders.pretrained import load_pretrained
from workers.grammars.masks import Vocabulary
from workers.models.card import ModelCard
from workers.models.decoder_folder import PACKED

FIRST_ATTENTION = "eager"  # until ours takes its place; one that config.json names may be code on a hub


class TorchDecoder:
    """Reads safetensors only, from `folder` only. Weights are never written, so lanes share one instance. Raises OutOfMemory, and
    TextmillError "model_broken"."""

    def __init__(
        self, card: ModelCard, folder: Path, *, device: str, number_format: Format, policy: Policy = CPU_DECODER, threads: int = 1
    ) -> None:
        model = load_pretrained(AutoModelForCausalLM, folder, getattr(torch, number_format), attention=FIRST_ATTENTION)
        if card.adapter is not None:
            merge(model, card.adapter)
        model.to(device=device)
        way = "transformers" if model.config.model_type in PACKED else "transformers-padded"
        self.model_version = f"{card.weights_version}+{way}-{number_format}"
        head = Head.of_model(model)
        positions = getattr(model.config, "max_position_embeddings", None)
        self.max_tokens = card.max_tokens if positions is None else min(card.max_tokens, positions)
        self._wording = _wording(card, folder, vocabulary=head.vocabulary, max_tokens=self.max_tokens)
        self.chat_stop = self._wording.chat_stop
        self.asking = self._wording
        self._loaded = Loaded(
            body=body_of(model, torch.device(device)),
            head=head,
            tokenizer=self._wording.tokenizer,
            end_ids=self._wording.end_ids,
            turn_ids=self._wording.turn_ids,
            rows=policy.max_rows,
            tokens=policy.budget_tokens,
            threads=threads,
        )
        self.vocabulary = Vocabulary.of(self._wording.tokenizer.to_str, head.vocabulary, self._wording.end_ids)

    def tokenize_chat(self, messages: Sequence[Message]) -> Ids | FailedRow:
        return self._wording.chat(messages)

    def tokenize_prompt(self, prompt: str) -> Ids | FailedRow:
        return self._wording.prompt(prompt)

    def slots(self) -> TorchSlots:
        return TorchSlots(self._loaded)

    def logprobs(self, texts: Sequence[Ids], *, exact: bool) -> torch.Tensor:
        return logprobs(self._loaded, texts, exact=exact)

    def sized(self, *, threads: int, rows: int) -> Self:
        """The same weights, for lanes of so many threads and slots."""
        other = copy(self)
        other._loaded = replace(self._loaded, threads=threads, rows=rows)
        return other


def body_of(model: Any, device: torch.device) -> Body | PaddedBody:
    """Packed where the family's attention is ours to replace."""
    return (Body if model.config.model_type in PACKED else PaddedBody)(model, device)


def _wording(card: ModelCard, folder: Path, *, vocabulary: int, max_tokens: int) -> Wording:
    if card.folder is not None:
        return OwnWording(folder, read_config(folder), vocabulary=vocabulary, max_tokens=max_tokens)
    if card.chat not in ("plain", "gemma"):
        raise TextmillError(f"{card.id}: the registry does not say how to chat with it.", code="bad_registry")
    return HouseWording(folder, card.chat, max_tokens)
