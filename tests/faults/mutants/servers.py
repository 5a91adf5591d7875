"""Guards of models that servers run: whose fault a failure is, what is bounded, to whom texts go, and what is on record."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_LINE: Final = "workers/engines/servers/line.py"
_WIRE: Final = "workers/engines/servers/wire.py"
_BLAME: Final = "workers/engines/servers/blame.py"
_OF_DECODER: Final = "tests/workers/engines/servers/test_decoder.py::"
_OF_WIRE: Final = "tests/workers/engines/servers/test_wire.py::"
_OF_BLAME: Final = "tests/unit/workers/engines/servers/test_blame.py::"
_OF_CHILD: Final = "tests/workers/engines/servers/test_child.py::"

MUTANTS: Final = (
    Mutant(
        "servers-failure-is-no-rows",
        "a failure counts against a row only where the server answered something else since its last one",
        _BLAME,
        ((" and self.good_at > suspicion.failed_at > -math.inf", ""),),
        (f"{_OF_BLAME}test_a_server_that_answers_nothing_is_to_blame_however_long_it_lasts",),
    ),
    Mutant(
        "blame-by-the-servers-rate",
        "how often others fail counts",
        _BLAME,
        (("return max(LEAST_RATE, (bad + 1) / (self._good + bad + 1))", "return LEAST_RATE"),),
        (f"{_OF_BLAME}test_a_server_that_fails_at_random_costs_no_request_its_answer",),
    ),
    Mutant(
        "lost-in-company",
        "what was under way with others when a server died is not to blame",
        _BLAME,
        (("counts=not lost or alone", "counts=True"),),
        (f"{_OF_BLAME}test_what_was_under_way_when_a_server_died_counts_only_alone",),
    ),
    Mutant(
        "busy-in-company",
        "that a server has too much to do counts against what was asked alone only",
        _BLAME,
        (("counts=suspicion.busies >= ALONE_AFTER_BUSY", "counts=True"),),
        (f"{_OF_BLAME}test_what_a_server_has_too_much_to_do_for_is_to_blame_only_alone_and_after_a_quarter_of_an_hour",),
    ),
    Mutant(
        "busy-for-a-while",
        "a server that has too much to do for some minutes costs no row its answer",
        _BLAME,
        ((" and self.failed_at - self.busy_since >= LEAST_BUSY_SECONDS", ""),),
        (f"{_OF_BLAME}test_what_a_server_has_too_much_to_do_for_is_to_blame_only_alone_and_after_a_quarter_of_an_hour",),
    ),
    Mutant(
        "busy-for-one",
        "a row that a server always has too much to do for does not keep its job from ending",
        _LINE,
        (
            (
                '        if suspicion.certain:\n            log.warning("%s: the server has too much',
                '        if False:\n            log.warning("%s: the server has too much',
            ),
        ),
        (f"{_OF_DECODER}test_a_row_that_the_server_always_has_too_much_to_do_for_fails_alone",),
    ),
    Mutant(
        "away-keeps-none-waiting",
        "rows of a model that is away keep no other model's rows waiting, of a task whose rows end one by one",
        "workers/shard/life.py",
        (("away = error\n            if away", "raise\n            if away"),),
        ("tests/workers/shard/test_life.py::test_rows_of_a_model_that_is_away_keep_no_other_models_rows_waiting",),
    ),
    Mutant(
        "away-keeps-no-chunk-waiting",
        "rows of a model that is away keep no other model's rows waiting",
        "workers/shard/life.py",
        (("away = error\n                    continue", "raise"),),
        ("tests/workers/shard/test_life.py::test_rows_of_a_model_that_is_away_keep_no_other_models_rows_waiting",),
    ),
    Mutant(
        "away-is-not-done",
        "a shard of which a model is away is not done with its last row",
        "workers/shard/life.py",
        (("not uncut and not left and away is None", "not uncut and not left"),),
        ("tests/workers/shard/test_life.py::test_rows_of_a_model_that_is_away_keep_no_other_models_rows_waiting",),
    ),
    Mutant(
        "control-before-blame",
        "a lone row is found to be to blame, because something harmless is asked beside it",
        _LINE,
        (("if not request.is_control and self._blame.needs_control(request.suspicion):", "if False:"),),
        (f"{_OF_DECODER}test_a_single_row_that_the_server_fails_on_fails_too",),
    ),
    Mutant(
        "away-is-left-alone",
        "a server that is away is not asked before its time",
        _LINE,
        (("if (seconds := self.away_seconds) > 0:", "if (seconds := self.away_seconds) > 1e9:"),),
        (f"{_OF_DECODER}test_a_server_that_goes_on_failing_is_away_and_no_row_is_to_blame",),
    ),
    Mutant(
        "within-the-window",
        "no more is under way than the server takes",
        _LINE,
        (("(1 if is_narrow else self._window.width)", "1_000"),),
        (f"{_OF_DECODER}test_no_more_are_under_way_than_the_window_lets",),
    ),
    Mutant(
        "hang-found-out",
        "a server that gives no sign of life is found out",
        _LINE,
        (("        if await self._wire.lives(half):", "        if True:"),),
        (f"{_OF_CHILD}test_one_that_hangs_is_ended_and_started_again",),
    ),
    Mutant(
        "bounded-reply",
        "an answer is bounded in size",
        _WIRE,
        (("        if size_bytes > MOST_BYTES:\n", "        if size_bytes > 40 * MOST_BYTES:\n"),),
        (f"{_OF_WIRE}test_a_body_without_an_end_is_given_up_at_the_bound_of_size",),
    ),
    Mutant(
        "bounded-time",
        "an answer is bounded in time",
        _WIRE,
        (("async with asyncio.timeout(seconds):", "async with asyncio.timeout(None):"),),
        (f"{_OF_WIRE}test_an_answer_that_drips_is_given_up_at_the_bound_of_time",),
    ),
    Mutant(
        "tls-verified",
        "a server's certificate is verified",
        _WIRE,
        (("            verify=context,\n", "            verify=False,\n"),),
        (f"{_OF_WIRE}test_a_server_with_a_wrong_certificate_gets_nothing",),
    ),
    Mutant(
        "no-redirect-followed",
        "redirects are not followed",
        _WIRE,
        (("follow_redirects=False", "follow_redirects=True"),),
        (f"{_OF_WIRE}test_a_redirect_is_not_followed",),
    ),
    Mutant(
        "no-proxy-of-the-environment",
        "nothing is sent through a proxy of the environment, nor with its passwords",
        _WIRE,
        (
            ("            verify=context,\n", ""),
            ("        transport = httpx.AsyncHTTPTransport(\n", "        httpx.AsyncHTTPTransport(\n"),
            ("httpx.AsyncClient(transport=transport, ", "httpx.AsyncClient("),
            ("trust_env=False", "trust_env=True"),
        ),
        (f"{_OF_WIRE}test_no_proxy_and_no_password_is_taken_from_the_environment",),
    ),
    Mutant(
        "plain-http-stays-here",
        "texts do not go over a network in the clear unless the operator says so",
        "workers/models/server_entry.py",
        (('if parts.scheme == "http" and not plain_http and not _is_here(parts.hostname):', "if False:"),),
        ("tests/unit/workers/models/test_servers.py::test_an_entry_that_cannot_be_used_says_why_and_harms_no_other",),
    ),
    Mutant(
        "registry-file-of-the-operator",
        "a registry file that others may write names no server",
        "workers/models/servers.py",
        (("why = why_others_may_write(path, path.resolve().parent)", "why = None"),),
        ("tests/unit/workers/models/test_servers.py::test_a_file_that_others_may_write_names_no_server",),
    ),
    Mutant(
        "sent-on-record-first",
        "what leaves the machine is on record before it does",
        "workers/shard/life.py",
        (("if group.card is not None and group.card.sends_to:", "if False:"),),
        ("tests/faults/test_servers.py::test_what_leaves_the_machine_is_on_record_before_it_does",),
    ),
    Mutant(
        "away-costs-no-attempt",
        "a server that is away costs no shard an attempt",
        "workers/shard/life.py",
        (('"error" if code is not None else "away" if away_seconds else "drain"', '"error"'),),
        ("tests/faults/test_servers.py::test_a_server_that_dies_and_comes_back_costs_no_row_and_no_attempt",),
    ),
    Mutant(
        "answered-before-it-went-away",
        "what was answered before the server went away is kept",
        "workers/inference/continuous.py",
        (("if not isinstance(error, EngineAway) or not (ended := ended + self._came()):", "if True:"),),
        (f"{_OF_DECODER}test_what_was_answered_before_the_server_went_away_is_kept",),
    ),
    Mutant(
        "child-ends-with-its-worker",
        "a child does not outlive its worker",
        "workers/engines/servers/guardian.py",
        (("    threading.Thread(target=_end_with_the_worker, args=(child,), daemon=True).start()\n", ""),),
        (f"{_OF_CHILD}test_it_does_not_outlive_a_worker_that_is_killed",),
    ),
    Mutant(
        "child-knows-no-secret",
        "a child gets no setting of textmill",
        "workers/engines/servers/child.py",
        (("if not name.startswith(NOT_ITS_AFFAIR) and name not in without", ""),),
        (f"{_OF_CHILD}test_it_answers_and_knows_no_secret_of_the_worker",),
    ),
)
