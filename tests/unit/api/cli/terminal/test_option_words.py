"""What a server says, in the words of a command; what a mistyped option may have meant."""

import httpx
import pytest

from api import cli
from api.cli.terminal.option_words import in_options, meant
from api.cli.tree import options_of
from api.streams.uploads import FORM_FIELDS

NEVER_SENT = {"purpose", "expires_after", "expires_after[anchor]", "expires_after[seconds]"}  # by no command


@pytest.mark.parametrize(
    ("command", "said", "told"),
    [
        ("label", "Name the right one in the form field text_column.", "Name the right one with --text-column."),
        ("generate", "Name the right one in the form field text_column.", "Name the right one with --prompt-column."),
        ("train head", "Name the right one in the form field label_column.", "Name the right one with --label-column."),
        ("embed", "The column that id_column names must hold strings.", "The column that --id-column names must hold strings."),
        ("label", "The field `delimiter` must be a comma.", "--delimiter must be a comma."),
        ("label", "The field completion_window is missing.", "--window is missing."),
        ("label", "Say so in `text_column` or in the form field `format`.", "Say so with --text-column or with --format."),
        ("generate", "The field `defaults.max_tokens` must be a number.", "--max-tokens must be a number."),
        ("label", "The field `defaults.labels[1]` must be text.", "--labels must be text."),
        ("label", "Name `labels`, a `label_set` or a head.", "Name --labels, a --label-set or a head."),
        ("run", "The field `labels` must be a list.", "--set labels=… must be a list."),
        (
            "label",
            "There is no such model here; `GET /v1/models` lists them.",
            "There is no such model here; `textmill models list` lists them.",
        ),
        ("label", "There is no such head.", "There is no such head; `textmill heads list` shows what there is."),
        ("heads delete", "There is no head of this name.", "There is no head of this name; `textmill heads list` shows what there is."),
        (
            "label",
            "There is no label set of this name.",
            "There is no label set of this name; `textmill label-sets list` shows what there is.",
        ),
        ("keys revoke", "There is no such key.", "There is no such key; `textmill keys list` shows what there is."),
        ("generate", "The model cannot do this task.", "The model cannot do this task; `textmill models list` tells what each can do."),
        ("label", "The body of this request may have 4096 KiB.", "What the options hold may have 4096 KiB in all."),
        ("jobs cancel", "The batch is completed and can no longer be cancelled.", "The job is completed and can no longer be cancelled."),
        ("jobs show", "There is no batch with this id.", "There is no job with this id."),
        ("label", "One upload takes one file. /docs/http tells more.", "One upload takes one file. `textmill docs http` tells more."),
        ("label", "The file has no column text, input or prompt.", "The file has no column text, input or prompt."),
        ("label", "The model wrote nothing in the format of this file.", "The model wrote nothing in the format of this file."),
        ("label", "The line has no `custom_id`.", "The line has no `custom_id`."),
        (
            "run",
            "A field is not known here; known are model, on_long, label_set. `textmill docs tasks` and /docs/tasks tell more.",
            "A field is not known here; known are model, on_long, label_set. `textmill docs tasks` tells more.",
        ),
    ],
)
def test_a_field_is_told_as_the_option_of_the_command(command: str, said: str, told: str) -> None:
    words, options = options_of(command.split())
    assert words == command.split()
    assert in_options(said, options, words) == told


@pytest.mark.parametrize("field", sorted(set(FORM_FIELDS) - NEVER_SENT))
@pytest.mark.parametrize("command", ["label", "generate", "embed", "run", "train head"])
def test_no_field_of_a_form_is_left_in_what_a_command_says(command: str, field: str) -> None:
    words, options = options_of(command.split())
    if (command == "train head") == (field == "id_column") or (field == "label_column" and command != "train head"):
        return  # the command sends no such field
    told = in_options(f"Name it in the form field {field}.", options, words)
    assert told.startswith("Name it with --")


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("--id", ["--id-column"]),
        ("--text", ["--text-column"]),
        ("--out", ["--output"]),
        ("--label", ["--label-set", "--labels", "--labels-file"]),
        ("--column", ["--columns"]),
        ("--labls", ["--labels", "--label-set"]),
        ("--id=x", ["--id-column"]),
        ("--text_column", ["--text-column"]),
        ("--zzz", []),
        ("--", []),
    ],
)
def test_an_option_that_is_not_there_suggests_what_it_abbreviates_or_resembles(given: str, options: list[str]) -> None:
    assert meant(given, options_of(["label"])[1]) == options


def test_a_mistyped_option_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["label", "x.csv", "--id", "key"]) == 2
    assert capsys.readouterr().err == "textmill: There is no option --id here. Did you mean --id-column? See `textmill label --help`.\n"


def test_a_refusal_of_the_server_is_told_in_options_as_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = {"error": {"code": "missing_text_column", "message": "Name it in the form field text_column.", "param": "text_column"}}
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda *_: httpx.Response(400, json=fault))
    monkeypatch.setenv("TEXTMILL_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TEXTMILL_API_KEY", "tm_key")
    for more in ([], ["--json"]):
        assert cli.run(["generate", __file__, "--format", "csv", "-o", "/dev/null", "-q", *more]) == 2
        assert "Name it with --prompt-column." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["label", "x.csv", "--priority", "1000"],
            "Invalid value for '--priority': it must be less than or equal to 99. See `textmill label --help`.",
        ),
        (
            ["jobs", "priority", "last", "x"],
            "it must be a valid integer, unable to parse string as an integer. See `textmill jobs priority --help`.",
        ),
        (["jobs", "shwo"], "See `textmill jobs --help`."),
        (["lable"], "No such command 'lable'. Did you mean 'label'? See `textmill --help`."),
        (["label"], "Missing argument 'FILE'. See `textmill label --help`."),
    ],
)
def test_a_wrong_argument_is_told_in_a_sentence_with_the_help_of_its_own_command(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    assert capsys.readouterr().err.rstrip("\n").endswith(said)
