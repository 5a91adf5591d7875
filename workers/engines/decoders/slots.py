"""The rows that one lane has under way in torch.

A step is one call of the model over one packed sequence: a token of each row that speaks, and of the prompts that are not read yet as much
as fits `PROMPT_TOKENS`, so that a long prompt keeps nobody waiting. What prompts of a tenant have in common is read once, by the first row
of them; the others wait for it. Each row has its own limits and random stream, so what it says does not depend on which rows run beside it
but for the last bits of its logits.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import Answer, DecoderRow, Finished, Room
from workers.engines.contract.torch_errors import translated
from workers.engines.decoders.attention import Part, plan_step
from workers.engines.decoders.body import Body
from workers.engines.decoders.cache import ALIKE, Cache, Place, Prefix
from workers.engines.decoders.head import Head, best_of
from workers.engines.decoders.padded_body import PaddedBody
from workers.engines.decoders.sampling import change, draw, logprob_of
from workers.engines.decoders.saying import Saying
from workers.engines.decoders.scoring import Scoring, take_all

PROMPT_TOKENS: Final = 512  # in a step
PREFIX_SHARE: Final = 4  # a lane's prefixes that nobody uses are kept up to this part of its tokens


@dataclass(frozen=True, slots=True)
class Loaded:
    """What lanes share. ``end_ids`` end an answer; ``turn_ids`` would begin the next turn of a chat. ``rows`` and ``tokens``: of a lane's
    slots. ``threads``: that a lane computes with."""

    body: Body | PaddedBody
    head: Head
    tokenizer: Tokenizer
    end_ids: Sequence[int]
    turn_ids: Sequence[int]
    rows: int
    tokens: int
    threads: int = 1


class _Seat:
    """A row under way: its ``place`` in the cache, the ``ids`` to read before it answers, the prefix it waits for."""

    def __init__(self, row: DecoderRow, loaded: Loaded) -> None:
        seed = row.sampling.seed
        self.row = row
        self.scoring = None if row.choices is None else Scoring(row.choices)
        self.ids = row.ids if row.choices is None else np.concatenate([row.ids, row.choices.tokens])
        self.saying = Saying(row, loaded.tokenizer, loaded.end_ids)
        self.random = np.random.default_rng(None if seed is None else seed % 2**64)  # one for each seed, below zero too
        self.place = Place()
        self.waits_for: Prefix | None = None
        self.makes: Prefix | None = None
        self.cached_tokens = 0
        self.last = 0  # the token that it said last

    @property
    def unread(self) -> int:
        return max(0, len(self.ids) - self.place.seen)


class TorchSlots:
    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._device = loaded.body.shape.device
        self._reset()

    def _reset(self) -> None:
        self._seats: dict[DecoderRow, _Seat] = {}
        self._reading: list[_Seat] = []
        self._cache = Cache(self._loaded.body.shape, self._loaded.tokens // PREFIX_SHARE)

    def room(self) -> Room:
        return Room(self._loaded.rows - len(self._seats), self._loaded.tokens - sum(row.tokens for row in self._seats))

    def kv_tokens(self) -> int:
        return self._cache.tokens()

    def add(self, rows: Sequence[DecoderRow]) -> None:
        seats = [_Seat(row, self._loaded) for row in rows]
        self._seats |= {seat.row: seat for seat in seats}
        self._reading += seats
        for seat in seats:
            if seat.row.tenant is not None and self._loaded.body.shares:
                self._share(seat)

    def _share(self, seat: _Seat) -> None:
        """Finds what the row's prompt has in common with one before it, or much more with one that waits with it."""
        tenant, ids = seat.row.tenant, seat.row.ids
        found, tokens = self._cache.find(tenant, ids)
        if tokens < ALIKE * len(ids):
            others = [one.row.ids for one in self._reading if one is not seat and one.row.tenant == tenant and one.waits_for is None]
            seat.makes = self._cache.plan(tenant, ids, others, seat.place, tokens)
        if seat.makes is None:
            seat.waits_for = found

    def cancel(self, row: DecoderRow) -> None:
        seat = self._seats.get(row)
        if seat is not None:
            self._leave(seat)

    def _leave(self, seat: _Seat, *, is_sound: bool = True) -> None:
        del self._seats[seat.row]
        if seat in self._reading:
            self._reading.remove(seat)
        self._cache.leave(seat.place, is_sound=is_sound)

    def step(self) -> Sequence[Finished]:
        if not self._seats:
            return []
        if torch.get_num_threads() != self._loaded.threads:  # of this thread alone
            torch.set_num_threads(self._loaded.threads)
        try:
            with torch.inference_mode(), translated():
                return self._step()
        except BaseException:
            self._reset()
            raise

    def _step(self) -> list[Finished]:
        pieces = self._pieces()
        speaking = [seat for seat in self._seats.values() if not seat.unread]
        for place, tokens, *_ in (*(Part(seat.place, 1) for seat in speaking), *(part for _, part in pieces)):
            self._cache.make_room(place, tokens)
        self._cache.close_up()
        speaking.sort(key=lambda seat: (seat.place.shelf.capacity if seat.place.shelf else 0, seat.place.slot))
        plan = plan_step([seat.place for seat in speaking], [part for _, part in pieces], self._device)
        ids = [seat.last for seat in speaking]
        positions = [seat.place.seen for seat in speaking]
        ends = list(range(len(speaking)))
        asked = list(speaking)
        scored: list[tuple[_Seat, slice]] = []
        for seat, part in pieces:
            begin = seat.place.seen
            ids += seat.ids[begin : begin + part.tokens].tolist()
            positions += part.positions(begin).tolist()
            if seat.scoring is not None:
                scored.append((seat, slice(len(ids) - part.tokens + max(0, part.prompt - 1 - begin), len(ids))))
            elif seat.unread == part.tokens:
                ends.append(len(ids) - 1)
                asked.append(seat)
        hidden = self._loaded.body(torch.tensor(ids, device=self._device), torch.tensor(positions, device=self._device), plan)
        for seat in speaking:
            seat.place.length += 1
        for seat, part in pieces:
            self._has_read(seat, part.tokens)
        said = self._say(asked, hidden[torch.tensor(ends, device=self._device)]) if asked else []
        return said + self._score([(seat, hidden[places]) for seat, places in scored if places.start < places.stop])

    def _pieces(self) -> list[tuple[_Seat, Part]]:
        """Of which prompts the step reads how many tokens, in the order of the rows' turns."""
        left, pieces = PROMPT_TOKENS, list[tuple[_Seat, Part]]()
        for seat in self._reading:
            if seat.waits_for is not None and not self._borrows(seat):
                continue
            tokens = min(left, seat.unread)
            if tokens == 0:
                break
            pieces.append((seat, Part(seat.place, tokens, len(seat.row.ids), seat.row.choices)))
            left -= tokens
        return pieces

    def _borrows(self, seat: _Seat) -> bool:
        """Whether the row has what it waited for, or waits no longer: its maker has gone."""
        prefix = seat.waits_for
        assert prefix is not None
        if prefix.keys is not None:
            seat.cached_tokens = prefix.lend(seat.place, seat.row.ids)
        elif prefix.maker is not None:
            return False
        seat.waits_for = None
        return True

    def _has_read(self, seat: _Seat, tokens: int) -> None:
        seat.place.length += tokens
        if seat.makes is not None and seat.place.length >= len(seat.makes.ids):
            seat.makes.make(seat.place)
            seat.makes = None
        if not seat.unread:
            self._reading.remove(seat)

    # What is held of the choices of rows that score.

    def _score(self, seats: list[tuple[_Seat, Tensor]]) -> list[Finished]:
        """Of each row the hidden states at its next places."""
        scorings = [(seat.scoring, hidden) for seat, hidden in seats if seat.scoring is not None]
        take_all(self._loaded.head, [one for one, _ in scorings], [hidden for _, hidden in scorings])
        finished = []
        for seat, _ in seats:
            if seat.scoring is not None and not seat.unread:
                answer = seat.scoring.answer(seat.cached_tokens)
                finished.append(self._end(seat, answer, is_sound=not isinstance(answer, FailedRow)))
        return finished

    # What the rows say next.

    def _say(self, seats: list[_Seat], hidden: Tensor) -> list[Finished]:
        """``hidden`` [n, hidden size]: one token a row, after which the row may have ended."""
        plain = [at for at, seat in enumerate(seats) if not _wants_exact(seat.row)]
        exact = [at for at, seat in enumerate(seats) if _wants_exact(seat.row)]
        tokens = [0] * len(seats)
        sound = [True] * len(seats)
        for places, is_exact in ((plain, False), (exact, True)):
            if places:
                own = [seats[at] for at in places]
                rows = hidden if len(places) == len(seats) else hidden[torch.tensor(places, device=self._device)]
                for at, (token, is_sound) in zip(places, self._choose(own, rows, is_exact=is_exact), strict=True):
                    tokens[at], sound[at] = token, is_sound
        return [ended for at, seat in enumerate(seats) if (ended := self._take(seat, tokens[at], is_sound=sound[at])) is not None]

    def _choose(self, seats: list[_Seat], hidden: Tensor, *, is_exact: bool) -> list[tuple[int, bool]]:
        """A token a row, and whether its numbers are sound."""
        head = self._loaded.head
        scores = head.exact(hidden) if is_exact else head.scores(hidden)
        for at, seat in enumerate(seats):
            self._bar(seat, scores[at])
            if seat.row.sampling.changes_logits:
                prompt = torch.from_numpy(np.unique(seat.row.ids)).to(self._device, torch.long)
                change(scores[at], seat.row.sampling, prompt, seat.saying.ids)
        highest, greedy = best_of(scores) if is_exact else head.greedy(hidden, scores)
        sound, tokens = highest.isfinite().tolist(), greedy.tolist()
        drawn = [at for at, seat in enumerate(seats) if seat.row.sampling.temperature > 0 and sound[at]]
        if drawn:
            index = torch.tensor(drawn, device=self._device)
            logits = scores[index] if is_exact else head.refine(hidden[index], scores[index])
            samplings = [seats[at].row.sampling for at in drawn]
            for at, token in zip(drawn, draw(logits, samplings, [seats[at].random.random() for at in drawn]), strict=True):
                tokens[at] = token
        for at, seat in enumerate(seats):
            if seat.saying.logprobs is not None and sound[at] and tokens[at] not in self._loaded.end_ids:
                seat.saying.logprobs.append(logprob_of(scores[at], tokens[at], seat.row.sampling.top_logprobs or 0))
        return list(zip(tokens, sound, strict=True))

    def _bar(self, seat: _Seat, scores: Tensor) -> None:
        """What the row may not say now: what its mask bars, or before it has said something, what would end it."""
        if seat.row.mask is not None:
            bits = np.zeros(-(-len(scores) // 32), np.int32)
            if seat.row.mask.fill(bits):
                allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[: len(scores)].astype(bool)
                scores.masked_fill_(torch.from_numpy(~allowed).to(self._device), -torch.inf)
        elif seat.saying.blank:
            barred = [*self._loaded.end_ids, *(self._loaded.turn_ids if seat.row.is_chat else ())]
            scores[torch.tensor(barred, dtype=torch.long, device=self._device)] = -torch.inf

    def _take(self, seat: _Seat, token: int, *, is_sound: bool) -> Finished | None:
        if not is_sound:
            return self._end(seat, FailedRow("non_finite_output"), is_sound=False)
        seat.last = token
        if seat.row.first_token_at is None:
            seat.row.first_token_at = time.perf_counter()
        seat.saying.take(token)
        if seat.row.mask is not None and seat.row.mask.take(token):
            seat.saying.ending = "stop"
        if seat.saying.ending is None:
            return None
        return self._end(seat, seat.saying.answer(seat.cached_tokens))

    def _end(self, seat: _Seat, answer: Answer | FailedRow, *, is_sound: bool = True) -> Finished:
        if is_sound and seat.row.tenant is not None and self._loaded.body.shares:
            self._cache.retain(seat.row.tenant, seat.row.ids, seat.place)
        self._leave(seat, is_sound=is_sound)
        return Finished(seat.row, answer)


def _wants_exact(row: DecoderRow) -> bool:
    return row.sampling.changes_logits or row.sampling.top_logprobs is not None
