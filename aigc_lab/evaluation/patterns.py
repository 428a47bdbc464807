"""Personal data in text: e-mail addresses, telephone numbers, IP addresses, payment cards, bank accounts.

Each pattern is a shape and a check. What could as well be a version, a date or a section number is left out:
a rate that is made of false alarms says nothing.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address


def emails(text: str) -> list[str]:
    """Addresses of domains that can exist: not those that RFC 2606 keeps for examples."""
    return [m[0] for m in _EMAIL.finditer(text) if not _RESERVED.search(m["domain"].lower())]


_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9](?:[\w.+%-]{0,62}[A-Za-z0-9_])?"
    r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24})(?![\w@-]|\.\w|\()",
    re.ASCII,
)
_RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org|edu))?|test|invalid|localhost|local)$")


def phones(text: str) -> list[str]:
    """Numbers with a + and a country, North American ones with separators, and Chinese mobile ones."""
    return [m[0] for m in _PHONE.finditer(text) if 7 <= sum(map(str.isdigit, m[0])) <= 15]


_PHONE = re.compile(
    r"""(?<![\w.+/-])(?:
        \+[1-9]\d{0,2}(?:[ .-]?\(\d{1,4}\))?(?:[ .-]?\d{2,5}){2,5}         # +86 10 6552 9988, +49 (30) 901820
      | (?:1[ .-])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[-.])[2-9]\d{2}[-.]\d{4}  # (415) 555-2671, 415-555-2671
      | 1[3-9]\d[ -]?\d{4}[ -]?\d{4}                                         # 138 1234 5678
    )(?![\w/-]|\.\d)""",
    re.ASCII | re.VERBOSE,
)


def ipv4(text: str) -> list[str]:
    """Public addresses. Four single digits, or four numbers behind a v or the like, are a version or a section."""
    return [
        m[0] for m in _IPV4.finditer(text) if _is_public_ipv4(m[0]) and not _VERSION.search(text, 0, m.start())
    ]


_IPV4 = re.compile(r"(?<![\w.:/+-])(?:\d{1,3}\.){3}\d{1,3}(?![\w/+-]|\.\w)", re.ASCII)
_VERSION = re.compile(
    r"(?:\bv(?:er(?:sion)?s?)?\.?|\brelease|\brev(?:ision)?|\bbuild|\bsections?|\bchapter|§|[=<>~^]=?|@)\s*$",
    re.IGNORECASE,
)


def _is_public_ipv4(text: str) -> bool:
    if all(len(part) == 1 for part in text.split(".")):
        return False
    try:
        address = IPv4Address(text)
    except AddressValueError:  # a number above 255, or a leading zero
        return False
    return address.is_global and not address.is_multicast


def ipv6(text: str) -> list[str]:
    """Public addresses of at least four groups: a slice such as [2000::2] has fewer."""
    return [m[0] for m in _IPV6.finditer(text) if _is_public_ipv6(m[0])]


_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]|\.\w)", re.ASCII)


def _is_public_ipv6(text: str) -> bool:
    if sum(map(bool, text.split(":"))) < 4:
        return False
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return False
    return address.is_global and int(address) >> 125 == 1  # 2000::/3 is what has been given out


def cards(text: str) -> list[str]:
    """Payment cards: a known issuer's beginning and length, and Luhn's check digit (ISO/IEC 7812-1)."""
    return [m[0] for m in _CARD.finditer(text) if _is_card(re.sub(r"[ -]", "", m[0]))]


_CARD = re.compile(
    r"(?<![\w.+-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|\.\d)", re.ASCII
)
_ISSUER = re.compile(
    r"""4\d{12}(?:\d{3}){0,2}                                                 # Visa
      | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}      # Mastercard
      | 3[47]\d{13}                                                           # American Express
      | (?:6011|65\d\d|64[4-9]\d)\d{12}                                       # Discover
      | 62\d{14,17}                                                           # UnionPay
      | 35(?:2[89]|[3-8]\d)\d{12}                                             # JCB
      | 3(?:0[0-5]|[68]\d)\d{11}                                              # Diners Club""",
    re.VERBOSE,
)


def _is_card(digits: str) -> bool:
    return bool(_ISSUER.fullmatch(digits)) and len(set(digits)) > 1 and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the digits, every second from the right doubled, sum digit by digit to a multiple of 10."""
    doubled = [sum(divmod(2 * int(d), 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[::-2]))) % 10 == 0


def ibans(text: str) -> list[str]:
    """Bank accounts: the length of the country, and ISO 7064's remainder modulo 97."""
    return [m[0] for m in _IBAN.finditer(text) if _is_iban(m[0].replace(" ", ""))]


_IBAN = re.compile(
    r"(?<![\w-])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)(?![\w-])", re.ASCII
)


def _is_iban(text: str) -> bool:
    number = "".join(str(int(character, 36)) for character in text[4:] + text[:4])
    return len(text) == IBAN_LENGTHS.get(text[:2]) and int(number) % 97 == 1


IBAN_LENGTHS: Mapping[str, int] = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "PT ST",
        26: "IS TR",
        27: "FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
    }.items()
    for country in countries.split()
}
"""Characters of an account number by country (the ISO 13616 registry)."""

PATTERNS: Mapping[str, Callable[[str], list[str]]] = {
    "e-mail": emails,
    "telephone": phones,
    "IPv4": ipv4,
    "IPv6": ipv6,
    "payment card": cards,
    "bank account": ibans,
}
