"""What stands at the doors: addresses, caches, files of others, foreign models, a server's other rooms."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_FRONT: Final = "tests/attacks/test_front.py::"
_PRIVATE: Final = "tests/unit/db/test_private_files.py::"
_FOLDERS: Final = "tests/unit/workers/models/test_folders.py::"
_CLIMBING: Final = "tests/attacks/test_climbing.py::"

MUTANTS: Final = (
    Mutant(
        "key-in-any-spelling",
        "a key in an address is seen however it is encoded",
        "api/requests/addresses.py",
        (("        plain = unquote_to_bytes(sent)\n", "        plain = sent\n"),),
        ("tests/unit/api/requests/test_addresses.py::test_a_key_is_seen_in_every_spelling",),
    ),
    Mutant(
        "key-whole",
        "a name that holds what a key begins with is no key",
        "api/requests/addresses.py",
        (("(?<![A-Za-z0-9_-])tm_", "tm_"),),
        ("tests/unit/api/requests/test_addresses.py::test_a_name_is_no_key",),
    ),
    Mutant(
        "key-like-name",
        "no head is called so that every address of it would be refused",
        "api/requests/batch_requests.py",
        (("    if path_holds_key(quote(name).encode()):\n", "    if False:\n"),),
        ("tests/api/routes/test_models.py::test_no_head_is_called_as_a_key_is",),
    ),
    Mutant(
        "key-on-any-route",
        "a key in an address is refused on every route",
        "api/app.py",
        (("    app.add_middleware(NoKeys)\n", ""),),
        (f"{_FRONT}test_a_key_in_an_address_is_refused_on_every_route_and_logged_on_none",),
    ),
    Mutant(
        "kept-nowhere",
        "no cache keeps an answer",
        "api/request_log.py",
        (("[*said, *unsaid, ", "[*said, "),),
        (f"{_FRONT}test_no_answer_stays_in_a_cache_or_is_taken_for_another_type",),
    ),
    Mutant(
        "metrics-forwarded",
        "metrics are closed to what a proxy forwards",
        "api/routes/metrics.py",
        ((" and all(map(_is_ones_own, request.headers))", ""),),
        (f"{_FRONT}test_metrics_are_closed_to_what_comes_through_a_proxy_on_this_machine",),
    ),
    Mutant(
        "metrics-host",
        "metrics are closed to who asks for another name",
        "api/routes/metrics.py",
        ((' and _is_loopback(request.headers.get("host", ""))', ""),),
        (f"{_FRONT}test_metrics_are_closed_to_who_asks_for_another_name",),
    ),
    Mutant(
        "files-owner",
        "a secret of another user's making is not used",
        "db/private_files.py",
        (("    if about.st_uid in owners:\n", "    if True:\n"),),
        (f"{_PRIVATE}test_a_file_of_another_user_is_refused",),
    ),
    Mutant(
        "files-mode",
        "a secret that others may read is not used",
        "db/private_files.py",
        (("why_others_may_read(path, about) or ", ""),),
        (f"{_PRIVATE}test_a_file_that_others_may_read_or_write_is_refused",),
    ),
    Mutant(
        "files-above",
        "nor one in a folder where others could put another",
        "db/private_files.py",
        ((" or why_others_may_write(path.parent, path.resolve().parent)", ""),),
        (f"{_PRIVATE}test_a_file_is_refused_where_others_could_replace_it_or_a_folder_above",),
    ),
    Mutant(
        "files-home",
        "no stack starts in a home that others may write",
        "api/local/home/home.py",
        (("if (why := self.why_not_ours()) is not None:", "if (why := self.why_not_ours()) == '':"),),
        (f"{_PRIVATE}test_no_stack_starts_in_a_home_that_others_may_write",),
    ),
    Mutant(
        "flower-pickle",
        "what others put into Flower's history does not run",
        "workers/flower_history.py",
        (("if (module, name) not in MADE_OF:", "if not module:"),),
        ("tests/workers/test_flower_history.py::test_what_somebody_else_put_into_its_history_does_not_run",),
    ),
    Mutant(
        "flower-open",
        "no history that others may write is read",
        "workers/flower_access.py",
        (("if (why := why_not_ours(Path(self.db))) is not None:", "if (why := why_not_ours(Path(self.db))) == '':"),),
        ("tests/workers/test_flower_history.py::test_a_history_that_others_may_write_ends_flower_with_a_sentence",),
    ),
    Mutant(
        "settings-empty",
        "a setting that is set to nothing is not set",
        "db/settings.py",
        ((", env_ignore_empty=True", ""),),
        ("tests/unit/api/test_settings.py::test_what_is_set_to_nothing_is_not_set",),
    ),
    Mutant(
        "settings-bounds",
        "no number of the settings is without end",
        "workers/settings.py",
        (('ge=LEAST_SECONDS, le=60, description="Between two looks for leases', 'gt=0, description="Between two looks for leases'),),
        ("tests/unit/api/test_settings.py::test_every_number_has_a_least_and_a_most",),
    ),
    Mutant(
        "duty-ends",
        "a process does not go on without one of its duties",
        "workers/loop_guard.py",
        (("            end(EX_SOFTWARE)\n", ""),),
        ("tests/unit/workers/test_loop_guard.py::test_a_thread_of_duty_that_ends_by_an_error_ends_its_process",),
    ),
    Mutant(
        "files-text",
        "a secret that is no text is told of",
        "db/private_files.py",
        (("    except UnicodeDecodeError:\n", "    except KeyError:\n"),),
        (f"{_PRIVATE}test_a_file_that_holds_no_text_is_refused_and_of_a_stack_none_is_read",),
    ),
    Mutant(
        "folders-bounds",
        "a number in a model's config is one that a model could have",
        "workers/models/folder_config.py",
        (("not 0 <= value <= MOST", "False"),),
        (f"{_FOLDERS}test_an_odd_config_harms_its_own_folder_alone",),
    ),
    Mutant(
        "folders-files",
        "a model's config is a file, and not one of gigabytes",
        "workers/models/folder_config.py",
        (("if about.st_size > MAX_BYTES:", "if False:"),),
        (f"{_FOLDERS}test_a_config_of_gigabytes_is_not_read",),
    ),
    Mutant(
        "folders-open",
        "a model that others may write is not loaded",
        "workers/models/provision.py",
        (("card.damaged or why_changeable(folder) or why_slow(folder)", "card.damaged or why_slow(folder)"),),
        (f"{_FOLDERS}test_so_is_one_whose_weights_or_whose_folders_above_others_may_write",),
    ),
    Mutant(
        "folders-inside",
        "nor one with a folder inside that others may write",
        "workers/models/folders.py",
        (
            ("                waiting.append(path)\n", ""),
            ("            found.append(path)\n", "            found += [path] if path.is_file() else []\n"),
        ),
        (f"{_FOLDERS}test_so_is_one_with_a_folder_inside_that_others_may_write",),
    ),
    Mutant(
        "tokenizer-trial",
        "a tokenizer whose patterns run away is not used",
        "workers/models/tokenizer_trial.py",
        (("except BaseException:  # a panic", "except KeyError:  # a panic"),),
        ("tests/workers/models/test_tokenizer_trial.py::test_a_pattern_with_repetitions_in_repetitions_is_refused",),
    ),
    Mutant(
        "tokenizer-limit",
        "a call of a tokenizer ends, or its model is left",
        "workers/engines/encoders/time_limit.py",
        (("            self._is_stuck = True\n", ""),),
        ("tests/unit/workers/engines/encoders/test_time_limit.py::test_a_call_that_never_ends_is_left_and_the_next_is_refused_at_once",),
    ),
    Mutant(
        "telemetry",
        "ONNX Runtime keeps and sends nothing of its own",
        "workers/engines/encoders/onnx_encoder.py",
        (('    os.environ["ORT_DISABLE_TELEMETRY"] = "1"\n', ""),),
        ("tests/workers/engines/test_left_files.py::test_it_leaves_no_file_of_its_telemetry",),
    ),
    Mutant(
        "csv-signs",
        "a sign of another width is one in a spreadsheet",
        "api/cli/work/formulas.py",
        (('unicodedata.normalize("NFKC", first)[:1] in SIGNS', "first in SIGNS"),),
        ("tests/unit/api/cli/work/test_outputs.py::test_no_sign_that_a_spreadsheet_knows_hides_from_the_guard",),
    ),
    Mutant(
        "flower-events",
        "Flower believes what a worker could have sent",
        "workers/flower_events.py",
        (("not all(_CHECKS[name](value) for name, value in known.items()) or ", ""),),
        ("tests/unit/workers/test_flower_events.py::test_what_no_worker_sends_is_not_believed",),
    ),
    Mutant(
        "functions-for-nobody",
        "login roles keep nothing outside of tables",
        "db/server/migrate.py",
        (("    conn.execute(_FOR_NOBODY)\n", ""),),
        (f"{_CLIMBING}test_a_component_changes_neither_rules_nor_roles_nor_files",),
    ),
    Mutant(
        "other-databases",
        "login roles get into no other database",
        "db/server/migrate.py",
        (("        _close_other_databases(conn, database)\n", ""),),
        (f"{_CLIMBING}test_a_component_gets_into_its_own_database_alone",),
    ),
)
