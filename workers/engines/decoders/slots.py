"""The rows that one lane has under way in torch: plain batches, one after the other.

A batch is padded on the left and run until its last row has ended; a row that ends gives up its place at once, so the steps after it are
cheaper. Each row has its own limits, temperature and random stream, so what it samples does not depend on which rows run beside it (in
bf16 the last bits of its logits still may).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DynamicCache

from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import DecoderRow, Finished, Room
from workers.engines.contract.torch_errors import translated
from workers.engines.decoders.sampling import sample
from workers.engines.decoders.saying import Saying

ROWS: Final = 32
TOKENS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Loaded:
    """What lanes share. ``end_ids`` end an answer; ``turn_ids`` would begin the next turn of a chat."""

    model: Any
    tokenizer: Tokenizer
    device: torch.device
    end_ids: list[int]
    turn_ids: list[int]


class TorchSlots:
    def __init__(self, loaded: Loaded) -> None:
        self._decoder = loaded
        self._new: list[DecoderRow] = []
        self._live: list[_Place] = []
        self._cache: DynamicCache | None = None
        self._inputs: tuple[Tensor, Tensor, Tensor]  # ids, mask and positions of the next step

    def room(self) -> Room:
        return Room(0, 0) if self._live else Room(ROWS - len(self._new), TOKENS - sum(row.tokens for row in self._new))

    def add(self, rows: Sequence[DecoderRow]) -> None:
        self._new += rows

    def cancel(self, row: DecoderRow) -> None:
        self._new = [one for one in self._new if one is not row]
        self._keep([at for at, place in enumerate(self._live) if place.saying.row is not row])

    def step(self) -> Sequence[Finished]:
        try:
            with torch.inference_mode(), translated():
                if not self._live:
                    self._begin()
                return self._step() if self._live else []
        except BaseException:
            self._new, self._live, self._cache = [], [], None
            raise

    def _begin(self) -> None:
        decoder = self._decoder
        self._live = [_Place(Saying(row, decoder.tokenizer, decoder.end_ids)) for row in self._new]
        self._new = []
        rows = [place.saying.row for place in self._live]
        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, longest - len(row.ids) :] = torch.from_numpy(row.ids)
            mask[place, longest - len(row.ids) :] = 1
        ids, mask = ids.to(decoder.device), mask.to(decoder.device)
        self._inputs = ids, mask, (mask.cumsum(1) - 1).clamp_(min=0)
        self._cache = DynamicCache(config=decoder.model.config)

    def _step(self) -> list[Finished]:
        ids, mask, positions = self._inputs
        output = self._decoder.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        ids, ended = self._next_tokens(output.logits[:, -1].float())
        self._inputs = ids[:, None], mask, positions
        self._keep([at for at, place in enumerate(self._live) if not place.ended])
        ids, mask, positions = self._inputs
        self._inputs = ids, torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1), positions[:, -1:] + 1
        return ended

    def _next_tokens(self, logits: Tensor) -> tuple[Tensor, list[Finished]]:
        """One token a row, after which the row may have ended. `logits` [n, V], fp32."""
        for at, place in enumerate(self._live):
            if place.saying.blank:
                chat_ids = self._decoder.turn_ids if place.saying.row.is_chat else []
                logits[at, self._decoder.end_ids + chat_ids] = -torch.inf
        highest, likeliest = logits.max(dim=1)
        sound, tokens = highest.isfinite().tolist(), likeliest.tolist()
        ended: list[Finished] = []
        for at, place in enumerate(self._live):
            saying, sampling = place.saying, place.saying.row.sampling
            if not sound[at]:
                place.ended = True
                ended.append(Finished(saying.row, FailedRow("non_finite_output")))
                continue
            if sampling.temperature > 0:
                tokens[at] = sample(logits[at], sampling.temperature, sampling.top_p, place.random.random())
            saying.take(tokens[at])
            if saying.ending is not None:
                place.ended = True
                ended.append(Finished(saying.row, saying.answer()))
        return torch.tensor(tokens, device=self._decoder.device), ended

    def _keep(self, kept: list[int]) -> None:
        if len(kept) == len(self._live):
            return
        self._live = [self._live[at] for at in kept]
        if not self._live or self._cache is None:
            self._cache = None
            return
        places = torch.tensor(kept, device=self._decoder.device)
        self._cache.batch_select_indices(places)
        ids, mask, positions = self._inputs
        self._inputs = ids[places], mask[places], positions[places]


class _Place:
    def __init__(self, saying: Saying) -> None:
        seed = saying.row.sampling.seed
        self.saying = saying
        self.random = np.random.default_rng(None if seed is None else seed % 2**64)  # one for each seed, below zero too
        self.ended = False
