"""Check digits, of values without their separators. None raises for a value of the form that its recogniser asks for."""

from typing import Final

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_DNI_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_FISCAL_ODD: Final = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2 + (2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: of payment cards."""
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def mod_97(iban: str) -> bool:
    """ISO 7064, MOD 97-10, as ISO 13616 has it for IBANs; capital letters."""
    return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97 == 1


def mod_11_10(digits: str) -> bool:
    """ISO 7064, MOD 11,10: of a German tax id."""
    product = 10
    for digit in digits[:-1]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def german_tax_id(digits: str) -> bool:
    """Of its first ten digits one is there twice or three times, no other twice, and it begins with no zero."""
    counts = sorted((digits[:10].count(digit) for digit in set(digits[:10])), reverse=True)
    return digits[0] != "0" and counts[0] in (2, 3) and counts[1] == 1 and mod_11_10(digits)


def french_nir(value: str) -> bool:
    """13 signs and a key, which is 97 less the rest; departments 2A and 2B count as 19 and 18."""
    number = value[:13].replace("2A", "19").replace("2B", "18")
    return number.isdecimal() and 97 - int(number) % 97 == int(value[13:])


def spanish_dni(value: str) -> bool:
    """A DNI (eight digits and a letter) or an NIE (X, Y or Z for the first digit)."""
    digits = str("XYZ".find(value[0])) + value[1:-1] if value[0] in "XYZ" else value[:-1]
    return _DNI_LETTERS[int(digits) % 23] == value[-1]


def codice_fiscale(value: str) -> bool:
    """Of 16 capital letters and digits: signs in odd places weigh by a table."""
    total = sum(
        _FISCAL_ODD[sign] if place % 2 == 0 else int(sign, 36) - (10 if sign.isalpha() else 0) for place, sign in enumerate(value[:15])
    )
    return chr(ord("A") + total % 26) == value[15]


def dutch_bsn(digits: str) -> bool:
    """Nine digits, weighed 9 to 2 and the last -1, are a multiple of eleven."""
    return (
        int(digits) > 0 and sum(int(digit) * weight for digit, weight in zip(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True)) % 11 == 0
    )
