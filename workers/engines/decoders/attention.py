"""Attention over the rows of one step, in the place of a transformers model's own.

A step is one packed sequence of tokens: one of each row that speaks, then pieces of prompts. Each token attends to its row's own tokens,
all speaking rows of a shelf in one padded call, and to the prefix it shares, all rows of a prefix in one call; the two are joined by their
normalisers (as in FlashDecoding and cascade inference). Sliding windows count absolute positions, so they reach back into a prefix.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface

from workers.engines.contract.choices import Choices
from workers.engines.decoders.cache import Place, Prefix, Shelf

NAME: Final = "textmill"

Window = int | None


class Masked(NamedTuple):
    """``bias``: zero, or minus infinity where a key is not attended to; None where all are. ``blind``: queries that attend to none."""

    bias: Tensor | None
    blind: Tensor | None = None


@dataclass(slots=True)
class Speaking:
    """The rows of one shelf that say a token each, the ``tokens`` of the step. ``slots`` None: the first ones of the shelf."""

    shelf: Shelf
    tokens: slice
    slots: Tensor | None
    lengths: Tensor  # of each slot that is looked at, the new token included; 0 where the row does not speak
    longest: int
    shortest: int

    def masked(self, window: Window) -> Masked:
        if self.shortest == self.longest and (window is None or self.longest <= window):
            return Masked(None)
        behind = self.lengths[:, None] - 1 - torch.arange(self.longest, device=self.lengths.device)
        barred = behind < 0 if window is None else (behind < 0) | (behind >= window)
        return Masked(_bias(barred)[:, None, None])


class Part(NamedTuple):
    """What a step reads of a row: its next ``tokens``. They are its prompt's, and behind the ``prompt`` those of a row's ``choices``."""

    place: Place
    tokens: int
    prompt: int = 0
    choices: Choices | None = None

    def positions(self, first: int) -> NDArray[np.int64]:
        """Of the row's tokens from ``first`` on up to the last of these. A token of a choice is behind the prompt and its own way only."""
        end = self.place.seen + self.tokens
        if self.choices is None or end <= self.prompt:
            return np.arange(first, end)
        own = max(first, self.prompt)
        return np.concatenate([np.arange(first, own), self.prompt + self.choices.depths[own - self.prompt : end - self.prompt]])

    def behind(self) -> NDArray[np.int64]:
        """[tokens, own ones up to the last]: how far each of the latter is behind; -1 where it is not on the way to the former."""
        shared, first = self.place.shared, self.place.seen
        positions = self.positions(shared)
        behind = positions[first - shared :, None] - positions
        if self.choices is None or (branches := first + self.tokens - self.prompt) <= 0:
            return behind
        own = max(0, first - self.prompt)
        seen = self.choices.on_the_way(own, branches)
        chosen = behind[own - branches :, -branches:]
        chosen[~seen] = -1
        return behind


@dataclass(slots=True)
class Piece:
    """Of a prompt: the ``tokens`` of the step that stand at ``start`` and after in the row's own. ``behind``: how far the others are behind
    each of them, where these are not simply one after another."""

    place: Place
    tokens: slice
    start: int
    behind: Tensor | None = None

    def masked(self, window: Window) -> Masked | None:
        """None: each attends to all before it, and there is nothing before the first."""
        end = self.start + self.tokens.stop - self.tokens.start
        if self.behind is None and self.start == 0 and (window is None or end <= window):
            return None
        behind = self.behind
        if behind is None:
            assert self.place.shelf is not None
            own = torch.arange(end, device=self.place.shelf.keys.device)
            behind = own[self.start :, None] - own
        barred = behind < 0 if window is None else (behind < 0) | (behind >= window)
        return Masked(_bias(barred))


@dataclass(slots=True)
class Sharing:
    """The tokens of a step whose rows share a prefix. ``shared``: how much of it each one's row does; ``positions``: where they stand."""

    prefix: Prefix
    tokens: Tensor
    shared: Tensor
    positions: Tensor

    def masked(self, window: Window) -> Masked:
        keys = torch.arange(len(self.prefix.ids), device=self.tokens.device)
        barred = keys >= self.shared[:, None]
        if window is not None:
            barred |= self.positions[:, None] - keys >= window
        if not bool(barred.any()):
            return Masked(None)
        return Masked(_bias(barred), barred.all(dim=1))


