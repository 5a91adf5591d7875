"""What is written: the whole of textmill and engines bare over the same prompts, in turns, in output tokens a second.

G1 is prompts of some 34 tokens, answered with 8 to 128 (geometric); G2's begin with the same 512 tokens. Each turn has prompts of its own,
the same for all, so that nobody has kept anything of a turn before. Rows end at the model's end tokens or at their most tokens, everywhere.
"""

import json
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from db.errors import TextmillError
from tests.benchmarks import decoding, writing
from tests.benchmarks.mill import Mill
from tests.benchmarks.peers import conversions, roster
from tests.benchmarks.peers.company import Company, Member
from tests.benchmarks.peers.protocol import PeerFailed, Said
from tests.benchmarks.peers.table import OURS, OURS_OPENVINO, Row
from tests.benchmarks.writing import Prompt
from workers.engines.decoders.wording.house import END_TOKENS

G1: Final = "G1"
G2: Final = "G2"
ABOUT: Final = {
    G1: f"prompts of some 34 tokens, {decoding.LEAST_TOKENS} to {decoding.MOST_TOKENS} out (geometric)",
    G2: f"{decoding.SHARING_ROWS} prompts that begin with the same {decoding.SHARED_TOKENS} tokens, {decoding.SHARING_OUT} out",
}
WARM_UP: Final = -1  # a draw that no turn has
COMPARED: Final = 20  # prompts of the first turn
ANSWER_SECONDS: Final = 600.0
SETTLE_SECONDS: Final = 1.0  # after a run: what a system does behind its answer is not the next one's to pay
ON_OPENVINO: Final = f"local:{conversions.OPENVINO_DECODER.name}"


@dataclass
class Writer:
    """``write``: answers these prompts. ``reason``: why it does not run, or not any longer."""

    name: str
    about: str
    write: Callable[[Sequence[Prompt]], Said]
    reason: str | None = None
    runs: list[Said] = field(default_factory=list)


