"""What looks like a setting and is none is named, with the nearest that is."""

import re
from pathlib import Path

import pytest

from api.environment import misspelt

ROOT = Path(__file__).parents[3]
NOT_SETTINGS = {"TEXTMILL_COMPLETE", "TEXTMILL_DB_PASSWORD_", "TEXTMILL_FAKE_", "TEXTMILL_"}  # of completion; beginnings


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TEXTMILL_DATABSE_URL", "TEXTMILL_DATABASE_URL"),
        ("TEXTMILL_DB_URL", "TEXTMILL_DATABASE_URL"),
        ("TEXTMIL_DATABASE_URL", "TEXTMILL_DATABASE_URL"),
        ("TEXMILL_HOME", "TEXTMILL_HOME"),
        ("TXTMILL_HOME", "TEXTMILL_HOME"),
        ("TEXTMLIL_HOME", "TEXTMILL_HOME"),
        ("EXTMILL_KEK_FILE", "TEXTMILL_KEK_FILE"),
        ("TEXTMILLS_API_KEY", "TEXTMILL_API_KEY"),
        ("TEXTNILL_REDIS_URL", "TEXTMILL_REDIS_URL"),
        ("TESTMILL_DEVICE", "TEXTMILL_DEVICE"),
        ("ETXTMILL_DEVICE", "TEXTMILL_DEVICE"),
        ("texmill_threads", "TEXTMILL_THREADS"),
        ("TEXT_MILL_DEVICE", "TEXTMILL_DEVICE"),
        ("TEXTMILLDEVICE", "TEXTMILL_DEVICE"),
        ("TEXTMILL_KEK_FLIE", "TEXTMILL_KEK_FILE"),
        ("TEXTMILL_DB_PASSWORD_WORKERS", "TEXTMILL_DB_PASSWORD_WORKER"),
        ("TEXTMILL_MAX_UPLOAD_BYTE", "TEXTMILL_MAX_UPLOAD_BYTES"),
        ("textmill_api_key", "TEXTMILL_API_KEY"),
        ("Textmill_Treads", "TEXTMILL_THREADS"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest(name: str, nearest: str) -> None:
    [told] = misspelt({name, "PATH", "TEXTMILL_HOME"})
    assert told == f"{name} is no setting of textmill, and nothing reads it: did you mean {nearest}?"


def test_what_is_like_none_is_named_alone() -> None:
    assert misspelt({"TEXTMILL_COLOUR_OF_THE_SKY"}) == ["TEXTMILL_COLOUR_OF_THE_SKY is no setting of textmill, and nothing reads it."]


def test_what_is_read_is_not_named_in_whatever_case_it_is_read() -> None:
    assert misspelt({"TEXTMILL_DEVICE", "textmill_device", "TEXTMILL_API_KEY", "TEXTMILL_DB_PASSWORD_AUDITOR"}) == []


def test_what_is_somebody_elses_is_not_named() -> None:
    assert misspelt({"_TEXTMILL_COMPLETE", "TEXMFHOME", "TMILL", "TEXTMATE_HOME", "TREADMILL_HOME", "TEXINPUTS", "MY_TEXTMILL_HOME"}) == []


def test_what_kubernetes_says_of_a_service_of_our_name_is_no_setting_and_no_fault() -> None:
    of_a_service = {f"TEXTMILL_API_{name}" for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8910_TCP_ADDR")}
    assert misspelt(of_a_service) == []
    assert len(misspelt({"TEXTMILL_API_PORT"})) == 1, "without such a service it is misspelt"


def test_every_variable_that_the_source_or_a_document_names_is_known() -> None:
    places = [
        *ROOT.glob("*.md"),
        *(ROOT / "deploy").rglob("*"),
        *(path for top in ("db", "workers", "api") for path in (ROOT / top).rglob("*")),
    ]
    named = {
        name
        for path in places
        if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".service", ".env", ""}
        for name in re.findall(r"TEXTMILL_[A-Z0-9_]*", path.read_text())
    }
    assert len(named) > 50
    assert misspelt(named - NOT_SETTINGS) == []
