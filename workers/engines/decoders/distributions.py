"""What a decoder holds to be likely after each token of texts that are given whole."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.arrays import Ids
from workers.engines.contract.torch_errors import translated
from workers.engines.decoders.attention import Part, plan_step
from workers.engines.decoders.cache import Cache, Place
from workers.engines.decoders.slots import Loaded


def logprobs(loaded: Loaded, texts: Sequence[Ids], *, exact: bool) -> Tensor:
    """[tokens of all texts, vocabulary], fp32: four bytes for each token and word, so hand in few. ``exact``: from the head's own weights;
    else as rows are answered, where most of a large vocabulary is scored in eight bits."""
    device, head = loaded.body.shape.device, loaded.head
    cache, pieces = Cache(loaded.body.shape, 0), [Part(Place(), len(text)) for text in texts]
    with torch.inference_mode(), translated():
        for piece in pieces:
            cache.make_room(piece.place, piece.tokens)
        ids = torch.tensor([int(number) for text in texts for number in text], device=device)
        positions = torch.tensor([at for piece in pieces for at in range(piece.tokens)], device=device)
        hidden = loaded.body(ids, positions, plan_step([], pieces, device))
        for piece in pieces:
            cache.leave(piece.place)
        scores = head.exact(hidden) if exact else head.refine(hidden, head.scores(hidden))
        return torch.log_softmax(scores, dim=-1)
