"""A decoder that OpenVINO GenAI runs says what transformers says, and what it cannot do is refused by name."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from db.errors import TextmillError
from tests.workers.engines.decoders.driving import run, said
from tests.workers.engines.decoders.families import greedy, prompt
from workers.batches.outcomes import FailedRow
from workers.batches.policy import Policy
from workers.engines.contract.decoding import DecoderRow
from workers.engines.contract.generation import Message, Sampling
from workers.engines.decoders.openvino_decoder import OpenVinoDecoder
from workers.models import registry
from workers.models.folders import VARIABLE
from workers.models.provision import ensure, with_digest

pytest.importorskip("openvino_genai")
pytest.importorskip("openvino_tokenizers")

POLICY = Policy(budget_tokens=2048, padded=False, max_rows=3)
LENGTHS = ((5, 20), (1, 9), (70, 3), (17, 30), (3, 1), (300, 6), (40, 12))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    from tests.workers.engines.decoders.openvino_folders import make_openvino

    root = tmp_path_factory.mktemp("models")
    return root, make_openvino(root / "own")


@pytest.fixture
def root(whole: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(whole[0]))
    return whole[0]


@pytest.fixture
def decoder(root: Path) -> OpenVinoDecoder:
    return load(root)


def load(root: Path) -> OpenVinoDecoder:
    card = registry.get("local:own")
    folder = ensure(card, root)
    return OpenVinoDecoder(with_digest(card, folder), folder, policy=POLICY, threads=1, exact=True)


def says(decoder: OpenVinoDecoder, *rows: DecoderRow) -> list[list[int]]:
    return [list(said(answer).ids) for answer in run(decoder.slots(), rows)]


def test_ragged_rows_that_join_and_leave_say_what_transformers_says(decoder: OpenVinoDecoder, whole: tuple[Path, Any]) -> None:
    ids = [prompt(seed, length) for seed, (length, _) in enumerate(LENGTHS)]
    ends = decoder.wording.end_ids
    known = [greedy(whole[1], one, limit, ends) for one, (_, limit) in zip(ids, LENGTHS, strict=True)]
    assert says(decoder, *(DecoderRow(one, limit, tenant="a") for one, (_, limit) in zip(ids, LENGTHS, strict=True))) == known
    assert decoder.model_version.endswith("+openvino-genai-f32-exact-2026.4.1.0")


def test_a_seed_says_the_same_alone_and_in_company(decoder: OpenVinoDecoder) -> None:
    row = DecoderRow(prompt(1, 9), 20, Sampling(temperature=1.5, top_k=40, top_p=0.95, seed=-7))
    alone = says(decoder, row)[0]
    others = [DecoderRow(prompt(seed, 12), 20, Sampling(temperature=1.5, seed=seed)) for seed in (2, 3)]
    assert says(decoder, others[0], row, others[1])[1] == alone
    free = [DecoderRow(prompt(1, 9), 20, Sampling(temperature=1.5)) for _ in range(2)]
    assert len({tuple(one) for one in says(decoder, *free)}) == 2


def test_a_stop_text_ends_an_answer_before_it(decoder: OpenVinoDecoder) -> None:
    row = DecoderRow(prompt(3, 17), 30)
    whole_text = said(run(decoder.slots(), [row])[0]).text
    stop = whole_text[len(whole_text) // 2 :][:3]
    answer = said(run(decoder.slots(), [DecoderRow(row.ids, 30, stop=(stop,))])[0])
    assert (answer.text, answer.finish_reason) == (whole_text[: whole_text.index(stop)], "stop")


def test_a_row_that_nobody_waits_for_gives_up_its_place(decoder: OpenVinoDecoder) -> None:
    slots = decoder.slots()
    rows = [DecoderRow(prompt(seed, 5), 50) for seed in range(3)]
    slots.add(rows)
    slots.step()
    assert (slots.room().rows, slots.kv_tokens() > 15) == (0, True)
    for row in rows:
        slots.cancel(row)
    assert (slots.room(), slots.kv_tokens()) == ((3, 2048), 0)
    assert list(said(run(slots, [DecoderRow(rows[0].ids, 4)])[0]).ids) == says(decoder, DecoderRow(rows[0].ids, 4))[0]


def test_what_it_cannot_do_is_refused_by_name_and_its_neighbours_are_answered(decoder: OpenVinoDecoder) -> None:
    rows = [DecoderRow(prompt(1, 5), 4, Sampling(top_logprobs=0)), DecoderRow(prompt(1, 5), 4)]
    refused, answered = run(decoder.slots(), rows)
    assert refused == FailedRow("unsupported_field:logprobs")
    assert said(answered).ids


def test_numbers_at_the_edge_of_32_bits_draw_the_likeliest(decoder: OpenVinoDecoder) -> None:
    ids = prompt(1, 9)
    [known] = says(decoder, DecoderRow(ids, 8))
    asked = [Sampling(1.5, min_p=1.0), Sampling(1.5, min_p=0.99999999), Sampling(1.5, top_p=1e-50)]
    assert says(decoder, *(DecoderRow(ids, 8, one) for one in asked)) == [known] * 3


def test_a_chat_is_put_by_the_folders_template(decoder: OpenVinoDecoder) -> None:
    ids = decoder.tokenize_chat([Message("user", "a <|im_end|> a")])
    assert not isinstance(ids, FailedRow)
    assert "<|im_start|>user\na <|im_end|> a<|im_end|>" in decoder.wording.tokenizer.decode(ids, skip_special_tokens=False)


def test_a_folder_that_is_damaged_is_a_sentence(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(root / "own", tmp_path / "own")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "own" / "openvino_model.xml").write_text("<net")
    with pytest.raises(TextmillError, match="OpenVINO GenAI cannot load it"):
        load(tmp_path)
