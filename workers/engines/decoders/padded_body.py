"""The body of a causal language model whose attention is code of its own: its forward as transformers' own `generate` calls it, a batch of
rows that are padded on the left, with our cache in the place of transformers'.

Slower than :mod:`workers.engines.decoders.body`: keys and values are copied at each step, and each piece of a prompt is a call of its own.
"""

from inspect import Parameter, signature
from typing import Any, Final

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from workers.engines.decoders.attention import Piece, Speaking, StepPlan
from workers.engines.decoders.cache import Shape, Shelf


class PaddedBody:
    """``model``: as of `Body`, of a padded family, whose layers keep keys and values of one shape. ``shares``: no row reads what another's
    prompt made."""

    shares: Final = False

    def __init__(self, model: Any, device: torch.device) -> None:
        self._base = model.base_model.eval()
        known = signature(self._base.forward).parameters
        self._takes_positions = "position_ids" in known or any(one.kind is Parameter.VAR_KEYWORD for one in known.values())
        self.shape = self._found(model, device)

    def _found(self, model: Any, device: torch.device) -> Shape:
        """What the family's own cache holds after a token."""
        cache: Any = DynamicCache(config=model.config)
        with torch.inference_mode():
            self._base(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=cache, use_cache=True)
        [(heads, dimensions, of_values)] = {(one.keys.shape[1], one.keys.shape[3], one.values.shape[3]) for one in cache.layers}
        return Shape(len(cache.layers), heads, dimensions, model.dtype, device, value_dimensions=of_values)

    def __call__(self, ids: Tensor, positions: Tensor, step_plan: StepPlan) -> Tensor:
        """[tokens] -> [tokens, hidden size]"""
        parts: list[Speaking | Piece] = [*step_plan.speaking, *step_plan.pieces]
        return torch.cat([self._forward(part, ids[part.tokens], positions[part.tokens]) for part in parts])

    def _forward(self, part: Speaking | Piece, ids: Tensor, positions: Tensor) -> Tensor:
        rows = _Rows.of(part)
        count = len(rows.slots)
        where = {"position_ids": positions.view(count, -1)} if self._takes_positions else {}
        output = self._base(
            input_ids=ids.view(count, -1),
            attention_mask=rows.mask,
            past_key_values=Cache(layers=[_Layer(rows, number) for number in range(self.shape.layers)]),
            use_cache=True,
            **where,
        )
        hidden: Tensor = output.last_hidden_state.flatten(0, 1)
        return hidden


class _Rows:
    """Rows of one shelf that say or read ``new`` tokens each: ``slots``, and their ``lengths`` with these."""

    def __init__(self, shelf: Shelf, slots: Tensor, lengths: Tensor, new: int) -> None:
        self.shelf, self.slots, self.new = shelf, slots, new
        self.longest = int(lengths.max())
        columns = torch.arange(self.longest, device=slots.device)
        at = columns - (self.longest - lengths[:, None])  # of each column, where it stands in its row
        self.mask = (at >= 0).long()
        self.at = at.clamp_min(0)

    @classmethod
    def of(cls, part: Speaking | Piece) -> "_Rows":
        if isinstance(part, Speaking):
            slots = part.slots if part.slots is not None else torch.arange(len(part.lengths), device=part.lengths.device)
            return cls(part.shelf, slots, part.lengths[slots], 1)
        shelf, new = part.place.shelf, part.tokens.stop - part.tokens.start
        assert shelf is not None
        assert part.behind is None, "it reads no tree of choices: the card of such a model does no more than generate"
        slot = torch.tensor([part.place.slot], device=shelf.keys.device)
        return cls(shelf, slot, torch.full_like(slot, part.start + new), new)

    def put(self, cached: Tensor, new: Tensor) -> Tensor:
        """``cached`` [slots, capacity, heads, dimensions] takes the tokens of ``new`` [rows, heads, new, dimensions]. Gives all of these
        rows, padded on the left: [rows, heads, longest, dimensions]."""
        own = self.slots[:, None]
        cached[own, self.at[:, -self.new :]] = new.transpose(1, 2).to(cached.dtype)
        return cached[own, self.at].transpose(1, 2)


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer of a cache as transformers' modules know it. Of a window they are given all, for the mask knows what is in it."""

    def __init__(self, rows: _Rows, number: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows, self._number = rows, number

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        shelf = self._rows.shelf
        return self._rows.put(shelf.keys[self._number], key_states), self._rows.put(shelf.values[self._number], value_states)

    def get_seq_length(self) -> int:
        return self._rows.longest - self._rows.new

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._rows.longest, 0
