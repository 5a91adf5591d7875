"""What is asked of OpenVINO GenAI, and what is not, without it."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from db.errors import TextmillError
from workers.batches.policy import Policy
from workers.engines.contract.decoding import DecoderRow
from workers.engines.contract.generation import GenerateRequest, Sampling
from workers.engines.decoders.openvino_decoder import OpenVinoDecoder, refused
from workers.grammars.grammar import Grammar
from workers.models.card import ModelCard

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


def test_without_the_package_it_is_a_sentence_that_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    card = ModelCard.unusable("local:own", "decoder", "", folder=tmp_path)
    with pytest.raises(TextmillError, match=r"local:own needs .*textmill\[openvino-genai\]") as caught:
        OpenVinoDecoder(card, tmp_path, policy=Policy(budget_tokens=64, padded=False), threads=1, exact=False)
    assert caught.value.code == "engine_not_available"
