"""A causal language model in transformers: plain batches, one after the other.

A batch is padded on the left and run until its last row has ended; a row that ends gives up its place at once, so the steps after it are
cheaper. Each row has its own limits, temperature and random stream, so what it samples does not depend on which rows run beside it (in
bf16 the last bits of its logits still may). An answer may not end before it has said something: until then the end token is barred, in a
chat the first token of what would begin the next turn too, and no stop text counts.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging as transformers_logging

from db.errors import TextmillError
from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.engines.contract.engine import Generation
from workers.engines.contract.generation import GenerateRequest, Message, before_stop
from workers.engines.contract.plan import Format
from workers.engines.contract.torch_errors import translated
from workers.engines.decoders import chat
from workers.engines.decoders.detokenizing import Detokenizer, StopSearch
from workers.engines.decoders.sampling import sample
from workers.models.card import ModelCard

LONGEST_TOKEN_CHARS = 31  # of Gemma's vocabulary; they are runs of spaces, tabs and line ends
END_TOKENS = ("<eos>", chat.END_OF_TURN.token)


class TorchDecoder:
    """Reads safetensors only, from `folder` only. Weights are never written, so lanes share one instance; one torch thread a lane."""

    def __init__(self, card: ModelCard, folder: Path, *, device: str, number_format: Format) -> None:
        if card.chat == "none":
            raise TextmillError(f"{card.id}: the registry does not say how to chat with it.", code="bad_registry")
        torch.set_num_threads(1)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a log is no terminal
        self.model_version = f"{card.id}@{card.files['model.safetensors'][:12]}+transformers-{number_format}"
        self.max_tokens = card.max_tokens
        self.chat_stop = chat.stop_strings(card.chat)
        self._style = card.chat
        self._device = torch.device(device)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True  # a control token spelt in a prompt is text, see chat.py
        self._model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, number_format),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
        )
        self._model.to(device=device).eval()  # type: ignore[call-arg]
        self._end_ids = [self._control(token) for token in END_TOKENS]
        self._turn_ids = [self._encode(stop.strip())[0] for stop in self.chat_stop]

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

    def generate(self, batch: Sequence[GenerateRequest]) -> list[Generation | FailedRow]:
        rows = [_Row(item, self._tokenizer) for item in batch]
        with torch.inference_mode(), translated():
            self._run(rows)
        return [row.outcome(self._tokenizer) for row in rows]

    def _run(self, rows: list["_Row"]) -> None:
        """Fills in every row's `ids` and `ending`."""
        longest = max(len(row.item.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, longest - len(row.item.ids) :] = torch.from_numpy(row.item.ids)
            mask[place, longest - len(row.item.ids) :] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        positions = (mask.cumsum(1) - 1).clamp_(min=0)
        cache = DynamicCache(config=self._model.config)
        live = list(rows)
        while True:
            output = self._model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            tokens = self._next_tokens(live, output.logits[:, -1].float())
            kept = [place for place, row in enumerate(live) if row.ending is None]
            if not kept:
                return
            ids = torch.tensor([[tokens[place]] for place in kept], device=self._device)
            if len(kept) < len(live):
                places = torch.tensor(kept, device=self._device)
                cache.batch_select_indices(places)
                mask, positions = mask[places], positions[places]
                live = [live[place] for place in kept]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            positions = positions[:, -1:] + 1

    def _next_tokens(self, rows: list["_Row"], logits: Tensor) -> list[int]:
        """One token a row, after which the row may have ended. `logits` [n, V], fp32."""
        for place, row in enumerate(rows):
            if row.blank:
                barred = self._end_ids if row.item.prompt is not None else self._end_ids + self._turn_ids
                logits[place, barred] = -torch.inf
        highest, likeliest = logits.max(dim=1)
        sound, greedy = highest.isfinite().tolist(), likeliest.tolist()
        for place, row in enumerate(rows):
            if row.item.abandoned is not None and row.item.abandoned.is_set():
                row.ending = "abandoned"
                continue
            if not sound[place]:
                row.ending = "non_finite"
                continue
            if row.item.temperature > 0:
                greedy[place] = sample(logits[place], row.item.temperature, row.item.top_p, row.random.random())
            row.take(greedy[place], self._end_ids)
        tokens: list[int] = greedy
        return tokens


class _Row:
    """A prompt on its way: what it has said so far and why it ended."""

    def __init__(self, item: GenerateRequest, tokenizer: Tokenizer) -> None:
        self.item = item
        self.random = np.random.default_rng(None if item.seed is None else item.seed % 2**64)  # one for each seed, below zero too
        self.ids: list[int] = []
        self.blank = True  # nothing but space so far
        self.ending: str | None = None  # stop | length | non_finite | abandoned
        self._said = False  # in settled text something but space
        self._text = Detokenizer(tokenizer)
        self._stops = StopSearch(item.stop)

    def take(self, token: int, end_ids: Sequence[int]) -> None:
        if token in end_ids:
            self.ending = "stop"
            return
        self.ids.append(token)
        if self.blank or self.item.stop:
            settled, open_text = self._text.add(token), self._text.open_text
            if not self._said:
                settled = settled.lstrip()
                open_text = open_text if settled else open_text.lstrip()
                self._said = bool(settled)
            self.blank = not self._said and not open_text
            if self._stops.found(settled, open_text):
                self.ending = "stop"
                return
        if len(self.ids) >= self.item.max_tokens:
            self.ending = "length"

    def outcome(self, tokenizer: Tokenizer) -> Generation | FailedRow:
        if self.ending == "non_finite":
            return FailedRow("non_finite_output")
        text: str = tokenizer.decode(self.ids)
        said = text.lstrip()
        space = text[: len(text) - len(said)]
        return Generation(space + before_stop(said, self.item.stop), self.ids, self.ending or "length")
