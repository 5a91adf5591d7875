"""Tokenizers whose patterns run away are found before they are used."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from workers.models.provision import ensure
from workers.models.registry import get
from workers.models.tokenizer_trial import trial_texts, why_slow

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def write(folder: Path, **parts: Any) -> Path:
    """A tokenizer of a few words, with these parts in its file."""
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model, **empty, **parts}))
    return folder


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replace(pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": " "}


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a|aa)+$",
        r"(a|a?)+$",
        r"(.*)*x",
        r"(\w+\s?)+$",
        r"^(\d+)*z",
        r"(?:[a-z]+)*!",
        r"(q+)+z",
        r"(%7|%|7)+;",
        r"\s*\s*\s*x",
        r"(ab|a|b)+c",
    ],
)
def test_a_pattern_with_repetitions_in_repetitions_is_refused(tmp_path: Path, pattern: str) -> None:
    """As it was, one of these held a job for 40 seconds."""
    assert "takes too long" in str(why_slow(write(tmp_path, pre_tokenizer=split(pattern))))


def test_so_is_one_among_others_or_in_another_part(tmp_path: Path) -> None:
    several = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, split(r"(a+)+$")]}
    assert why_slow(write(tmp_path / "sequence", pre_tokenizer=several))
    assert why_slow(write(tmp_path / "normalizer", normalizer=replace(r"(a+)+$")))


def test_one_that_takes_all_memory_is_refused(tmp_path: Path) -> None:
    """Each step makes ten letters of one."""
    steps = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10} for _ in range(7)]
    assert why_slow(write(tmp_path, normalizer={"type": "Sequence", "normalizers": steps}))


def test_a_vocabulary_whose_longest_word_has_no_end_is_refused(tmp_path: Path) -> None:
    """WordPiece looks for the longest piece from each letter on; its limit on a word's length is a number in the file."""
    model = {"type": "WordPiece", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    endless = {**model, "max_input_chars_per_word": 10**9, "vocab": {"[UNK]": 0, "a": 1, "##a": 2}}
    assert why_slow(write(tmp_path / "endless", model=endless))
    assert why_slow(write(tmp_path / "usual", model={**model, "max_input_chars_per_word": 100})) is None


@pytest.mark.parametrize("pattern", [GPT_2, LLAMA_3, r"\s+", r"[0-9]", r"(?<=\w)-(?=\w)"])
def test_patterns_of_models_in_use_pass(tmp_path: Path, pattern: str) -> None:
    assert why_slow(write(tmp_path, pre_tokenizer=split(pattern))) is None


def test_the_tokenizer_of_a_shipped_model_passes(tmp_path: Path) -> None:
    folder = ensure(get("minilm-l6-v2"), tmp_path)
    assert why_slow(folder) is None


def test_a_file_that_is_none_is_for_its_loader(tmp_path: Path) -> None:
    assert why_slow(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{")
    assert why_slow(tmp_path) is None


def test_a_file_that_was_changed_is_tried_again(tmp_path: Path) -> None:
    assert why_slow(write(tmp_path, pre_tokenizer=split(r"\s+"))) is None
    assert why_slow(write(tmp_path, pre_tokenizer=split(r"(a+)+$")))


def test_the_texts_hold_what_patterns_name(tmp_path: Path) -> None:
    """And of its operators and classes nothing."""
    texts = list(trial_texts({"a": [{"Regex": r"(?i:\p{L}+§)[€]{2,5}\x{41}"}], "vocab": {"Regex": 5, "x": {"Regex": "µ"}}}))
    letters = {letter for text in texts for letter in text}
    assert {"§", "€", "a", " "} <= letters
    assert not {"µ", "p", "L", "{"} & letters
    assert max(map(len, texts)) < 25_000


def test_a_good_tokenizer_gives_the_same_ids_with_and_without_the_gil(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(ensure(get("minilm-l6-v2"), tmp_path) / "tokenizer.json"))
    text = "A text, of several words – and two marks."
    assert tokenizer.encode_batch_fast([text])[0].ids == tokenizer.encode(text).ids
