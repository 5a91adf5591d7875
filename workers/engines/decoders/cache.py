"""Keys and values of the rows that one lane has under way, and of the beginnings that prompts share.

A row's own tokens lie in a **shelf**: rows of alike length, padded to its capacity, so that one attention call takes all of them. A row
that outgrows its shelf moves to the next, of twice the capacity. Its place is filled by a row that comes, or by the last one of the shelf:
those in use are the first, always.

What rows of one tenant have in common at the beginning of their prompts is a **prefix**: computed once, read by all of them, and kept until
others need the room.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from workers.arrays import Ids

LEAST_CAPACITY: Final = 256  # tokens of a row in the first shelf
FIRST_ROWS: Final = 4  # of a new shelf, which doubles
LEAST_SHARED: Final = 64  # tokens: to keep fewer costs more than to compute them again
ALIKE: Final = 0.75  # of the longest beginning that a prompt shares with another: with those that share as much, it shares what all have


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the keys, and of the values, of one token. ``value_dimensions`` None: as many as of the keys."""

    layers: int
    heads: int
    dimensions: int
    dtype: torch.dtype
    device: torch.device
    value_dimensions: int | None = None

    def zeros(self, *places: int) -> tuple[Tensor, Tensor]:
        """Keys and values: what is not attended to counts nothing, but where it is no number."""
        of_each = (self.dimensions, self.value_dimensions or self.dimensions)
        keys, values = (torch.zeros((self.layers, *places, self.heads, one), dtype=self.dtype, device=self.device) for one in of_each)
        return keys, values


class Place:
    """Where a row's keys and values are: ``length`` tokens of its own in a slot of a shelf, behind ``shared`` of a prefix."""

    def __init__(self) -> None:
        self.shelf: Shelf | None = None
        self.slot = -1
        self.length = 0
        self.prefix: Prefix | None = None
        self.shared = 0

    @property
    def seen(self) -> int:
        return self.shared + self.length


class Shelf:
    """``keys`` and ``values`` [layers, slots, capacity, heads, dimensions]; ``places`` by slot."""

    def __init__(self, shape: Shape, capacity: int) -> None:
        self.capacity = capacity
        self.places: list[Place] = []
        self.keys, self.values = shape.zeros(0, capacity)
        self._shape = shape
        self._holes: list[int] = []

    def put(self, place: Place) -> None:
        if self._holes:
            place.slot = self._holes.pop()
            self.places[place.slot] = place
        else:
            place.slot = len(self.places)
            self.places.append(place)
            if place.slot == self.keys.shape[1]:
                self._grow()
        place.shelf = self

    def take(self, place: Place) -> None:
        self._holes.append(place.slot)
        place.shelf = None

    def close_up(self) -> None:
        """Moves rows into the places that are left, so that the first slots are those in use."""
        for hole in sorted(self._holes, reverse=True):
            last = self.places.pop()
            if hole < len(self.places):
                self.keys[:, hole, : last.length] = self.keys[:, last.slot, : last.length]
                self.values[:, hole, : last.length] = self.values[:, last.slot, : last.length]
                self.places[hole] = last
                last.slot = hole
        self._holes.clear()

    def _grow(self) -> None:
        rows = max(FIRST_ROWS, 2 * self.keys.shape[1])
        keys, values = self._shape.zeros(rows, self.capacity)
        for larger, before in ((keys, self.keys), (values, self.values)):
            larger[:, : before.shape[1]] = before
        self.keys, self.values = keys, values


class Prefix:
    """``ids`` of the beginning. ``keys`` and ``values`` [layers, tokens, heads, dimensions] are there once the prompt that brought it is so
    far, which is ``maker``'s."""

    def __init__(self, tenant: Hashable, ids: Ids, maker: Place | None) -> None:
        self.tenant = tenant
        self.ids = ids
        self.maker = maker
        self.users = 0
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def make(self, place: Place) -> None:
        """Out of a prompt whose own tokens begin with these. It reads the shared ones from now on."""
        shelf, tokens = place.shelf, len(self.ids)
        assert shelf is not None
        assert not place.shared
        own = shelf.keys[:, place.slot], shelf.values[:, place.slot]
        self.keys, self.values = (tensor[:, :tokens].clone() for tensor in own)
        for tensor in own:
            tensor[:, : place.length - tokens] = tensor[:, tokens : place.length].clone()
        place.length -= tokens
        self.maker = None
        self._give(place, tokens)

    def lend(self, place: Place, ids: Ids) -> int:
        """To a prompt of which nothing is read yet. Gives how many tokens it need not read."""
        self._give(place, common(self.ids, ids[:-1]))
        return place.shared

    def _give(self, place: Place, tokens: int) -> None:
        place.prefix, place.shared = self, tokens
        self.users += 1


