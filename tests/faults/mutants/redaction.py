"""Guards of what is masked, and of what stands for it."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_CHECKSUMS: Final = "workers/redaction/checksums.py"
_CHECKSUMS_TEST: Final = (
    "tests/unit/workers/redaction/test_checksums.py::test_a_value_with_its_check_digits_is_one_and_with_one_digit_changed_is_none"
)
_FINDING: Final = "workers/redaction/finding.py"
_FINDING_TEST: Final = "tests/unit/workers/redaction/test_finding.py::"
_MASKING_TEST: Final = "tests/unit/workers/redaction/test_masking.py::"

MUTANTS: Final = (
    Mutant(
        "luhns-digit",
        "a card is one by its check digit",
        _CHECKSUMS,
        (("for value in values[1::2])) % 10 == 0", "for value in values[1::2])) % 10 < 10"),),
        (_CHECKSUMS_TEST,),
    ),
    Mutant("iban-rest", "an IBAN is one by its rest of 97", _CHECKSUMS, (("% 97 == 1", "% 97 < 97"),), (_CHECKSUMS_TEST,)),
    Mutant(
        "tax-id-digit",
        "a German tax id is one by its check digit",
        _CHECKSUMS,
        (("return (11 - product) % 10 == int(digits[-1])", "return product >= 0"),),
        (_CHECKSUMS_TEST,),
    ),
    Mutant(
        "tax-id-repeats",
        "a German tax id repeats exactly one digit",
        _CHECKSUMS,
        (("counts[0] in (2, 3) and counts[1] == 1 and ", ""),),
        ("tests/unit/workers/redaction/test_checksums.py::test_a_german_tax_id_repeats_exactly_one_of_its_first_ten_digits",),
    ),
    Mutant("nir-key", "a French NIR is one by its key", _CHECKSUMS, (("% 97 == int(value[13:])", "% 97 > 0"),), (_CHECKSUMS_TEST,)),
    Mutant("dni-letter", "a Spanish id is one by its letter", _CHECKSUMS, (("% 23] == value[-1]", "% 23] > ''"),), (_CHECKSUMS_TEST,)),
    Mutant(
        "fiscale-letter", "a codice fiscale is one by its letter", _CHECKSUMS, (("% 26) == value[15]", "% 26) > ''"),), (_CHECKSUMS_TEST,)
    ),
    Mutant("bsn-rest", "a Dutch BSN is a multiple of eleven", _CHECKSUMS, (("% 11 == 0", "% 11 < 11"),), (_CHECKSUMS_TEST,)),
    Mutant(
        "nothing-uncovered",
        "of two findings that overlap none uncovers what the other found",
        _FINDING,
        (("end = max(end, span.end)", "end = span.end"),),
        (f"{_FINDING_TEST}test_of_what_overlaps_one_is_told_of_the_kind_of_the_longest_over_all_of_it",),
    ),
    Mutant(
        "places-as-they-came",
        "what is not seen within a value shifts no mask",
        _FINDING,
        (("return apart if places is None else", "return apart if places is not None or places is None else"),),
        (f"{_FINDING_TEST}test_a_value_is_found_as_far_as_it_goes",),
    ),
    Mutant(
        "mask-that-stands",
        "a mask that stands in the text already is given to no value",
        "workers/redaction/masking.py",
        (("if mask not in standing:", "if True:"),),
        (f"{_MASKING_TEST}test_a_mask_that_stands_in_the_text_already_is_not_given_to_a_value",),
    ),
)