@dataclass(slots=True)
class StepPlan:
    """Which token of a step attends to what, for every layer: masks are made once for each window."""

    writes: list[tuple[Shelf, Tensor, Tensor]] = field(default_factory=list)  # tokens, and where they go in [slots · capacity]
    speaking: list[Speaking] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    sharing: list[Sharing] = field(default_factory=list)
    _masks: dict[tuple[int, Window], Masked | None] = field(default_factory=dict)

    def masked(self, part: Speaking | Piece | Sharing, window: Window) -> Masked | None:
        key = id(part), window
        if key not in self._masks:
            self._masks[key] = part.masked(window)
        return self._masks[key]


def plan_step(speaking: Sequence[Place], parts: Sequence[Part], device: torch.device) -> StepPlan:
    """``speaking``: in the order of their shelves' slots, those of a shelf one after another. The places' lengths do not count the step's
    tokens yet."""
    plan = StepPlan()
    goes: defaultdict[int, tuple[Shelf, list[int], list[int]]] = defaultdict()
    shares: dict[int, tuple[Prefix, list[int], list[int], list[int]]] = {}
    at = 0

    def put(part: Part) -> None:
        place, tokens = part.place, part.tokens
        shelf = place.shelf
        assert shelf is not None
        _, own, to = goes.setdefault(id(shelf), (shelf, [], []))
        own.extend(range(at, at + tokens))
        first = place.slot * shelf.capacity + place.length
        to.extend(range(first, first + tokens))
        if place.prefix is not None:
            _, sharers, shared, positions = shares.setdefault(id(place.prefix), (place.prefix, [], [], []))
            sharers.extend(range(at, at + tokens))
            shared.extend([place.shared] * tokens)
            positions.extend(part.positions(place.seen).tolist())

    by_shelf: dict[int, list[Place]] = {}
    for place in speaking:
        by_shelf.setdefault(id(place.shelf), []).append(place)
    for own in by_shelf.values():
        shelf = own[0].shelf
        assert shelf is not None
        begins = at
        for place in own:
            put(Part(place, 1))
            at += 1
        lengths = [place.length + 1 for place in own]
        slots = [place.slot for place in own]
        is_dense = slots == list(range(len(slots)))
        looked_at = lengths if is_dense else [0] * len(shelf.places)
        if not is_dense:
            for slot, length in zip(slots, lengths, strict=True):
                looked_at[slot] = length
        plan.speaking.append(
            Speaking(
                shelf,
                slice(begins, at),
                None if is_dense else torch.tensor(slots, device=device),
                torch.tensor(looked_at, device=device),
                max(lengths),
                min(looked_at),
            )
        )
    for part in parts:
        put(part)
        branches = part.choices is not None and part.place.seen + part.tokens > part.prompt
        behind = torch.from_numpy(part.behind()).to(device) if branches else None
        plan.pieces.append(Piece(part.place, slice(at, at + part.tokens), part.place.length, behind))
        at += part.tokens
    plan.writes = [(shelf, torch.tensor(own, device=device), torch.tensor(to, device=device)) for shelf, own, to in goes.values()]
    plan.sharing = [
        Sharing(prefix, *(torch.tensor(one, device=device) for one in (tokens, shared, positions)))
        for prefix, tokens, shared, positions in shares.values()
    ]
    return plan


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    step_plan: StepPlan,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """``query`` [1, heads, tokens, dimensions], ``key`` and ``value`` with as many heads or fewer, for all tokens of the step, rotated.
    Gives [1, tokens, heads, dimensions]. Writes the keys and values into their rows' places."""
    layer = module.layer_idx
    queries = query[0].transpose(0, 1)
    for written, own, to in step_plan.writes:
        for cached, new in ((written.keys, key), (written.values, value)):
            flat = cached[layer].flatten(0, 1)
            flat.index_copy_(0, to, new[0].transpose(0, 1)[own] if len(step_plan.writes) > 1 else new[0].transpose(0, 1))
    said = torch.empty_like(queries, memory_format=torch.contiguous_format)
    normalisers = queries.new_empty(queries.shape[:2], dtype=torch.float32)
    scale = scaling if scaling is not None else queries.shape[-1] ** -0.5

    for one in step_plan.speaking:
        out, normaliser = _speak(one, layer, queries[one.tokens], step_plan.masked(one, sliding_window), scale, softcap)
        said[one.tokens], normalisers[one.tokens] = out, normaliser
    for piece in step_plan.pieces:
        shelf, slot = piece.place.shelf, piece.place.slot
        assert shelf is not None
        end = piece.start + piece.tokens.stop - piece.tokens.start
        out, normaliser = _attend(
            query[:, :, piece.tokens],
            shelf.keys[layer, slot : slot + 1, :end].transpose(1, 2),
            shelf.values[layer, slot : slot + 1, :end].transpose(1, 2),
            step_plan.masked(piece, sliding_window),
            scale,
            softcap,
        )
        said[piece.tokens], normalisers[piece.tokens] = out[0].transpose(0, 1), normaliser[0].transpose(0, 1)
    for share in step_plan.sharing:
        _join(share, layer, query, said, normalisers, step_plan.masked(share, sliding_window), scale, softcap)
    return said[None], None