class Cache:
    """``prefix_tokens``: as many are kept of prefixes that nobody uses."""

    def __init__(self, shape: Shape, prefix_tokens: int) -> None:
        self._shape = shape
        self._prefix_tokens = prefix_tokens
        self._shelves: dict[int, Shelf] = {}
        self._prefixes: list[Prefix] = []  # the one used last at the end

    def tokens(self) -> int:
        """That are held. From any thread: about right while rows come and go."""
        rows = sum(place.length for shelf in list(self._shelves.values()) for place in list(shelf.places) if place.shelf is shelf)
        return rows + sum(len(prefix.ids) for prefix in list(self._prefixes) if prefix.keys is not None)

    def make_room(self, place: Place, tokens: int) -> None:
        """For so many own ones more."""
        length = place.length + tokens
        before = place.shelf
        if before is not None and length <= before.capacity:
            return
        capacity = max(LEAST_CAPACITY, 1 << (length - 1).bit_length())
        shelf = self._shelves.setdefault(capacity, Shelf(self._shape, capacity))
        slot = place.slot
        if before is not None:
            before.take(place)
        shelf.put(place)
        if before is not None:
            shelf.keys[:, place.slot, : place.length] = before.keys[:, slot, : place.length]
            shelf.values[:, place.slot, : place.length] = before.values[:, slot, : place.length]

    def leave(self, place: Place, *, is_sound: bool = True) -> None:
        if place.shelf is not None:
            if not is_sound:  # whoever comes next has what it leaves behind its own tokens
                place.shelf.keys[:, place.slot] = place.shelf.values[:, place.slot] = 0
            place.shelf.take(place)
        if place.prefix is not None:
            place.prefix.users -= 1
            place.prefix = None
        for one in [one for one in self._prefixes if one.maker is place]:
            one.maker = None
            self._prefixes.remove(one)

    def close_up(self) -> None:
        for shelf in self._shelves.values():
            shelf.close_up()

    # Prefixes.

    def find(self, tenant: Hashable, ids: Ids) -> tuple[Prefix | None, int]:
        """The one whose beginning is most of what this prompt begins with, but for its last token: what follows that has to be computed.
        And how many tokens that are."""
        found = [(common(one.ids, ids[:-1]), one) for one in self._prefixes if one.tenant == tenant]
        tokens, best = max(found, key=lambda one: one[0], default=(0, None))
        if best is None or tokens < LEAST_SHARED:
            return None, 0
        self._prefixes.remove(best)
        self._prefixes.append(best)
        return best, tokens

    def plan(self, tenant: Hashable, ids: Ids, others: Sequence[Ids], maker: Place, found: int) -> Prefix | None:
        """A prefix that this prompt will make, of what it has in common with ``others``; None where that is little, or little more than the
        tokens that were ``found``."""
        shared = [common(other[:-1], ids[:-1]) for other in others]
        most = max(shared, default=0)
        if most < LEAST_SHARED or found >= ALIKE * most:
            return None
        tokens = min(count for count in shared if count >= max(LEAST_SHARED, ALIKE * most))
        return self._keep(Prefix(tenant, ids[:tokens], maker))

    def retain(self, tenant: Hashable, ids: Ids, place: Place) -> None:
        """The prompt of a row that has ended, for rows to come, where it is long enough and had no prefix."""
        if place.prefix is None and LEAST_SHARED < len(ids) <= self._prefix_tokens and place.shelf is not None:
            self._keep(Prefix(tenant, ids, None)).make(place)

    def _keep(self, prefix: Prefix) -> Prefix:
        self._prefixes.append(prefix)
        idle = [one for one in self._prefixes if one.users == 0 and one.maker is None and one is not prefix]
        tokens = sum(len(one.ids) for one in idle)
        for one in idle:
            if tokens <= self._prefix_tokens:
                break
            tokens -= len(one.ids)
            self._prefixes.remove(one)
        return prefix


def common(one: Ids, other: Ids) -> int:
    """How many ids both begin with."""
    length = min(len(one), len(other))
    differs = np.flatnonzero(one[:length] != other[:length])
    return int(differs[0]) if len(differs) else length
