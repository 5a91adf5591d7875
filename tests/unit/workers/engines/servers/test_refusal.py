"""What of a server's refusal a row's failure keeps: its status, and a name of a closed list."""

import json
from typing import Any

import pytest

from workers.engines.servers.shapes import refusal

OWN = "zebra_quartz_canary"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"error": {"message": OWN, "type": "invalid_request_error", "param": OWN, "code": "invalid_value"}}, "|invalid_value"),
        ({"error": {"message": OWN, "type": "invalid_request_error", "code": None}}, "|invalid_request_error"),
        ({"error": {"message": OWN, "type": "BadRequestError", "code": 400}}, "|BadRequestError"),
        ({"object": "error", "message": OWN, "type": "BadRequestError", "code": 400}, "|BadRequestError"),
        ({"error": OWN, "error_type": "validation"}, "|validation"),
        ({"error": {"type": OWN, "code": OWN}}, ""),
        ({"error": {"type": {"invalid_value": 1}, "code": ["invalid_value"]}}, ""),
        ([OWN], ""),
        (OWN, ""),
    ],
)
def test_only_a_public_name_of_its_kind_is_kept(said: Any, kind: str) -> None:
    assert refusal(422, json.dumps(said).encode()).code == f"refused_by_server::422{kind}"


@pytest.mark.parametrize("reply", [b"", b"\xff", b"<html>", b"[" * 100_000])
def test_a_refusal_without_a_shape_keeps_its_status(reply: bytes) -> None:
    assert refusal(400, reply).code == "refused_by_server::400"


def test_a_prompt_that_is_too_long_is_told_as_that() -> None:
    assert refusal(400, b'{"error": {"code": "context_length_exceeded"}}').code == "prompt_too_long"
