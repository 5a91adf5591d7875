"""A packed batch on a GPU: copied there ahead of its turn, with attention over sequences of any lengths in one call.

`stage` runs on the feeder's thread while the batch before is on the device: its arrays go through pinned memory and over a stream of their
own, so that neither the host nor the device waits for the copy. Attention is torch's variable-length FlashAttention (Dao, 2023) where the
device and the number format have it. The same functions run on a CPU, without streams, which is how they are tested.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engines.encoders.packing import Packed

VarlenAttention = Callable[..., Tensor]
# The oldest GPUs that torch's FlashAttention runs on (Ampere), and the formats and widths of a head that it takes.
LEAST_CAPABILITY = (8, 0)
FORMATS = (torch.float16, torch.bfloat16)
MOST_HEAD_WIDTH = 256


@dataclass(frozen=True, slots=True)
class Staged:
    """`ids`, `positions`, `owners` (number of its sequence) [T]; `bounds` [n + 1]: where each sequence begins, and the last one's end.

    On the device once `arrived`, which a stream can wait for; None where they are there already.
    """

    packed: Packed
    ids: Tensor
    positions: Tensor
    owners: Tensor
    bounds: Tensor
    longest: int
    arrived: torch.cuda.Event | None

    def wait(self) -> None:
        """Makes the current stream wait for the copies, and keeps their memory until it has used them. The host goes on."""
        if self.arrived is None:
            return
        stream = torch.cuda.current_stream(self.ids.device)
        stream.wait_event(self.arrived)
        for tensor in (self.ids, self.positions, self.owners, self.bounds):
            tensor.record_stream(stream)


def copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    """For the copies to a GPU; a CPU needs none."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def stage(packed: Packed, device: torch.device, copies: torch.cuda.Stream | None) -> Staged:
    """Starts the copies on the stream `copies` and returns; without one they are done when it returns."""
    lengths = packed.lengths
    arrays = (
        packed.ids,
        packed.positions,
        np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)]),
    )
    if copies is None:
        ids, positions, owners, bounds = (torch.from_numpy(array).to(device) for array in arrays)
        return Staged(packed, ids, positions, owners, bounds, int(lengths.max()), None)
    with torch.cuda.stream(copies):
        ids, positions, owners, bounds = (_pinned(array).to(device, non_blocking=True) for array in arrays)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(copies)
    return Staged(packed, ids, positions, owners, bounds, int(lengths.max()), arrived)


def _pinned(array: NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(array).pin_memory()


def attend(attention: VarlenAttention, query_key_value: Tensor, staged: Staged, heads: int) -> Tensor:
    """[T, 3d] -> [T, d]; each sequence sees itself only."""
    tokens, width = query_key_value.shape[0], query_key_value.shape[1] // 3
    query, key, value = query_key_value.view(tokens, 3, heads, width // heads).unbind(1)
    seen = attention(query, key, value, staged.bounds, staged.bounds, staged.longest, staged.longest)
    return seen.reshape(tokens, width)


def means(hidden: Tensor, staged: Staged) -> Tensor:
    """[n, d] in fp32: the mean over each sequence's tokens."""
    bounds = staged.bounds
    sums = hidden.new_zeros((len(bounds) - 1, hidden.shape[1]), dtype=torch.float32)
    sums.index_add_(0, staged.owners, hidden.float())
    return sums / (bounds[1:] - bounds[:-1]).unsqueeze(1)


def varlen_attention(device: torch.device, dtype: torch.dtype, head_width: int) -> VarlenAttention | None:
    """Torch's own, or None where this device, format or model cannot use it."""
    if device.type != "cuda" or dtype not in FORMATS or head_width > MOST_HEAD_WIDTH or head_width % 8:
        return None
    if torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # not in every version of torch
        return None
    return cast("VarlenAttention", varlen_attn)
