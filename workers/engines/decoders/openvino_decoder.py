"""A decoder that OpenVINO GenAI runs, from a folder in OpenVINO's own form: its continuous batching does what slots are for.

Prompts are read and answers are told by the folder's `tokenizer.json`, as everywhere here: a text spells no control token. No key or value
is kept once its row has ended, so that none is shared.
"""

import logging
import secrets
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from db.errors import TextmillError
from workers.arrays import Ids
from workers.batches.outcomes import EngineBroken, FailedRow, OutOfMemory
from workers.batches.policy import Policy
from workers.engines.contract.decoding import Asking, DecoderRow, Finished, Room
from workers.engines.contract.generation import Message
from workers.engines.decoders.saying import Saying
from workers.engines.decoders.wording.own import OwnWording
from workers.engines.encoders.openvino_encoder import import_openvino, lacks_memory
from workers.engines.folders.files import broken, read_config
from workers.grammars.masks import Vocabulary
from workers.logs import place_of
from workers.models.card import ModelCard

BLOCK: Final = 32  # tokens of which keys and values are given out together
# In a step. The pipeline keeps the interpreter to itself meanwhile: nothing else of the worker gets on, its leases neither.
PROMPT_TOKENS: Final = 128
# What is nearer to 0, or 1, is none but that in fp32, which the pipeline reads, and refuses of these.
LEAST: Final = float(np.finfo(np.float32).tiny)
MOST: Final = float(np.nextafter(np.float32(1), np.float32(0)))
EXACT: Final = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}

log = logging.getLogger("textmill.engines")


