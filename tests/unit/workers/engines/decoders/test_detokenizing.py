"""At every step the text that comes token by token is what decoding all of them gives, whatever tokens a model picks."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel

from workers.engines.contract.generation import before_stop
from workers.engines.decoders.detokenizing import Detokenizer, StopSearch

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁", "▁▁", "▁the", "a", "b", "\n", "é", "日本", "🙂", "�", "Question", ":", "</", "s>"]


def made(tokens: Sequence[str], decoder: decoders.Decoder) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], byte_fallback=True))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<pad>"])
    return tokenizer


SPACES = decoders.Replace("▁", " ")
TOKENIZERS = {
    "byte level": made([*sorted(ByteLevel.alphabet()), "Ġthe", "ĠĠ", "ðŁ", "ĻĤ", "Ċ"], decoders.ByteLevel()),
    "byte fallback": made([*PIECES, *BYTES], decoders.Sequence([SPACES, decoders.ByteFallback(), decoders.Fuse()])),
    "byte fallback, a leading space is cut": made(
        [*PIECES, *BYTES], decoders.Sequence([SPACES, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    ),
    "metaspace": made(PIECES, decoders.Metaspace()),
}
SMILE = [f"<0x{byte:02X}>" for byte in "🙂".encode()]


def ids_of(tokenizer: Tokenizer, numbers: Sequence[int]) -> list[int]:
    return [number % tokenizer.get_vocab_size() for number in numbers]


NUMBERS = st.lists(st.integers(0, 100_000) | st.integers(0, 20), max_size=40)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(numbers=NUMBERS)
@example([0, 0, 0, 1, 2])
@example([14, 270, 142])  # a special token between two bytes
def test_what_settled_and_what_is_open_are_the_whole_text_at_every_step(name: str, numbers: list[int]) -> None:
    tokenizer = TOKENIZERS[name]
    ids, text, settled = ids_of(tokenizer, numbers), Detokenizer(tokenizer), ""
    for count, token in enumerate(ids, 1):
        settled += text.add(token)
        assert settled + text.open_text == tokenizer.decode(ids[:count])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(numbers=NUMBERS, stops=st.lists(st.text("ab \n:é日🙂�", min_size=1, max_size=4), max_size=3))
def test_a_stop_string_is_found_at_the_step_at_which_the_whole_text_first_holds_it(name: str, numbers: list[int], stops: list[str]) -> None:
    tokenizer = TOKENIZERS[name]
    ids, text, search = ids_of(tokenizer, numbers), Detokenizer(tokenizer), StopSearch(stops)
    for count, token in enumerate(ids, 1):
        found = search.found(text.add(token), text.open_text)
        whole = tokenizer.decode(ids[:count])
        assert found == any(stop in whole for stop in stops)
        if found:
            assert before_stop(whole, stops) == min((whole.partition(stop)[0] for stop in stops), key=len)
            return


@pytest.mark.parametrize(
    ("tokens", "settled"),
    [
        (SMILE, ["", "", "", ""]),
        ([*SMILE, "a"], ["", "", "", "", "🙂a"]),
        (["<0x41>", "<0xC3>", "a"], ["", "", "��a"]),
        (["▁", "<pad>", "a"], [" ", "", "a"]),
        (["�", "a"], ["", "�a"]),
        (["a", *SMILE[:3], "b"], ["a", "", "", "", "���b"]),
    ],
)
def test_what_may_still_change_is_held_back(tokens: list[str], settled: list[str]) -> None:
    tokenizer = TOKENIZERS["byte fallback"]
    text = Detokenizer(tokenizer)
    ids = [tokenizer.token_to_id(token) for token in tokens]
    assert [text.add(token) for token in ids] == settled
    assert "".join(settled) + text.open_text == tokenizer.decode(ids)


def test_an_answer_without_stop_strings_holds_none() -> None:
    search = StopSearch(())
    assert not search.found("a", "b")
    assert before_stop("a", ()) == "a"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_long_answer_costs_as_much_a_token_as_a_short_one(name: str) -> None:
    class Counting:
        """The tokenizer, and how many tokens it was asked to decode."""

        decoded = 0

        def decode(self, ids: list[int]) -> str:
            Counting.decoded += len(ids)
            return tokenizer.decode(ids)

        def id_to_token(self, token: int) -> str | None:
            return tokenizer.id_to_token(token)

    tokenizer = TOKENIZERS[name]
    text, began = Detokenizer(Counting()), time.perf_counter()  # type: ignore[arg-type]
    word = [token for token in ("a", ":", "▁the", "b", "Ġthe") if tokenizer.token_to_id(token) is not None]
    for number in range(5_000):
        text.add(tokenizer.token_to_id(word[number % len(word)]))
    assert Counting.decoded <= 4 * 5_000
    assert time.perf_counter() - began < 10
