"""Why a row has no answer: the closed table of failure codes, with the HTTP status and the sentence for each.

A stored failure is ``code``, ``code:field`` or ``code:field:detail``: the field is one of our own or of the public API's names, the detail
what was expected there (and after a ``|``, what kind of value was found). None holds anything of the row.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a row can fail; ``status`` is what the row's response carries."""

    code: str
    status: int
    message: str


_TABLE: Final = (
    # the line could not be read
    Failure("invalid_json", 400, "The line is not valid JSON."),
    Failure("invalid_utf8", 400, "The line is not valid UTF-8: convert the file to UTF-8."),
    Failure("nul_character", 400, "The line holds a NUL character, which text cannot contain."),
    Failure("lone_surrogate", 400, "The line holds half of a surrogate pair, which is not a character."),
    Failure("line_too_long", 413, "The line is longer than the limit: split the text or raise the limit."),
    Failure("too_deep", 400, "The line is nested too deeply."),
    Failure("not_an_object", 400, "The line must be a JSON object."),
    Failure("non_finite_number", 400, "NaN and infinite numbers are not JSON."),
    Failure("repeated_field", 400, "The line has a field twice: keep the one that is meant."),
    Failure("missing_custom_id", 400, "The line has no `custom_id`."),
    Failure(
        "invalid_custom_id",
        400,
        "The id must be text of 1 to 512 characters, without NUL; in plain rows it may be a number or a truth value.",
    ),
    Failure("duplicate_custom_id", 400, "An earlier line has the same `custom_id`; the first one was taken."),
    Failure("wrong_method", 400, "`method` must be POST."),
    Failure("wrong_url", 400, "`url` names no endpoint of this server."),
    Failure("url_mismatch", 400, "`url` differs from the endpoint of the batch."),
    Failure("missing_body", 400, "The line has no `body` object."),
    Failure("invalid_record", 400, "The record does not have the shape of the file's header."),
    Failure("wrong_cell_count", 400, "The record has another number of cells than the header."),
    Failure("stray_carriage_return", 400, "A carriage return stands inside a cell: quote the cell, or end each line with a line feed."),
    Failure("stray_quote", 400, "A quote ends a cell too early, or never: double the quotes inside a quoted text."),
    Failure("missing_text_column", 400, "The record has no value in the text column."),
    # the body asks for something that cannot be done
    Failure("unknown_field", 400, "A field is not known here; `textmill docs tasks` and /docs/tasks list those of each endpoint."),
    Failure("unsupported_field", 400, "A field asks for something that is not done here."),
    Failure("invalid_field", 400, "A field has the wrong type or an impossible value."),
    Failure("missing_model", 400, "No model is named, neither by the row nor by the batch."),
    Failure("unknown_model", 404, "There is no such model here; `GET /v1/models` lists them."),
    Failure("model_task_mismatch", 400, "The model cannot do this task."),
    Failure(
        "no_moderation_model",
        400,
        "The model moderates nothing: name a head (`head:NAME`) that was trained on examples with OpenAI's categories as labels, or a"
        " classifier of your own that has some of them; or classify with labels of your own at /v1/classifications.",
    ),
    Failure("missing_input", 400, "There is no text to work on."),
    Failure("empty_input", 400, "The text is empty."),
    Failure("input_too_long", 400, "The text is longer than the model takes, and `on_long` says to refuse it."),
    Failure("missing_labels", 400, "No labels are given: name `labels`, a `label_set`, or a trained head as the model."),
    Failure("too_few_labels", 400, "At least two labels are needed."),
    Failure("too_many_labels", 400, "There are more labels than the limit."),
    Failure("duplicate_label", 400, "The same label is given twice."),
    Failure("empty_label", 400, "A label is empty."),
    Failure(
        "labels_alike",
        400,
        "The model reads two of the labels as the same tokens, or one as none, and cannot tell them apart: word them otherwise.",
    ),
    Failure(
        "labels_too_long",
        400,
        "The list of labels, with what describes them, leaves the model no room for a text, or less than a quarter for one that is read in"
        " windows: give fewer labels, or shorter descriptions.",
    ),
    Failure(
        "too_many_windows",
        400,
        "The windows of the text, each in every order of the labels, are more than one row may ask of a decoder: split the text, or ask for"
        " fewer `rotations`.",
    ),
    Failure(
        "no_label_scores",
        400,
        "The model is run by a server, which does not score labels: name an encoder, a classifier, or a decoder that the workers run.",
    ),
    Failure("no_rule", 400, "No rule holds for the row, and the rules have no `default`."),
    Failure("row_too_long", 413, "The row is too long to be held against so many conditions: split its texts, or the rules."),
    Failure("no_variant", 400, "No variant of the template's text holds for the row: give one without a condition."),
    Failure("empty_answer", 400, "What the rules or the template say of this row is empty: a column that they take it from is, perhaps."),
    Failure(
        "answer_too_long",
        400,
        "What the rules or the template say of this row is longer than an answer may be: 262,144 characters, of a label 1,000.",
    ),
    Failure(
        "columns_unread",
        400,
        "The rules or the template look at columns, which are opened where a batch names them in its `defaults`, not where a row does.",
    ),
    Failure("definition_broken", 500, "The worker cannot read the rules or the template: it is older than the API."),
    Failure("unknown_label_set", 404, "There is no label set of this name."),
    Failure("version_gone", 404, "The version of a name that the batch began with was deleted: make a new batch."),
    Failure("missing_label", 400, "A training row has no label."),
    Failure("rare_label", 400, "Its label has one example only and was left out of the head: give at least two of each label."),
    Failure("step_failed", 409, "The row has no answer in a step before this one: the row's story says why."),
    Failure("source_gone", 410, "The results that the batch reads were deleted, or have expired, before it ran."),
    Failure("too_few_examples", 400, "There are too few examples to train on: give at least two for each of at least two labels."),
    Failure("too_large_head", 413, "There are too many examples, or labels, for one head: give fewer examples of each label."),
    Failure("invalid_grammar", 400, "No answer can be held to the schema, pattern or grammar that it should meet."),
    Failure(
        "no_chat_template",
        400,
        "The model takes no messages, for its folder has no chat template: ask it to go on with a prompt (/v1/completions).",
    ),
    Failure("chat_refused", 400, "The model's chat template makes no prompt of these messages: look at their roles and their order."),
    Failure(
        "prompt_failed",
        400,
        "The batch's prompt cannot be filled in with the row's columns: `textmill prompts render` shows what comes of a file's rows.",
    ),
    Failure("prompt_too_large", 400, "The batch's prompt makes too much of the row, or takes too long over it: its loops are bounded."),
    Failure("unknown_prompt", 404, "There is no prompt of this name."),
    Failure("prompt_too_long", 400, "The prompt is longer than the model takes."),
    # the model or the machine
    Failure(
        "empty_generation",
        500,
        "The model wrote nothing before `stop` or `max_tokens` ended its answer: change them, or ask in other words.",
    ),
    Failure(
        "unfinished_answer",
        400,
        "The answer reached its limit of tokens, or a text of `stop`, before it was what it must look like, so none is given: raise"
        " `max_tokens`, or ask for less.",
    ),
    Failure(
        "check_failed",
        422,
        "No answer passed the job's checks, in as many tries as it allows: ask in other words, allow more `tries`, or loosen the check.",
    ),
    Failure(
        "check_unavailable",
        500,
        "The worker cannot check the answer: it is older than the API, or lacks the extra `checks` (`pip install 'textmill[checks]'`).",
    ),
    Failure("non_finite_output", 500, "The model's output was not a number."),
    Failure("refused_by_server", 400, "The server that runs the model refused this row."),
    Failure("content_filtered", 400, "The server that runs the model kept its answer back."),
    Failure("out_of_memory", 500, "The row does not fit into the device's memory, not even alone."),
    Failure("crashed_worker", 500, "The worker's process died each time it met this row."),
    Failure("engine_error", 500, "The model failed on this row."),
    Failure("model_broken", 500, "The model's files cannot be used: `textmill doctor` on the worker's machine says why."),
    Failure(
        "sealed_value_damaged",
        500,
        "What is stored of this cannot be opened: it was altered or moved in the database. Restore it from a backup, or send it again.",
    ),
    Failure("seal_broken", 500, "The stored text could not be opened: it was altered or moved."),  # as it was stored until 0.1.0
    Failure("key_destroyed", 410, "The key of this data was destroyed."),
    # the job ended before the row
    Failure("batch_cancelled", 409, "The batch was cancelled before this row ran."),
    Failure("batch_expired", 408, "The batch reached its deadline before this row ran."),
    Failure("batch_over_budget", 402, "The batch's budget was used up before this row ran."),
)