class OpenVinoDecoder:
    """One lane of ``threads``: each more would have the weights again. ``exact``: it computes in fp32, whatever the weights are in; else as
    OpenVINO finds best on this CPU (bf16, and keys and values in eight bits).

    Raises OutOfMemory, and TextmillError "engine_not_available" or "model_broken"."""

    asking: Asking | None = None
    vocabulary: Vocabulary | None = None  # so that nobody makes masks over it, which the pipeline does not take

    def __init__(self, card: ModelCard, folder: Path, *, policy: Policy, threads: int, exact: bool) -> None:
        try:
            self._openvino = import_openvino()
            import openvino_genai
        except ImportError:
            why = f"{card.id} needs the package openvino-genai on the worker. Install textmill[openvino-genai]."
            raise TextmillError(why, code="engine_not_available", status=400) from None
        self._genai, self._folder, self._policy = openvino_genai, folder, policy
        self._properties = {"INFERENCE_NUM_THREADS": threads, **(EXACT if exact else {})}
        config = read_config(folder)
        size = config.get("vocab_size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise broken(folder, "config.json: vocab_size is no number of tokens.")
        self.size = size
        self.max_tokens = min(card.max_tokens, policy.budget_tokens)
        self.wording = OwnWording(folder, config, vocabulary=size, max_tokens=self.max_tokens)
        self.chat_stop = self.wording.chat_stop
        try:
            self._first: Any = self.pipeline()
            number_format = _format(self._openvino.Core().read_model(folder / "openvino_model.xml"))
        except RuntimeError as error:  # which quotes the folder
            if lacks_memory(error):
                raise OutOfMemory from None
            raise broken(
                folder, "OpenVINO GenAI cannot load it: is it a decoder with its tokenizer, converted for text generation?"
            ) from None
        self.model_version = f"{card.weights_version}+openvino-genai-{number_format}{'-exact' if exact else ''}-{version('openvino-genai')}"

    def pipeline(self) -> Any:
        """Raises RuntimeError."""
        scheduler = self._genai.SchedulerConfig()
        scheduler.max_num_seqs = self._policy.max_rows
        scheduler.max_num_batched_tokens = PROMPT_TOKENS
        scheduler.num_kv_blocks = -(-self._policy.budget_tokens // BLOCK) + self._policy.max_rows
        scheduler.enable_prefix_caching = False  # it knows no tenants
        return self._genai.ContinuousBatchingPipeline(self._folder, scheduler, "CPU", self._properties)

    def tokenize_chat(self, messages: Sequence[Message]) -> Ids | FailedRow:
        return self.wording.chat(messages)

    def tokenize_prompt(self, prompt: str) -> Ids | FailedRow:
        return self.wording.prompt(prompt)

    def slots(self) -> "OpenVinoSlots":
        first, self._first = self._first, None
        return OpenVinoSlots(self, first or self.pipeline(), self._policy)

    def request(self, pipeline: Any, number: int, row: DecoderRow) -> Any:
        """The handle of the row's answer. Raises whatever the pipeline does, RuntimeError as a rule."""
        ids = self._openvino.Tensor(np.ascontiguousarray(row.ids, dtype=np.int64)[None])
        return pipeline.add_request(number, ids, self._asked(row))

    def _asked(self, row: DecoderRow) -> Any:
        sampling, asked = row.sampling, self._genai.GenerationConfig()
        asked.max_new_tokens, asked.min_new_tokens = row.max_tokens, 1
        asked.eos_token_id, asked.stop_token_ids = self.wording.end_ids[0], set(self.wording.end_ids)
        asked.repetition_penalty = sampling.repetition_penalty
        asked.presence_penalty, asked.frequency_penalty = sampling.presence_penalty, sampling.frequency_penalty
        if sampling.temperature > 0:
            asked.do_sample, asked.temperature = True, sampling.temperature
            asked.top_p, asked.min_p = max(sampling.top_p, LEAST), min(sampling.min_p, MOST)
            asked.rng_seed = secrets.randbits(63) if sampling.seed is None else sampling.seed % 2**64
            if sampling.top_k > 0:
                asked.top_k = sampling.top_k
        asked.validate()
        return asked


class OpenVinoSlots:
    """``pipeline``: of this lane alone; None after a step that failed, until the next one makes another."""

    def __init__(self, decoder: OpenVinoDecoder, pipeline: Any, policy: Policy) -> None:
        self._decoder, self._pipeline, self._policy = decoder, pipeline, policy
        self._new: list[DecoderRow] = []
        self._running: dict[DecoderRow, tuple[Any, Saying]] = {}
        self._number = 0

    def room(self) -> Room:
        rows = (*self._running, *self._new)
        return Room(self._policy.max_rows - len(rows), self._policy.budget_tokens - sum(row.tokens for row in rows))

    def kv_tokens(self) -> int:
        return sum(len(row.ids) + len(saying.ids) for row, (_, saying) in list(self._running.items()))

    def add(self, rows: Sequence[DecoderRow]) -> None:
        self._new += rows

    def cancel(self, row: DecoderRow) -> None:
        if row in self._running:
            handle, _ = self._running.pop(row)
            handle.cancel()
        elif row in self._new:
            self._new.remove(row)

    def step(self) -> Sequence[Finished]:
        try:
            return self._step()
        except BaseException as error:
            self._new.clear()
            self._running.clear()
            self._pipeline = None  # what it still held goes with it, before there is another
            if lacks_memory(error):
                raise OutOfMemory from None
            raise

    def _step(self) -> list[Finished]:
        if self._pipeline is None:
            self._pipeline = self._again()
        new, self._new = self._new, []
        finished = []
        for row in new:
            if (why := refused(row, self._decoder.size)) is not None:
                finished.append(Finished(row, FailedRow(why)))
                continue
            self._number += 1
            try:
                handle = self._decoder.request(self._pipeline, self._number, row)
            except Exception as error:  # whose message may quote the row
                if lacks_memory(error):
                    raise
                log.error("a row could not be asked of OpenVINO GenAI: %s at %s", type(error).__name__, place_of(error))
                finished.append(Finished(row, FailedRow("engine_error")))
                continue
            self._running[row] = handle, Saying(row, self._decoder.wording.tokenizer, self._decoder.wording.end_ids)
        if self._running:
            self._pipeline.step()
        return finished + [one for row, (handle, saying) in list(self._running.items()) if (one := self._read(row, handle, saying))]

    def _again(self) -> Any:
        """Raises EngineBroken: without a pipeline no row is to blame."""
        try:
            return self._decoder.pipeline()
        except RuntimeError as error:
            log.error("OpenVINO GenAI's pipeline cannot be made again: %s at %s", type(error).__name__, place_of(error))
            raise EngineBroken from None

    def _read(self, row: DecoderRow, handle: Any, saying: Saying) -> Finished | None:
        statuses, status = self._decoder._genai.GenerationStatus, handle.get_status()  # which a cancel changes
        while saying.ending is None and handle.can_read():
            for output in handle.read().values():
                for token in output.generated_ids:
                    if saying.ending is None:
                        saying.take(token)
                if row.first_token_at is None and output.generated_ids:
                    row.first_token_at = time.perf_counter()
        if saying.ending is None and status == statuses.RUNNING:
            return None
        self.cancel(row)
        if saying.ending is None and status == statuses.IGNORED:  # no room for its keys and values
            return Finished(row, FailedRow("out_of_memory"))
        return Finished(row, saying.answer())


def refused(row: DecoderRow, vocabulary: int) -> str | None:
    """The failure of a row that asks for what the pipeline cannot do, by the public name of the field."""
    grammar = None if row.asked is None else row.asked.grammar
    if grammar is not None:
        return f"unsupported_field:{grammar.field}"
    if row.sampling.logit_bias:
        return "unsupported_field:logit_bias"
    if row.sampling.top_logprobs is not None:  # it tells of the token that was said alone
        return "unsupported_field:logprobs"
    if int(row.ids.max()) >= vocabulary:
        return f"invalid_field:prompt:tokens of the model, which are below {vocabulary:,}"
    if row.sampling.repetition_penalty < LEAST:
        return "invalid_field:repetition_penalty:a number that is not 0 in 32 bits"
    return None


def _format(model: Any) -> str:
    """Of most of its weights."""
    sizes: dict[str, int] = {}
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            name = node.get_element_type().get_type_name()
            sizes[name] = sizes.get(name, 0) + node.get_byte_size()
    return max(sizes, key=lambda name: sizes[name], default="f32")
