"""Where nothing is, a client of the public API is told what is."""

import pytest

from api.absent import told_at
from api.endpoints import TASKS


@pytest.mark.parametrize("endpoint", list(TASKS))
def test_who_asks_an_endpoint_directly_is_told_how_to_batch_it(endpoint: str) -> None:
    code, sentence = told_at(endpoint)
    assert code == "batches_only"
    assert f'"url": "{endpoint}"' in sentence
    assert f'"endpoint": "{endpoint}"' in sentence
    assert "/v1/batches" in sentence
    assert "`textmill " in sentence
    assert told_at(f"{endpoint}/") == (code, sentence)


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/v1/responses/resp_1/cancel", "not_supported", '"url": "/v1/responses"'),
        ("/v1/messages", "not_supported", "/v1/chat/completions"),
        ("/v1/fine_tuning/jobs", "not_supported", "POST /v1/heads"),
        ("/v1/uploads", "not_supported", "POST /v1/files"),
        ("/v1/rerank", "not_supported", "embedded and classified"),
        ("/v1/images/generations", "not_supported", "nothing of /v1/images"),
        ("/v1/audio/transcriptions", "not_supported", "batches of text"),
        ("/v1/vector_stores", "not_supported", "/docs/http"),
        ("/chat/completions", "not_found", "begins with /v1"),
        ("/files", "not_found", "begins with /v1"),
        ("/responses", "not_found", "begins with /v1"),
        ("/v1/v1/batches", "not_found", "/v1 twice"),
        ("/api/chat", "not_found", "ends in /v1"),
        ("/openai/deployments/x/chat/completions", "not_found", "ends in /v1"),
        ("/v1/batches/", "not_found", "without the slash"),
        ("/v1/nowhere", "not_found", "/docs/http"),
        ("/", "not_found", "/docs/http"),
        ("/v1", "not_found", "/docs/http"),
    ],
)
def test_an_address_of_a_client_is_told_what_stands_in_its_place(path: str, code: str, words: str) -> None:
    assert told_at(path)[0] == code
    assert words in told_at(path)[1]


@pytest.mark.parametrize("root", ["", "/v1", "/v1/images", "/files", "/v1/responses"])
def test_an_address_is_not_repeated(root: str) -> None:
    assert "zebra-canary" not in told_at(f"{root}/zebra-canary")[1]
