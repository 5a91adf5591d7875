"""A decoder's tokens a second: our slots against what transformers itself offers, bare, in one process and on one thread.

Rows end after a number of tokens that no engine knows before (geometric, 8 to 128): an end token is no end here, so that every engine says
as much. Static batches are padded and run until their longest row has ended, in the order of arrival.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.random import Generator
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig

from tests.benchmarks.turns import Run
from tests.workers.engines.decoders.driving import run, said, scored
from tests.workers.engines.decoders.families import loaded, model_of, prompt
from workers.arrays import Ids
from workers.engines.contract.choices import Choices
from workers.engines.contract.decoding import DecoderRow
from workers.engines.contract.plan import Format
from workers.engines.decoders.slots import TorchSlots
from workers.engines.decoders.torch_decoder import TorchDecoder
from workers.engines.decoders.wording.house import HouseWording
from workers.models import registry
from workers.models.provision import ensure

MODEL: Final = "gemma3-270m"
ROWS: Final = 256
SOME_ROWS: Final = 64  # outside a full run
STATIC_ROWS: Final = 32
BLOCKS, BATCH_TOKENS = 128, 512  # of transformers' continuous batching: 128 × 256 tokens kept
LEAST_TOKENS, MOST_TOKENS, MEAN_TOKENS = 8, 128, 35
PROMPT_WORDS: Final = (15, 40)
SHARED_TOKENS: Final = 512
SHARING_ROWS, SHARING_OUT, OWN_TOKENS = 24, 16, 30
AGREE_TOKENS: Final = 16
LABELS: Final = ("finance", "entertainment", "politics", "sports", "tech", "late payment")
LABEL_TOKENS: Final = 4  # that are said, where labels are not scored
SAMPLE: Final = (
    "the price of oil rose again while a man in London said that his team had won the match and nobody knew why banks were late to tell"
    " people about new music phones games and films this year"
)


@dataclass(frozen=True, slots=True)
class Prompts:
    """Each with the number of tokens it is answered with."""

    ids: Sequence[Ids]
    limits: Sequence[int]

    def take(self, count: int) -> "Prompts":
        return Prompts(self.ids[:count], self.limits[:count])

    @property
    def tokens(self) -> int:
        return sum(self.limits)


Says = Callable[[Prompts], list[list[int]]]


def measured(says: Says, prompts: Prompts) -> Run:
    """A row of the run is a token that was said."""
    began, cpu = time.perf_counter(), time.process_time()
    told = says(prompts)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    assert [len(ids) for ids in told] == list(prompts.limits)
    return Run(prompts.tokens, seconds, cpu_seconds, {"first": [ids[:AGREE_TOKENS] for ids in told]})


class Engines:
    """Ours, and transformers' static and continuous batches, all with the same weights. ``home`` None: those of a small random model, to
    see that each runs."""

    def __init__(self, home: Path | None, *, number_format: Format) -> None:
        torch.set_num_threads(1)
        self._folder = None if home is None else ensure(registry.get(MODEL), home)
        self._read: Callable[[str], Ids] = _pretended
        if self._folder is None:
            own = loaded(model_of("gemma3"))
        else:
            decoder = TorchDecoder(registry.get(MODEL), self._folder, device="cpu", number_format=number_format)
            wording = decoder._wording
            assert isinstance(wording, HouseWording)
            own, self._read = decoder._loaded, wording.prompt
        self._loaded = replace(own, end_ids=[])

    def ragged(self, count: int = ROWS) -> Prompts:
        drawn = np.random.default_rng(7)
        prompts = [self._read(words(drawn, int(drawn.integers(*PROMPT_WORDS)))) for _ in range(count)]
        limits = [limit(drawn) for _ in range(count)]
        return Prompts(prompts, limits)

    def alike(self, count: int = SHARING_ROWS) -> Prompts:
        """512 tokens that all begin with, and some 30 of each one's own."""
        drawn = np.random.default_rng(8)
        beginning = self._read(words(drawn, SHARED_TOKENS))[:SHARED_TOKENS]
        own = [self._read(words(drawn, OWN_TOKENS))[1:] for _ in range(count)]
        return Prompts([np.concatenate([beginning, ids]) for ids in own], [SHARING_OUT] * count)

    def ours(self, prompts: Prompts, tenant: str | None = None) -> list[list[int]]:
        rows = [DecoderRow(ids, most, tenant=tenant) for ids, most in zip(prompts.ids, prompts.limits, strict=True)]
        return [list(said(answer).ids) for answer in run(TorchSlots(self._loaded), rows)]

    def label(self, prompts: Prompts, tenant: str | None = None) -> Run:
        """A row of the run is a document, of which labels are scored."""
        began, cpu = time.perf_counter(), time.process_time()
        choices = Choices([self._read(f" {label}")[1:] for label in LABELS], [1])
        rows = [DecoderRow(ids, 1, tenant=tenant, choices=choices) for ids in prompts.ids]
        for answer in run(TorchSlots(self._loaded), rows):
            scored(answer)
        return Run(len(rows), time.perf_counter() - began, time.process_time() - cpu, {})

    def say_labels(self, prompts: Prompts, tenant: str | None = None) -> Run:
        """The same documents, each answered with a few tokens."""
        began, cpu = time.perf_counter(), time.process_time()
        self.ours(Prompts(prompts.ids, [LABEL_TOKENS] * len(prompts.ids)), tenant)
        return Run(len(prompts.ids), time.perf_counter() - began, time.process_time() - cpu, {})

    def static(self, number_format: Format) -> Says:
        model = self._model(number_format)

        def says(prompts: Prompts) -> list[list[int]]:
            told = []
            for first in range(0, len(prompts.ids), STATIC_ROWS):
                told += _batch(model, prompts.ids[first : first + STATIC_ROWS], prompts.limits[first : first + STATIC_ROWS])
            return told

        return says

    def continuous(self, number_format: Format) -> Says:
        model = self._model(number_format)
        memory = ContinuousBatchingConfig(num_blocks=BLOCKS, max_batch_tokens=BATCH_TOKENS)  # by itself it takes what the machine has

        def says(prompts: Prompts) -> list[list[int]]:
            told: dict[str, list[int]] = {}
            with model.continuous_batching_context_manager(model.generation_config, continuous_batching_config=memory) as manager:
                for number, (ids, most) in enumerate(zip(prompts.ids, prompts.limits, strict=True)):
                    manager.add_request(ids.tolist(), request_id=str(number), max_new_tokens=most, eos_token_id=-1)
                while len(told) < len(prompts.ids):
                    result = manager.get_result(timeout=1.0)
                    if result is not None and result.is_finished():
                        told[result.request_id] = list(result.generated_tokens)
            return [told[str(number)] for number in range(len(prompts.ids))]

        return says

    def _model(self, number_format: Format) -> Any:
        if self._folder is None:
            model = model_of("gemma3")
        else:
            model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=getattr(torch, number_format), local_files_only=True)
        model.eval()
        model.generation_config.eos_token_id = None
        model.generation_config.do_sample = False
        return model


def words(drawn: Generator, count: int) -> str:
    return " ".join(drawn.choice(SAMPLE.split(), count))


def limit(drawn: Generator) -> int:
    return int(min(MOST_TOKENS, LEAST_TOKENS + drawn.geometric(1 / MEAN_TOKENS)))


def _pretended(text: str) -> Ids:
    return prompt(len(text), 1 + text.count(" "))


def _batch(model: Any, prompts: Sequence[Ids], limits: Sequence[int]) -> list[list[int]]:
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, own in enumerate(prompts):
        ids[row, longest - len(own) :] = torch.from_numpy(own)
        mask[row, longest - len(own) :] = 1
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=mask, max_new_tokens=max(limits), do_sample=False, eos_token_id=None, pad_token_id=0)
    return [out[row, longest : longest + most].tolist() for row, most in enumerate(limits)]


def agreeing(one: Run, other: Run) -> int:
    """Rows of which the first tokens are the same."""
    pairs = zip(one.parts["first"], other.parts["first"], strict=True)  # type: ignore[call-overload]
    return sum(mine == yours for mine, yours in pairs)
