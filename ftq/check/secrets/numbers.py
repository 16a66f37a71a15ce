"""Numbers of cards and accounts, by their check digits (ISO/IEC 7812-1, ISO 13616)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.check.secrets.values import Secret, is_placeholder
from ftq.errors import lines

DIGITS = re.compile(r"\d{4}[ -]?\d{4}")  # in each of them
CARD = re.compile(
    r"(?<![\w.+-])(?<!\d )(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|65\d\d)([ -]?)\d{4}\1\d{4}\1\d{4}|"
    r"3[47]\d\d([ -]?)\d{6}\2\d{5})(?![\w-]|[ .]\d)"
)
OF_CARD = re.compile(r"card|karte|visa|master|amex|cvv|cvc|carte|carta|tarjeta|cartão|kaart|karta|kort", re.I)
ACCOUNT = re.compile(r"(?<!\w)[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
# characters of an IBAN, by country
LENGTHS = dict.fromkeys(("NO",), 15) | dict.fromkeys(("BE",), 16) | dict.fromkeys(("DK", "FI", "NL"), 18)
LENGTHS |= dict.fromkeys(("SI",), 19) | dict.fromkeys(("AT", "EE", "LT", "LU"), 20)
LENGTHS |= dict.fromkeys(("CH", "HR", "LI", "LV"), 21) | dict.fromkeys(("BG", "DE", "GB", "IE"), 22)
LENGTHS |= (
    dict.fromkeys(("CZ", "ES", "RO", "SE", "SK"), 24) | {"PT": 25, "TR": 26} | dict.fromkeys(("FR", "GR", "IT"), 27)
)
LENGTHS |= dict.fromkeys(("CY", "HU", "PL"), 28) | {"MT": 31}


def numbers(text: str) -> Iterator[Secret]:
    """All in the text whose check digits are right; those in a line that calls them an example aren't any."""
    if not DIGITS.search(text):
        return
    for line in lines(text):
        if not DIGITS.search(line):
            continue
        for match in CARD.finditer(line):
            is_card = match[1] or match[2] or OF_CARD.search(line)
            if is_card and _luhn(match[0]) and not is_placeholder(line[: match.start()]):
                yield Secret("card number", match[0], match[0])
        for match in ACCOUNT.finditer(line):
            if _is_account(match[0].replace(" ", "")) and not is_placeholder(line[: match.start()]):
                yield Secret("IBAN", match[0], match[0])


def _luhn(text: str) -> bool:
    digits = [int(sign) for sign in reversed(text) if sign.isdecimal()]
    return len(set(digits)) > 1 and sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def _is_account(text: str) -> bool:
    if LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1
