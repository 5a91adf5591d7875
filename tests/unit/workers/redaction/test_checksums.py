"""Each check digit against published examples, and against every slip of one digit."""

from collections.abc import Callable

import pytest

from workers.redaction.checksums import codice_fiscale, dutch_bsn, french_nir, german_tax_id, luhn, mod_11_10, mod_97, spanish_dni

VALID: tuple[tuple[Callable[[str], bool], str], ...] = (
    (luhn, "4111111111111111"),
    (luhn, "378282246310005"),
    (mod_97, "GB82WEST12345698765432"),
    (mod_97, "DE89370400440532013000"),
    (mod_97, "NO9386011117947"),
    (mod_11_10, "86095742719"),
    (german_tax_id, "86095742719"),
    (german_tax_id, "47036892816"),
    (french_nir, "255081416802538"),
    (french_nir, "188102A00102580"),
    (spanish_dni, "12345678Z"),
    (spanish_dni, "X1234567L"),
    (codice_fiscale, "RSSMRA85T10A562S"),
    (dutch_bsn, "111222333"),
    (dutch_bsn, "123456782"),
)


@pytest.mark.parametrize(("check", "value"), VALID, ids=lambda value: getattr(value, "__name__", value))
def test_a_value_with_its_check_digits_is_one_and_with_one_digit_changed_is_none(check: Callable[[str], bool], value: str) -> None:
    assert check(value)
    for place, sign in enumerate(value):
        for other in "0123456789" if sign.isdecimal() else "":
            assert other == sign or not check(f"{value[:place]}{other}{value[place + 1 :]}"), (place, other)


def test_a_german_tax_id_repeats_exactly_one_of_its_first_ten_digits() -> None:
    assert mod_11_10("12345678903")
    assert not german_tax_id("12345678903")  # none
    assert mod_11_10("11223456785")
    assert not german_tax_id("11223456785")  # two


def test_no_bsn_is_all_zeros() -> None:
    assert not dutch_bsn("000000000")
