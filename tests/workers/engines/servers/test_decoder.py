"""A server of the test's own that fails in every way: its troubles are the lane's, never a row's."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import Literal

import msgspec
import numpy as np
import pytest

from tests.faults.faulty_server import FINGERPRINT, MODEL, Asked, FaultyServer
from tests.waiting import wait_until
from tests.workers.engines.servers.conftest import DecoderOf
from workers.batches.outcomes import EngineAway, FailedRow
from workers.engines.contract.decoding import DecoderRow, Generation
from workers.engines.contract.generation import GenerateRequest, Message, Sampling
from workers.engines.fake import expected_text
from workers.engines.servers.shapes import completion_asked
from workers.engines.servers.window import FIRST
from workers.grammars.grammar import Grammar


def chats(count: int) -> list[GenerateRequest]:
    return [GenerateRequest(messages=[Message("user", f"prompt {at} of the test")], max_tokens=8) for at in range(count)]


def answered(decoder_requests: list[GenerateRequest], answers: list[Generation | FailedRow]) -> None:
    for request, answer in zip(decoder_requests, answers, strict=True):
        assert isinstance(answer, Generation), answer
        assert answer.text == expected_text(request.messages[-1].content, 8)


def test_chats_and_prompts_are_answered_as_the_server_says(server: FaultyServer, decoder_of: DecoderOf) -> None:
    decoder = decoder_of(server, model="as-it-is-called")
    requests = [*chats(20), GenerateRequest(prompt="a plain prompt", max_tokens=4, sampling=Sampling(temperature=0.5, seed=3), stop=("x",))]
    answers = decoder.answer(requests)
    answered(requests[:20], answers[:20])
    last = answers[20]
    assert isinstance(last, Generation)
    assert (last.text, last.finish_reason, len(last.ids)) == (expected_text("a plain prompt", 4), "stop", 4)
    assert last.prompt_tokens == 3
    assert last.model_version == f"remote@127.0.0.1:{server.port}+{MODEL}+{FINGERPRINT}"
    plain = next(asked for asked in server.asked if asked.path == "/v1/completions")
    assert plain.fields == {
        "model": "as-it-is-called",
        "prompt": "a plain prompt",
        "max_tokens": 4,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["x"],
        "stream": False,
    }


@pytest.mark.parametrize(
    "fault",
    ["429", "429-after", "500", "503", "reset", "drop", "empty", "nonsense", "no-choices", "no-ending", "compressed", "stream", "endless"],
)
def test_a_fault_that_passes_costs_no_row_its_answer(fault: str, decoder_of: DecoderOf) -> None:
    seen: Counter[str] = Counter()

    def behave(asked: Asked) -> str | None:
        seen[asked.texts[0]] += 1
        return fault if seen[asked.texts[0]] == 1 and int(asked.texts[0].split()[1]) % 3 == 0 else None

    with FaultyServer(behave) as server:
        requests = chats(24)
        answers = decoder_of(server).answer(requests)
        answered(requests, answers)
        assert server.faults[fault] == 8


def test_a_row_that_asks_for_what_only_the_server_knows_fails_by_name(server: FaultyServer, decoder_of: DecoderOf) -> None:
    requests = chats(3)
    requests[1].sampling = Sampling(top_logprobs=2)
    answers = decoder_of(server).answer(requests)
    assert answers[1] == FailedRow("unsupported_field:logprobs")
    answered([requests[0], requests[2]], [answers[0], answers[2]])
    assert len(server.asked) == 2


def test_what_an_answer_must_look_like_is_asked_as_openai_has_it(server: FaultyServer, decoder_of: DecoderOf) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    grammars = [Grammar("json", schema, "response_format"), Grammar("json", '{"type":"integer"}', "guided_json"), None]
    requests = [GenerateRequest(prompt=f"{at} is the prompt", max_tokens=8, grammar=grammar) for at, grammar in enumerate(grammars)]
    answers = decoder_of(server).answer(requests)
    assert answers[:2] == [FailedRow("unfinished_answer")] * 2, "this server's words are no JSON: they are not given for it"
    assert isinstance(answers[2], Generation)
    formats = {asked.texts[0][0]: asked.fields.get("response_format") for asked in server.asked}
    assert formats["0"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert formats["1"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "integer"}}}
    assert formats["2"] is None


@pytest.mark.parametrize("source", ["{", '{"description":"\\ud800"}', '{"not":{}}'])
def test_a_form_that_is_none_is_its_rows_fault_and_the_server_is_not_asked(
    source: str, server: FaultyServer, decoder_of: DecoderOf
) -> None:
    requests = [GenerateRequest(prompt="a prompt", max_tokens=8, grammar=Grammar("json", source, "guided_json")), *chats(2)]
    answers = decoder_of(server).answer(requests)
    assert isinstance(answers[0], FailedRow)
    assert answers[0].code.startswith("invalid_grammar:guided_json:")
    answered(requests[1:], answers[1:])
    assert len(server.asked) == 2


@pytest.mark.parametrize("kind", ["regex", "choice", "grammar"])
def test_another_form_is_vllms_and_a_server_that_may_leave_it_aside_is_not_asked(
    kind: Literal["regex", "choice", "grammar"], server: FaultyServer, decoder_of: DecoderOf
) -> None:
    sources: dict[str, str | list[str]] = {"choice": ["yes", "no"], "regex": "[a-z]+", "grammar": 'start: "yes"'}
    grammar = Grammar(kind, sources[kind], f"guided_{kind}")
    [answer] = decoder_of(server).answer([GenerateRequest(prompt="a prompt", max_tokens=8, grammar=grammar)])
    assert (answer, len(server.asked)) == (FailedRow(f"unsupported_field:guided_{kind}"), 0)
    asked = DecoderRow(np.zeros(1, np.int32), 8, asked=GenerateRequest(prompt="a prompt", grammar=grammar))
    assert msgspec.json.decode(completion_asked(asked, "m")[1])["structured_outputs"] == {kind: grammar.source}


def test_a_server_that_hangs_is_found_out_and_its_rows_are_asked_again(decoder_of: DecoderOf) -> None:
    with FaultyServer() as server:
        hanging = iter(chain(repeat(True, 4), repeat(False)))
        server.behave = lambda _asked: "hang" if next(hanging) else None
        requests = chats(12)
        answers = decoder_of(server, timeout_seconds=1.0).answer(requests)
        answered(requests, answers)
        assert server.faults["hang"] == 4


def test_a_server_that_dies_and_comes_back_in_time_is_waited_for(decoder_of: DecoderOf) -> None:
    with FaultyServer(latency_seconds=0.02) as server:
        decoder = decoder_of(server)
        requests = chats(60)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(decoder.answer, requests)
            wait_until(lambda: len(server.asked) >= 10, "it is in the midst")
            server.stop()
            server.start()
            answered(requests, asked.result(30))


@pytest.mark.parametrize("fault", ["500", "401", "404", "redirect", "429-long", "hang", "nonsense"])
def test_a_server_that_goes_on_failing_is_away_and_no_row_is_to_blame(
    fault: str, decoder_of: DecoderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.servers.line.FIRST_AWAY", 1_000.0)  # so that the test cannot be too slow for it
    with FaultyServer(lambda _asked: fault) as server:
        decoder = decoder_of(server, patience_seconds=0.5, timeout_seconds=0.3)
        with pytest.raises(EngineAway) as away:
            decoder.answer(chats(4))
        assert away.value.seconds > 0
        before = len(server.asked)
        with pytest.raises(EngineAway):
            decoder.answer(chats(4))
        assert len(server.asked) == before, "it is not asked before its time"


def test_what_was_answered_before_the_server_went_away_is_kept(decoder_of: DecoderOf) -> None:
    with FaultyServer(lambda asked: None if asked.number <= 5 else "500") as server:
        answering = decoder_of(server, patience_seconds=0.5).begin(chats(12))
        kept = answering.take(60.0)
        assert [isinstance(answer, Generation) for _, answer in kept] == [True] * 5
        with pytest.raises(EngineAway):
            answering.take(60.0)


def test_a_slow_server_that_has_too_much_is_not_away(decoder_of: DecoderOf) -> None:
    with FaultyServer(latency_seconds=0.6) as server:
        server.behave = lambda _asked: "429" if server.under_way > 1 else None
        requests = chats(4)
        answers = decoder_of(server, patience_seconds=0.3).answer(requests)
        answered(requests, answers)


def test_nobody_listens(decoder_of: DecoderOf) -> None:
    with FaultyServer() as server:
        decoder = decoder_of(server, patience_seconds=0.2)
        server.stop()
        with pytest.raises(EngineAway):
            decoder.answer(chats(2))
        server.start()


def test_a_row_that_the_server_refuses_fails_alone(decoder_of: DecoderOf) -> None:
    def behave(asked: Asked) -> str | None:
        return {"prompt 3 of the test": "400", "prompt 7 of the test": "too-long"}.get(asked.texts[0])

    with FaultyServer(behave) as server:
        answers = decoder_of(server).answer(chats(10))
        failed = {at: answer.code for at, answer in enumerate(answers) if isinstance(answer, FailedRow)}
        assert failed == {3: "refused_by_server::400|invalid_request_error", 7: "prompt_too_long"}
        assert len(server.asked) == 10


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.servers.line.LONGEST_PAUSE", 0.002)


@pytest.mark.parametrize("fault", ["500", "nonsense", "drop"])
def test_a_row_that_the_server_fails_on_each_time_fails_alone(fault: str, decoder_of: DecoderOf, short_pauses: None) -> None:
    with FaultyServer(lambda asked: fault if asked.texts[0] == "prompt 3 of the test" else None) as server:
        requests = chats(10)
        answers = decoder_of(server).answer(requests)
        assert answers[3] == FailedRow("engine_error")
        answered(requests[:3] + requests[4:], answers[:3] + answers[4:])


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("fault", ["429", "429-after"])
def test_a_row_that_the_server_always_has_too_much_to_do_for_fails_alone(
    fault: str, count: int, decoder_of: DecoderOf, short_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.servers.line.LONGEST_LONE_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("workers.engines.servers.line.LONGEST_WISH_SECONDS", 0.02)
    monkeypatch.setattr("workers.engines.servers.blame.LEAST_BUSY_SECONDS", 0.3)
    with FaultyServer(lambda asked: fault if asked.texts[0] == "prompt 0 of the test" else None) as server:
        requests = chats(count)
        answers = decoder_of(server).answer(requests)
        assert answers[0] == FailedRow("refused_by_server::429")
        answered(requests[1:], answers[1:])


def test_a_single_row_that_the_server_fails_on_fails_too(decoder_of: DecoderOf, short_pauses: None) -> None:
    with FaultyServer(lambda asked: "500" if asked.texts[0] != "1" else None) as server:
        answers = decoder_of(server).answer(chats(1))
        assert answers == [FailedRow("engine_error")]
        assert server.faults["500"] > 8


def test_no_more_are_under_way_than_the_window_lets(decoder_of: DecoderOf) -> None:
    with FaultyServer(latency_seconds=0.3) as server:
        requests = chats(FIRST + 2)  # that there is room for: the window has not been full for a round
        answered(requests, decoder_of(server).answer(requests))
        assert server.most_under_way == FIRST


def test_as_many_are_under_way_as_the_server_takes(decoder_of: DecoderOf) -> None:
    under_way: list[int] = []
    with FaultyServer(latency_seconds=0.005) as server:

        def behave(_asked: Asked) -> str | None:
            under_way.append(server.under_way)
            return "429" if server.under_way > 10 else None

        server.behave = behave
        requests = chats(300)
        answers = decoder_of(server).answer(requests)
        answered(requests, answers)
        assert server.most_under_way <= 24
        assert max(under_way[100:]) >= 5
