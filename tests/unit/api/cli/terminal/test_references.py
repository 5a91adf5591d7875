"""How jobs and files are named at a terminal, and how short a list may name them."""

import sys
from collections.abc import Iterator

import httpx
import pytest

from api.cli.terminal.exits import CommandError
from api.cli.terminal.references import find_file, find_job, find_key, find_object, short_ids
from api.client import Client

JOBS = [f"batch_{digits.ljust(32, '0')}" for digits in ("abcd1", "abcd2", "e123f")]
FILES = [f"file-{digits.ljust(32, '1')}" for digits in ("77aa", "e77aa")]
KEYS = [f"key_{digits.ljust(32, '3')}" for digits in ("beef1", "beef2")]
ERRORS = f"file-e{'77aa'.ljust(32, '2')}"


@pytest.fixture
def client() -> Iterator[Client]:
    def answer(request: httpx.Request) -> httpx.Response:
        path, prefix = request.url.path, request.url.params.get("prefix")
        if path == "/v1/keys":
            return httpx.Response(200, json={"data": [{"id": each} for each in KEYS], "has_more": False})
        listed = JOBS if path == "/v1/batches" else [ERRORS, *FILES]
        if prefix is not None:
            plain = prefix.removeprefix("batch_").removeprefix("file-")
            listed = [each for each in listed if each.removeprefix("batch_").removeprefix("file-").startswith(plain)]
        job = {"endpoint": "/v1/embeddings", "status": "completed", "input_file_id": FILES[0], "created_at": 1}
        file = {"bytes": 1, "created_at": 1, "filename": "a", "status": "processed"}
        more = job if path == "/v1/batches" else file
        data = [{"id": each, **more, "purpose": "batch_output" if each == ERRORS else "rows"} for each in listed]
        return httpx.Response(200, json={"data": data, "has_more": False})

    with Client("http://127.0.0.1:1", "tm_key", transport=httpx.MockTransport(answer)) as made:
        yield made


@pytest.mark.parametrize("named", [JOBS[0], "abcd1", "batch_abcd1", "ABCD1", "abcd1…", "last"])
def test_a_job_is_known_by_its_id_by_any_beginning_that_is_its_own_and_as_the_last(client: Client, named: str) -> None:
    assert find_job(client, named) == JOBS[0]


def test_a_beginning_that_several_have_lists_them(client: Client) -> None:
    with pytest.raises(CommandError) as caught:
        find_job(client, "abcd")
    assert JOBS[0] in caught.value.message
    assert JOBS[1] in caught.value.message
    assert (caught.value.code, caught.value.exit_code) == ("ambiguous_id", 2)


@pytest.mark.parametrize(
    ("named", "part", "code"), [("abc", "at least 4", 2), ("no such", "first digits", 2), ("ffff", "no job whose id", 1)]
)
def test_what_names_no_job_is_told_in_a_sentence(client: Client, named: str, part: str, code: int) -> None:
    with pytest.raises(CommandError) as caught:
        find_job(client, named)
    assert part in caught.value.message
    assert caught.value.exit_code == code


def test_the_last_file_is_the_last_that_was_uploaded_not_what_a_job_wrote(client: Client) -> None:
    assert find_file(client, "last") == FILES[0]
    assert find_file(client, "77aa") == FILES[0]
    assert find_file(client, ERRORS) == ERRORS
    with pytest.raises(CommandError, match="More than one file"):
        find_file(client, "e77aa")


def test_what_the_record_is_asked_about_goes_there_as_it_was_typed(client: Client) -> None:
    dashed = "0B0F9A4C-1111-4222-8333-444455556666"
    asked = ("last", " e123f… ", "file-77aa", "key_beef1", "key_" + dashed, dashed)
    plain = dashed.lower().replace("-", "")
    assert [find_object(client, named) for named in asked] == [JOBS[0], "e123f", "file-77aa", "key_beef1", "key_" + plain, plain]


@pytest.mark.parametrize("named", [FILES[0], "file-77aa", ERRORS, "key_beef1", KEYS[0]])
def test_the_id_of_something_else_is_no_job(client: Client, named: str) -> None:
    with pytest.raises(CommandError, match=f"the id of a {'key' if 'key' in named else 'file'}, and a job is asked for"):
        find_job(client, named)


def test_an_id_with_the_dashes_of_a_uuid_is_one(client: Client) -> None:
    dashed = f"{'abcd1':0<8}-0000-0000-0000-{'':0<12}"
    assert [find_job(client, named) for named in (dashed, f"batch_{dashed}", dashed.upper())] == [JOBS[0]] * 3


def test_a_list_on_a_terminal_names_ids_by_as_many_digits_as_tell_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = [f"batch_{'12345678' + last:0<32}" for last in "ab"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert list(short_ids([*JOBS, FILES[0], ERRORS]).values()) == ["abcd1000", "abcd2000", "e123f000", "file-77aa1111", "file-e77aa2222"]
    assert list(short_ids(twins).values()) == ["12345678a", "12345678b"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert list(short_ids(twins).values()) == twins


@pytest.mark.parametrize("named", [KEYS[1], "beef2", "key_beef2", "BEEF2"])
def test_a_key_is_known_by_any_beginning_that_is_its_own(named: str) -> None:
    assert find_key(KEYS, named) == KEYS[1]


@pytest.mark.parametrize(
    ("named", "part"),
    [("last", "`textmill keys list`"), ("beef", "More than one key"), ("ffff", "textmill keys list"), ("nope", "first digits")],
)
def test_what_names_no_key_or_two_is_told(named: str, part: str) -> None:
    with pytest.raises(CommandError) as caught:
        find_key(KEYS, named)
    assert part in caught.value.message
