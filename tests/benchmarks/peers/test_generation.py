from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from tests.benchmarks import decoding
from tests.benchmarks.peers.__main__ import default_workloads
from tests.benchmarks.peers.generation import G1, G2, WARM_UP, Prompts, Writer, agreement, beginning, rows, take_turns
from tests.benchmarks.peers.protocol import PeerFailed, Said
from tests.benchmarks.writing import Prompt

WORDS = {word: number for number, word in enumerate(["?", "<eos>", *sorted(set(decoding.SAMPLE.split()))])}


class Watch:
    """Time that passes only while somebody writes; ``order`` is who wrote what draw."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[tuple[str, str]] = []

    def writer(self, name: str, seconds: float = 1.0, *, fails_at: str = "") -> Writer:
        def write(asked: Sequence[Prompt]) -> Said:
            if asked[0].text == fails_at:
                raise PeerFailed("it has ended")
            self.order.append((name, asked[0].text))
            self.now += seconds
            return Said(seconds, 2 * seconds, 100, (asked[0].text,))

        return Writer(name, name, write)

    def take_turns(self, *contenders: Writer, turns: int = 2, deadline: float = 1e9) -> None:
        take_turns(
            contenders,
            lambda turn: [Prompt(str(turn), 8)],
            turns=turns,
            deadline=deadline,
            told=lambda line: None,
            clock=lambda: self.now,
            settle=lambda seconds: None,
        )


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Prompts(tmp_path / "tokenizer.json", 5)


def test_everybody_writes_the_same_prompts_once_a_turn_others_each_turn_and_begins_in_turn() -> None:
    watch = Watch()
    watch.take_turns(watch.writer("a"), watch.writer("b"))
    warm_up = str(WARM_UP)
    assert watch.order == [("a", warm_up), ("b", warm_up), ("a", "0"), ("b", "0"), ("b", "1"), ("a", "1")]


def test_the_first_run_of_all_is_not_counted() -> None:
    watch = Watch()
    only = watch.writer("only")
    watch.take_turns(only, turns=2)
    assert [run.texts for run in only.runs] == [("0",), ("1",)]


def test_one_that_fails_is_left_out_from_there_and_keeps_its_reason() -> None:
    watch = Watch()
    lost, other = watch.writer("lost", fails_at="1"), watch.writer("other")
    watch.take_turns(lost, other, turns=3)
    assert (len(lost.runs), lost.reason, len(other.runs)) == (1, "it has ended", 3)


def test_nothing_is_written_after_the_deadline() -> None:
    watch = Watch()
    watch.take_turns(watch.writer("slow", 10.0), turns=9, deadline=25.0)
    assert len(watch.order) == 3


def test_speeds_are_of_tokens_and_who_did_not_run_says_why() -> None:
    ran, absent = (
        Writer("ran", "", lambda asked: Said(1, 1, 1, ()), runs=[Said(2.0, 4.0, 100, ("so on",)), Said(1.0, 2.0, 100, ("",))]),
        None,
    )
    absent = Writer("absent", "", lambda asked: Said(1, 1, 1, ()), reason="not installed")
    first, second = rows([ran, absent], 1, ["so"])
    assert (first.docs_per_second, first.least, first.most, first.docs_per_cpu_second) == (75.0, 50.0, 100.0, 37.5)
    assert first.agreement == 1.0
    assert (second.ran, second.reason) == (False, "not installed")


def test_a_text_agrees_that_begins_as_the_reference_does() -> None:
    assert agreement(["a man in London", "a woman", "more", "texts"], ["a man", "a man"]) == 0.5


def test_a_beginning_has_no_end_token_and_ends_with_a_whole_character() -> None:
    class Half:
        def decode(self, ids: Sequence[int]) -> str:
            return "so" * len(ids) + "\ufffd"

    assert beginning(Half(), [7, 8, 1], [1]) == "soso"  # type: ignore[arg-type]


def test_prompts_that_share_begin_with_so_many_tokens_and_end_in_their_own(prompts: Prompts) -> None:
    texts = [one.text.split() for one in prompts.draw(G2, 0)]
    shared = decoding.SHARED_TOKENS - 1  # and the one that opens every prompt
    assert len({tuple(words[:shared]) for words in texts}) == 1
    assert len({tuple(words[shared:]) for words in texts}) == len(texts) == decoding.SHARING_ROWS
    assert {len(words) for words in texts} == {shared + decoding.OWN_TOKENS}


@pytest.mark.parametrize("workload", [G1, G2])
def test_a_draw_is_always_the_same_and_no_other_draw(prompts: Prompts, workload: str) -> None:
    assert prompts.draw(workload, 0) == prompts.draw(workload, 0) != prompts.draw(workload, 1)


def test_what_is_run_follows_from_who_was_chosen() -> None:
    assert default_workloads(labelling=False, writing=True) == [G1, G2]
    assert default_workloads(labelling=True, writing=False) == ["C3", "C4", "null", "BBC"]
