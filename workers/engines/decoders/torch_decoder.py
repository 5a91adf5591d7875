"""A causal language model of transformers, as it is loaded: its weights, its tokenizer, its chat form."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from db.errors import TextmillError
from workers.arrays import Ids
from workers.batches.policy import Policy
from workers.engines.contract.generation import Message
from workers.engines.contract.plan import CPU_DECODER, Format
from workers.engines.decoders import chat
from workers.engines.decoders.body import Body
from workers.engines.decoders.head import Head
from workers.engines.decoders.slots import Loaded, TorchSlots
from workers.grammars.masks import Vocabulary
from workers.models.card import ModelCard

LONGEST_TOKEN_CHARS = 31  # of Gemma's vocabulary; they are runs of spaces, tabs and line ends
END_TOKENS = ("<eos>", chat.END_OF_TURN.token)


class TorchDecoder:
    """Reads safetensors only, from `folder` only. Weights are never written, so lanes share one instance."""

    def __init__(
        self, card: ModelCard, folder: Path, *, device: str, number_format: Format, policy: Policy = CPU_DECODER, threads: int = 1
    ) -> None:
        if card.chat == "none":
            raise TextmillError(f"{card.id}: the registry does not say how to chat with it.", code="bad_registry")
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a log is no terminal
        self.model_version = f"{card.id}@{card.files['model.safetensors'][:12]}+transformers-{number_format}"
        self.max_tokens = card.max_tokens
        self.chat_stop = chat.stop_strings(card.chat)
        self._style = card.chat
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True  # a control token spelt in a prompt is text, see chat.py
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, number_format),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        model.to(device=device).eval()  # type: ignore[call-arg]
        end_ids = [self._control(token) for token in END_TOKENS]
        head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._loaded = Loaded(
            body=Body(model, torch.device(device)),
            head=Head(head.weight, head.bias, getattr(model.config, "final_logit_softcapping", None)),
            tokenizer=self._tokenizer,
            end_ids=end_ids,
            turn_ids=[self._encode(stop.strip())[0] for stop in self.chat_stop],
            rows=policy.max_rows,
            tokens=policy.budget_tokens,
            threads=threads,
        )
        self.vocabulary = Vocabulary.of(self._tokenizer.to_str, head.weight.shape[0], end_ids)

    def tokenize_chat(self, messages: Sequence[Message]) -> Ids:
        ids: list[int] = []
        for piece in chat.script(messages, self._style):
            ids += [self._control(piece.token)] if isinstance(piece, chat.Control) else self._encode(piece)
        return np.array(ids, dtype=np.int32)

    def tokenize_prompt(self, prompt: str) -> Ids:
        return np.array([self._control(chat.BOS.token), *self._encode(prompt)], dtype=np.int32)

    def _control(self, token: str) -> int:
        number: int | None = self._tokenizer.token_to_id(token)
        if number is None:
            raise TextmillError(f"The tokenizer of this model has no {token}, which its chat format needs.", code="bad_registry")
        return number

    def _encode(self, text: str) -> list[int]:
        """Of a text that is certain to be too long, the ids of its head: still too long, and not minutes of work."""
        head = text[: self.max_tokens * LONGEST_TOKEN_CHARS + 1]
        ids: list[int] = self._tokenizer.encode(head, add_special_tokens=False).ids
        return ids

    def slots(self) -> TorchSlots:
        return TorchSlots(self._loaded)