class Prompts:
    """Of a workload, by draw. ``tokenizer``: the decoder's file."""

    def __init__(self, tokenizer: Path, count: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._count = count

    def draw(self, workload: str, number: int) -> list[Prompt]:
        return writing.prompts(self._count, number) if workload == G1 else self._alike(number)

    def _alike(self, number: int) -> list[Prompt]:
        drawn = np.random.default_rng(1_000 + number)
        words = decoding.words(drawn, decoding.SHARED_TOKENS)
        ends = [end for _, end in self._tokenizer.encode(words, add_special_tokens=False).offsets]
        beginning = words[: ends[decoding.SHARED_TOKENS - 2]]  # its first token is the one that opens every prompt
        return [
            Prompt(f"{beginning} {decoding.words(drawn, decoding.OWN_TOKENS)}", decoding.SHARING_OUT) for _ in range(decoding.SHARING_ROWS)
        ]


def writers(mill: Mill, company: Company, members: Sequence[Member], work: Path) -> list[Writer]:
    """textmill, those that run, and textmill on OpenVINO GenAI where that is a peer."""
    found = [Writer(OURS, "the whole system, engine of its own", lambda asked: whole(mill, decoding.MODEL, asked))]
    for member in members:
        company.start(member, prototypes=False)
        print(f"{member.spec.name}: {member.reason or 'ready'}", flush=True)
        found.append(Writer(member.spec.name, member.spec.about, _bare(member, work), member.reason))
        if member.spec.name == roster.OPENVINO_GENERATION:
            about = "the whole system, OpenVINO GenAI"
            found.append(Writer(OURS_OPENVINO, about, lambda asked: whole(mill, ON_OPENVINO, asked), member.reason))
    return found


def whole(mill: Mill, model: str, asked: Sequence[Prompt]) -> Said:
    """From the first byte sent to the last answer read. Raises PeerFailed."""
    try:
        run, texts = writing.written(mill, model, asked)
    except (AssertionError, TextmillError) as error:
        raise PeerFailed(str(error)) from None
    return Said(run.seconds, run.cpu_seconds, run.rows, tuple(texts))


def _bare(member: Member, work: Path) -> Callable[[Sequence[Prompt]], Said]:
    def write(asked: Sequence[Prompt]) -> Said:
        if member.peer is None:
            raise PeerFailed(member.reason or "it does not run")
        file = work / "prompts.json"
        file.write_text(json.dumps([[one.text, one.limit] for one in asked]))
        return member.peer.write(file, len(asked), timeout_seconds=ANSWER_SECONDS)

    return write


def take_turns(
    contenders: Sequence[Writer],
    draw: Callable[[int], Sequence[Prompt]],
    *,
    turns: int,
    deadline: float,
    told: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    settle: Callable[[float], None] = time.sleep,
) -> None:
    """Fills ``runs``, after a run of each that is not counted. ``deadline`` by ``clock``: no run begins after it. Each turn begins with
    another contender."""
    for turn in range(WARM_UP, turns):
        prompts, first = draw(turn), max(0, turn) % max(1, len(contenders))
        for one in (*contenders[first:], *contenders[:first]):
            if one.reason is not None or clock() >= deadline:
                continue
            try:
                said = one.write(prompts)
            except PeerFailed as error:
                one.reason = str(error)
                continue
            settle(SETTLE_SECONDS)
            if turn != WARM_UP:
                one.runs.append(said)
                told(f"turn {turn + 1}: {one.name} {said.tokens_per_second:,.1f} tokens/s ({said.tokens:,} tokens, {said.seconds:.1f} s)")


def rows(contenders: Sequence[Writer], count: int, beginnings: Sequence[str]) -> list[Row]:
    """``count``: prompts of a run. ``beginnings``: fp32's, of the first turn's first prompts; none where it was not asked."""
    found = []
    for one in contenders:
        if not one.runs:
            found.append(Row(one.name, one.about, count, reason=one.reason))
            continue
        speeds = [run.tokens_per_second for run in one.runs]
        found.append(
            Row(
                one.name,
                one.about,
                count,
                docs=count,
                docs_per_second=statistics.median(speeds),
                least=min(speeds),
                most=max(speeds),
                docs_per_cpu_second=statistics.median(run.tokens_per_cpu_second for run in one.runs),
                runs=len(one.runs),
                agreement=agreement(one.runs[0].texts, beginnings) if beginnings else None,
                reason=one.reason,
            )
        )
    return found


def agreement(texts: Sequence[str], beginnings: Sequence[str]) -> float:
    """The share of the first texts that begin as fp32's do."""
    return sum(text.startswith(one) for text, one in zip(texts, beginnings, strict=False)) / len(beginnings)


def fp32_beginnings(folder: Path, prompts: Sequence[Prompt]) -> list[str]:
    """What transformers answers to each alone in fp32, greedy, as far as `decoding.AGREE_TOKENS`."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ends = {int(number) for token in END_TOKENS if (number := tokenizer.token_to_id(token)) is not None}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    model.eval()
    told = []
    for one in prompts:
        ids = torch.tensor([[tokenizer.token_to_id("<bos>"), *tokenizer.encode(one.text, add_special_tokens=False).ids]])
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(one.limit, decoding.AGREE_TOKENS),
                do_sample=False,
                eos_token_id=sorted(ends),
                pad_token_id=0,
            )
        told.append(beginning(tokenizer, out[0, ids.shape[1] :].tolist(), ends))
    return told


def beginning(tokenizer: Tokenizer, ids: Sequence[int], ends: Collection[int]) -> str:
    """A text that goes on may end within a character here."""
    text: str = tokenizer.decode([token for token in ids if token not in ends])
    return text.rstrip("\ufffd")


def measure(contenders: Sequence[Writer], folder: Path, workload: str, count: int, *, turns: int, deadline: float) -> list[Row]:
    """``folder``: the decoder's, which fp32 is read from. ``count``: prompts of G1."""
    prompts = Prompts(folder / "tokenizer.json", count)
    for one in contenders:
        one.runs.clear()
    first = prompts.draw(workload, 0)
    take_turns(
        contenders,
        lambda turn: prompts.draw(workload, turn),
        turns=turns,
        deadline=deadline,
        told=lambda line: print(f"{workload} {line}", flush=True),
    )
    return rows(contenders, len(first), fp32_beginnings(folder, first[:COMPARED]))
