"""What is asked of OpenVINO GenAI, and what is not, without it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workers.batches.policy import Policy
from workers.engines.contract.decoding import DecoderRow
from workers.engines.contract.generation import GenerateRequest, Sampling
from workers.engines.decoders.openvino_decoder import OpenVinoDecoder, refused
from workers.grammars.grammar import Grammar

IDS = np.array([3, 9], np.int32)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"sampling": Sampling(top_logprobs=0)}, "unsupported_field:logprobs"),
        ({"sampling": Sampling(logit_bias={3: 1.0})}, "unsupported_field:logit_bias"),
        ({"asked": GenerateRequest(grammar=Grammar("regex", "a+", "guided_regex"))}, "unsupported_field:guided_regex"),
        ({"ids": IDS + 91}, "invalid_field:prompt:tokens of the model, which are below 100"),
        ({"sampling": Sampling(1.0, 5, 0.9, 0.1, 1.1, 0.5, 0.5, seed=3), "stop": ("a",), "asked": GenerateRequest()}, None),
    ],
)
def test_what_the_pipeline_cannot_do_is_refused_by_name(asked: dict[str, Any], code: str | None) -> None:
    assert refused(DecoderRow(**{"ids": IDS, "max_tokens": 4, **asked}), 100) == code


def test_no_keys_and_values_are_kept_when_their_row_has_ended() -> None:
    decoder = object.__new__(OpenVinoDecoder)
    made = SimpleNamespace(SchedulerConfig=SimpleNamespace, ContinuousBatchingPipeline=lambda _folder, scheduler, *_: scheduler)
    decoder._genai, decoder._folder, decoder._properties = made, Path(), {}
    decoder._policy = Policy(budget_tokens=65, padded=False, max_rows=4)
    scheduler = decoder.pipeline()
    assert (scheduler.enable_prefix_caching, scheduler.max_num_seqs, scheduler.num_kv_blocks) == (False, 4, 7)