_STATUS: Final = re.compile(r"([1-5][0-9]{2})(?:\|(\w{1,40}))?")  # of a server's refusal, and the public name of its kind
NEWER: Final = "A newer worker's reason, which this version does not know yet: the release notes of the worker's version tell of it."
_CODE: Final = re.compile(r"(?=.{3,64}\Z)[a-z]+(?:_[a-z0-9]+)+")
_COUNT: Final = re.compile("[0-9]{1,9}")

FAILURES: Final[dict[str, Failure]] = {failure.code: failure for failure in _TABLE}


def describe(stored: str) -> Failure:
    """The failure of what is stored, with the field and the detail in its sentence. A code that is not in the table may be a newer
    worker's, while a deployment is brought up to date; what is no code nobody has written: that is damage, and not the model's fault."""
    code, field, detail = parts_of(stored)
    failure = FAILURES.get(code)
    if failure is None:
        return Failure(code, 500, NEWER) if _CODE.fullmatch(code) else FAILURES["sealed_value_damaged"]
    return Failure(failure.code, failure.status, _sentence(failure, field, detail)) if field or detail else failure


def is_failure(stored: str | None) -> bool:
    """Whether it can have been stored here, or by a newer version."""
    return stored is not None and (parts_of(stored)[0] in FAILURES or _CODE.fullmatch(parts_of(stored)[0]) is not None)


