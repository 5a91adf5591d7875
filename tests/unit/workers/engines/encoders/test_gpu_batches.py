"""The GPU's way through a packed batch, on a CPU: the same functions, without streams, and an attention that is written out."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from workers.engines.encoders import gpu_batches
from workers.engines.encoders.gpu_batches import attend, means, stage, varlen_attention
from workers.engines.encoders.packing import pack

CPU = torch.device("cpu")
LENGTHS = (5, 1, 9, 5, 2)


def written_out(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, key_bounds: Tensor, longest: int, _: int) -> Tensor:
    """[T, heads, width], as torch documents its `varlen_attn`."""
    assert torch.equal(bounds, key_bounds)
    assert bounds.dtype == torch.int32
    assert int((bounds[1:] - bounds[:-1]).max()) == longest
    seen = torch.empty_like(query)
    for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        one = [part[first:end].transpose(0, 1) for part in (query, key, value)]
        seen[first:end] = functional.scaled_dot_product_attention(*one).transpose(0, 1)
    return seen


def test_a_staged_batch_says_whose_each_token_is() -> None:
    staged = stage(pack([np.full(length, length, np.int32) for length in LENGTHS]), CPU, None)
    assert staged.bounds.tolist() == [0, 1, 3, 8, 13, 22]
    assert staged.owners.tolist() == [0] + [1] * 2 + [2] * 5 + [3] * 5 + [4] * 9
    assert (staged.longest, staged.arrived) == (9, None)
    staged.wait()


def test_attention_over_all_lengths_at_once_equals_each_sequence_alone() -> None:
    staged = stage(pack([np.zeros(length, np.int32) for length in LENGTHS]), CPU, None)
    product = torch.randn(sum(LENGTHS), 3 * 16, generator=torch.Generator().manual_seed(0))
    together = attend(written_out, product, staged, heads=2)
    for first, end in zip(staged.bounds[:-1].tolist(), staged.bounds[1:].tolist(), strict=True):
        alone = stage(pack([np.zeros(end - first, np.int32)]), CPU, None)
        assert torch.allclose(attend(written_out, product[first:end], alone, heads=2), together[first:end], atol=1e-6)


def test_means_are_of_each_sequences_own_tokens() -> None:
    staged = stage(pack([np.zeros(length, np.int32) for length in LENGTHS]), CPU, None)
    hidden = torch.randn(sum(LENGTHS), 4, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([part.mean(0) for part in torch.split(hidden, sorted(LENGTHS))])
    assert torch.allclose(means(hidden, staged), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("device", "dtype", "width", "capability"),
    [
        ("cpu", torch.bfloat16, 32, (9, 0)),
        ("cuda", torch.float32, 32, (9, 0)),
        ("cuda", torch.bfloat16, 36, (9, 0)),
        ("cuda", torch.bfloat16, 512, (9, 0)),
        ("cuda", torch.bfloat16, 32, (7, 5)),
    ],
)
def test_what_the_kernel_does_not_take_is_done_length_by_length(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: torch.dtype, width: int, capability: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert varlen_attention(torch.device(device), dtype, width) is None


def test_where_it_is_taken_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = pytest.importorskip("torch.nn.attention.varlen").varlen_attn
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    assert varlen_attention(torch.device("cuda"), torch.bfloat16, 32) is attention


def test_copies_go_over_a_stream_of_their_own_and_are_waited_for_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    told_of: Callable[[str], Callable[..., None]] = lambda what: lambda *_: told.append(what)  # noqa: E731

    class Stream:
        wait_event = staticmethod(told_of("the stream waits"))

        def __enter__(self) -> None:
            told.append("on the stream of copies")

        def __exit__(self, *_: object) -> None:
            told.append("off it")

    class Event:
        record = staticmethod(told_of("recorded"))

    stream = Stream()
    monkeypatch.setattr(torch.cuda, "stream", lambda given: given)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: stream)
    monkeypatch.setattr(Tensor, "record_stream", told_of("kept"))
    monkeypatch.setattr(gpu_batches, "_pinned", torch.from_numpy)
    staged = stage(pack([np.zeros(3, np.int32)]), CPU, stream)  # type: ignore[arg-type]
    assert told == ["on the stream of copies", "recorded", "off it"]
    staged.wait()
    assert told[3:] == ["the stream waits"] + ["kept"] * 4
