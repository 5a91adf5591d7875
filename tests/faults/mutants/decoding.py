"""Guards of continuous batching: the lanes of a decoder, and its slots."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_LANES: Final = "workers/inference/continuous.py"
_LANES_TEST: Final = "tests/unit/workers/inference/test_continuous.py::"
_SLOTS: Final = "workers/engines/decoders/slots.py"
_CACHE: Final = "workers/engines/decoders/cache.py"
_ATTENTION: Final = "workers/engines/decoders/attention.py"
_SLOTS_TEST: Final = "tests/workers/engines/decoders/test_slots.py::"
_FAMILIES_TEST: Final = "tests/workers/engines/decoders/test_families.py::"
_EACH_FAMILY: Final = f"{_FAMILIES_TEST}test_ragged_rows_and_those_that_share_a_beginning_say_what_transformers_says_of_each_alone"

MUTANTS: Final = (
    Mutant(
        "row-to-blame",
        "a row that breaks a step fails alone",
        _LANES,
        (
            (
                "        if len(turns_of) == 1:\n            [(_length, _tag, index, call)] = turns_of\n",
                "        for _length, _tag, index, call in turns_of:\n",
            ),
            ("BatchShare())\n            return\n        middle", "BatchShare())\n        return\n        middle"),
        ),
        (f"{_LANES_TEST}test_a_row_to_blame_fails_alone_and_its_neighbours_are_answered",),
    ),
    Mutant(
        "fewer-tokens-after-oom",
        "fewer tokens run together after a step was out of memory",
        _LANES,
        (("                self._budget.shrink()\n", "                pass\n"),),
        (f"{_LANES_TEST}test_out_of_memory_lets_fewer_tokens_run_together_and_they_grow_back",),
    ),
    Mutant(
        "within-the-room",
        "no more tokens run together than there is room for",
        _LANES,
        (("if first[0] > tokens and (taken or lane.running):", "if False:"),),
        (f"{_LANES_TEST}test_tokens_that_run_together_stay_within_the_room_and_the_budget",),
    ),
    Mutant(
        "gone-from-its-place",
        "a row that nobody waits for gives up its place",
        _LANES,
        (("                lane.slots.cancel(row)\n                lane.end(row)\n", "                pass\n"),),
        (f"{_LANES_TEST}test_a_stopped_call_leaves_its_places_and_what_waits_of_it_never_runs",),
    ),
    Mutant(
        "decoding-bulk-not-starved",
        "a flood of interactive rows leaves bulk rows their turns",
        _LANES,
        (("self._interactive_in_a_row + 1 if work is Work.INTERACTIVE and bulk_waits else 0", "0"),),
        (f"{_LANES_TEST}test_an_interactive_row_takes_the_next_free_place_and_bulk_is_not_starved",),
    ),
    Mutant(
        "tenants-share-the-slots",
        "tenants share the slots by tokens",
        _LANES,
        (("lambda call: call.ticket.tenant, ", "lambda call: None, "), ("lambda call: call.ticket.job)", "lambda call: None)")),
        (f"{_LANES_TEST}test_tenants_take_turns_by_tokens",),
    ),
    Mutant(
        "padding-is-not-read",
        "a row that is padded attends to no padding",
        "workers/engines/decoders/padded_body.py",
        (("self.mask = (at >= 0).long()", "self.mask = torch.ones_like(at)"),),
        (f"{_SLOTS_TEST}test_rows_say_the_same_however_they_come_and_go",),
    ),
    Mutant(
        "padded-rows-share-nothing",
        "a body that reads no prefixes is given none",
        _SLOTS,
        (
            (
                "if seat.row.tenant is not None and self._loaded.body.shares:\n                self._share(seat)",
                "if seat.row.tenant is not None:\n                self._share(seat)",
            ),
        ),
        (f"{_SLOTS_TEST}test_rows_say_the_same_however_they_come_and_go",),
    ),
    Mutant(
        "scaled-logits",
        "a family's own scale of its logits counts, for sampling and logprobs",
        "workers/engines/decoders/head.py",
        (("if self._scale != 1.0:", "if False:"),),
        (_EACH_FAMILY,),
    ),
    Mutant(
        "prefix-of-its-tenant",
        "what a prompt begins with is never shared between tenants",
        _CACHE,
        ((" for one in self._prefixes if one.tenant == tenant]", " for one in self._prefixes]"),),
        (f"{_SLOTS_TEST}test_what_prompts_have_in_common_is_shared_within_a_tenant_and_never_between_two",),
    ),
    Mutant(
        "last-token-computed",
        "the last token of a prompt is computed, whatever it shares",
        _CACHE,
        (("common(self.ids, ids[:-1])", "common(self.ids, ids)"),),
        (f"{_SLOTS_TEST}test_what_prompts_have_in_common_is_shared_within_a_tenant_and_never_between_two",),
    ),
    Mutant(
        "spoilt-keys-erased",
        "what a row leaves that was no number is in nobody's sums",
        _CACHE,
        (("            if not is_sound:", "            if False:"),),
        (f"{_SLOTS_TEST}test_a_row_whose_numbers_are_spoilt_fails_and_spoils_no_neighbour_then_or_later",),
    ),
    Mutant(
        "maker-gone",
        "rows that wait for a prompt whose row was cancelled read it themselves",
        _CACHE,
        (("            one.maker = None\n            self._prefixes.remove(one)\n", "            self._prefixes.remove(one)\n"),),
        (f"{_SLOTS_TEST}test_rows_whose_reader_goes_away_read_for_themselves",),
    ),
    Mutant(
        "longer-beginnings",
        "a short beginning that was there does not keep prompts from sharing a much longer one",
        "workers/engines/decoders/slots.py",
        (("if tokens < ALIKE * len(ids):", "if found is None:"),),
        (f"{_SLOTS_TEST}test_behind_one_template_what_each_list_has_in_common_is_shared",),
    ),
    Mutant(
        "prefixes-bounded",
        "prefixes that nobody uses are let go",
        _CACHE,
        (("            if tokens <= self._prefix_tokens:\n", "            if True:\n"),),
        (f"{_SLOTS_TEST}test_what_is_kept_of_prefixes_that_nobody_uses_is_bounded",),
    ),
    Mutant(
        "window-over-a-prefix",
        "a sliding window ends in the prefix, too",
        _ATTENTION,
        (("            barred |= self.positions[:, None] - keys >= window\n", "            pass\n"),),
        (f"{_FAMILIES_TEST}test_windows_are_right_beyond_their_width_and_beyond_a_step_of_the_prompt",),
    ),
    Mutant(
        "no-row-after-a-failed-step",
        "a step that fails leaves no row behind",
        _SLOTS,
        (("        except BaseException:\n            self._reset()\n", "        except BaseException:\n"),),
        (f"{_SLOTS_TEST}test_a_step_that_fails_leaves_no_row_behind",),
    ),
    Mutant(
        "prompt-in-pieces",
        "a long prompt keeps nobody waiting",
        _SLOTS,
        (("tokens = min(left, seat.unread)", "tokens = seat.unread"),),
        (f"{_SLOTS_TEST}test_of_a_long_prompt_a_step_reads_no_more_than_its_part",),
    ),
    Mutant(
        "taken-back-before-it-began",
        "a drain begins no row that waits",
        "workers/tasks/generate/trying.py",
        (("            answering.take_back()\n", "            pass\n"),),
        ("tests/workers/shard/test_life.py::test_a_drain_lets_rows_end_that_have_begun_and_gives_the_others_back",),
    ),
)