def parts_of(stored: str) -> tuple[str, str, str]:
    """Code, field and detail; empty where there is none."""
    code, _, rest = stored.partition(":")
    field, _, detail = rest.partition(":")
    return code, field, detail


def _sentence(failure: Failure, field: str, detail: str) -> str:
    match failure.code:
        case "unknown_field" if detail:
            what = f"The field `{field}` is" if field and "[" not in field else f"A field of `{field}` is" if field else "A field is"
            return f"{what} not known here; known are {detail}. `textmill docs tasks` and /docs/tasks tell more."
        case "unsupported_field":
            taken, _, reason = detail.partition("|")
            why = f", {reason}" if reason else ""
            return f"What the field `{field}` asks for is not done here{why}: leave it out{f', or send {taken}' if taken else ''}."
        case "step_failed" if _COUNT.fullmatch(field):
            return f"The row has no answer in step {field}, which this one reads: the row's story says why."
        case "invalid_grammar" if detail:
            return f"No answer can be held to what the field `{field}` asks for: {detail}."
        case "check_failed":
            place, _, tries = detail.partition("|")
            if not (_COUNT.fullmatch(place) and _COUNT.fullmatch(tries)):  # nothing that was written here
                return failure.message
            which = f"the check `{field}` (`checks[{place}]`)"
            found = f"The answer did not pass {which}" if tries == "1" else f"No answer of {tries} tries passed {which}"
            return f"{found}: ask in other words, allow more `tries`, or loosen the check."
        case "refused_by_server" if detail:
            found_status = _STATUS.fullmatch(detail)
            if found_status is None:
                return failure.message
            status, kind = found_status.groups()
            return f"The server that runs the model refused this row (HTTP status {status}{f', `{kind}`' if kind else ''})."
        case "input_too_long" if detail:
            return (
                f"There are more tokens in `{field}` than the {detail} that the model takes. Tokens are neither cut nor read in windows,"
                " whatever `on_long` says: send fewer of them, or the text."
            )
        case "wrong_cell_count":
            found, _, wanted = detail.partition("|")
            if not (_COUNT.fullmatch(found) and _COUNT.fullmatch(wanted)):  # nothing that was written here
                return failure.message
            cells = f"{found} cell{'' if found == '1' else 's'}"
            more = int(found) > int(wanted)
            hint = "quote a text that holds the delimiter" if more else "the text's is missing"
            return f"The record has {cells}, the header has {wanted}: {hint}."
        case "invalid_field" if detail:
            expected, _, found = detail.partition("|")
            return f"The field `{field}` must be {expected}{f', and is {found}' if found else ''}."
        case _:
            return f"{failure.message} (field `{field}`)"