def _speak(one: Speaking, layer: int, queries: Tensor, masked: Masked | None, scale: float, softcap: float | None) -> tuple[Tensor, Tensor]:
    """``queries`` [rows, heads, dimensions]. The heads that share keys are taken as so many queries, so that no key is copied."""
    shelf, rows = one.shelf, len(one.lengths)
    if one.slots is not None:
        spread = queries.new_zeros(rows, *queries.shape[1:])
        spread[one.slots] = queries
        queries = spread
    keys = shelf.keys[layer, :rows, : one.longest].transpose(1, 2)
    values = shelf.values[layer, :rows, : one.longest].transpose(1, 2)
    grouped = queries.reshape(rows, keys.shape[1], -1, queries.shape[-1])
    out, normaliser = _attend(grouped, keys, values, masked, scale, softcap)
    out, normaliser = out.reshape(queries.shape), normaliser.reshape(queries.shape[:2])
    return (out, normaliser) if one.slots is None else (out[one.slots], normaliser[one.slots])


def _join(
    share: Sharing,
    layer: int,
    query: Tensor,
    said: Tensor,
    normalisers: Tensor,
    masked: Masked | None,
    scale: float,
    softcap: float | None,
) -> None:
    """Adds what the tokens of a prefix say to what the rows' own tokens said."""
    prefix = share.prefix
    assert prefix.keys is not None
    assert prefix.values is not None
    keys, values = (tensor[layer].transpose(0, 1)[None] for tensor in (prefix.keys, prefix.values))
    out, normaliser = _attend(query[:, :, share.tokens], keys, values, masked, scale, softcap)
    out, normaliser = out[0].transpose(0, 1), normaliser[0].transpose(0, 1)
    if masked is not None and masked.blind is not None:
        normaliser = normaliser.masked_fill(masked.blind[:, None], -torch.inf)
    weight = torch.sigmoid(normaliser - normalisers[share.tokens])[..., None]  # of the prefix, against the row's own
    said[share.tokens] = torch.lerp(said[share.tokens].float(), out.float(), weight).to(said.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor, masked: Masked | None, scale: float, softcap: float | None) -> tuple[Tensor, Tensor]:
    """What is said, and the logarithm of the normaliser: [n, heads, queries, dimensions] and [n, heads, queries], fp32. ``masked`` None: as
    many keys as queries, and each attends to those up to its own."""
    bias = None if masked is None else masked.bias
    if query.device.type == "cpu" and softcap is None:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        said, normaliser = flash(query, key, value, 0.0, masked is None, attn_mask=bias, scale=scale)
        return said, normaliser
    groups = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(groups, dim=1) if groups > 1 else one for one in (key, value))
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if masked is None:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, -torch.inf)
    elif bias is not None:
        scores = scores + bias
    normaliser = torch.logsumexp(scores, dim=-1)
    chances = torch.exp(scores - normaliser.masked_fill(normaliser == -torch.inf, 0.0)[..., None])
    return chances.to(value.dtype) @ value, normaliser


def _bias(barred: Tensor) -> Tensor:
    # Not in the default dtype: that is another one while a model is loaded beside.
    return torch.zeros(barred.shape, dtype=torch.float32, device=barred.device).masked_fill_(barred, -torch.inf)


AttentionInterface.register(NAME, attend)
