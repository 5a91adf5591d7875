"""What the registry says of the fake engine's models: on only where TEXTMILL_FAKE_ENGINE=1. What they answer: `workers/engines/fake.py`."""

import os
from dataclasses import replace
from typing import Final

from workers.models.card import ModelCard

MAX_TOKENS: Final = 4096


DIMENSIONS: Final = 32


def enabled() -> bool:
    return os.environ.get("TEXTMILL_FAKE_ENGINE") == "1"


_FAKE_ENCODER = ModelCard(
    id="fake-encoder",
    kind="encoder",
    tasks=("classify", "embed"),
    licence="Apache-2.0",
    upstream="",
    source_package="",
    source_version="1",
    max_tokens=MAX_TOKENS,
    dimensions=DIMENSIONS,
    speed_chars_per_second=20_000,
    is_fake=True,
)


_FAKE_DECODER = replace(_FAKE_ENCODER, id="fake-decoder", kind="decoder", tasks=("generate", "classify"), dimensions=0)


FAKE_MODELS = (_FAKE_ENCODER, _FAKE_DECODER)
