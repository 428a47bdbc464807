"""Personal data patterns, both ways: what they must find, and what they must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lab.evaluation.patterns import IBAN_LENGTHS, PATTERNS, ibans, luhn

FOUND = {
    "e-mail": [
        "write to ada.lovelace+work@analytical-engine.co.uk.",
        "<x_1@mail.bund.de>",
        "邮箱li.wei@tsinghua.edu.cn，谢谢",
    ],
    "telephone": ["call +86 10 6552 9988 now", "(415) 555-2671", "415-555-2671.", "+49 (30) 901820", "13812345678",
                  "+14155552671", "138 1234 5678"],
    "IPv4": ["from 81.2.69.142 at", "host 8.8.4.114.", "93.184.216.34:443"],
    "IPv6": ["2a00:1450:4001:81b::200e", "[2606:2800:220:1:248:1893:25c8:1946]", "2606:2800:220:1::1 is up"],
    "payment card": ["4111 1111 1111 1111", "5555555555554444", "3782 822463 10005", "6011-1111-1111-1117",
                     "3530111333300000", "6240008631401148"],
    "bank account": ["GB29 NWBK 6016 1331 9268 19", "DE89370400440532013000.", "NO9386011117947",
                     "FR14 2004 1010 0505 0001 3M02 606"],
}  # fmt: skip

NOTHING = [
    "numpy 1.26.4, v1.2.3.4, version 10.15.7.1, Chrome/91.0.4472.124, pkg==10.20.30.40, release 12.0.0.11",
    "see section 12.1.3.10 and 1.2.3.4 and 3.11.0rc1",
    "on 2024-02-29, 29.02.2024, 02/29/2024, 2024-02-29T12:30:45.123456+00:00 at 12:30:45",
    "127.0.0.1 0.0.0.0 192.168.1.10 10.12.13.14 192.0.2.77 256.1.2.3 010.20.30.40 224.0.0.11",
    "a[::2], a[1::3], x[2000::2], ::1, fe80::1:2:3, 2001:db8:1:2::3, std::vector::iterator, 00:1b:44:11:3a:b7",
    "user@example.com, me@localhost, a@b, @property, x @ y.T, foo@bar.test, @app.route, func@mod.attr()",
    "1234567890123456, 4111111111111112, 0.4111111111111111, 4444444444444444, id 41111111-11111111",
    "3.14159265358979323846, 1700000000000, ISBN 978-3-16-148410-0, 2**64 = 18446744073709551616, 0x7fff5fbff8c0",
    "DE89370400440532013001, GB29 NWBK 6016 1331 9268 18, AB12CDEFGHIJKLMNOP, PEP 3107, RFC 2822, ISO8601",
    "pages 100-200-3000, 555-1234, 10-415-555, 1-2-3, +1, a+1234567, 2023-2024, 123-45-6789, 8,388,608, +12.5",
    "sys.version_info(3, 11, 7), 65537, 1e+1000000, 20240229123045, 192.168.0.0/16, 81.2.69.142/24",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_found(kind: str, text: str) -> None:
    found = {other: find(text) for other, find in PATTERNS.items() if find(text)}
    assert set(found) == {kind} and len(found[kind]) == 1


@pytest.mark.parametrize("text", NOTHING)
def test_not_found(text: str) -> None:
    assert {kind: find(text) for kind, find in PATTERNS.items() if find(text)} == {}


@given(st.text(alphabet="0123456789", min_size=12, max_size=18), st.integers(0, 9))
def test_luhn_has_one_check_digit_and_sees_every_single_error(digits: str, place: int) -> None:
    (check,) = [d for d in "0123456789" if luhn(digits + d)]
    number = list(digits + check)
    number[place] = str((int(number[place]) + 1) % 10)
    assert not luhn("".join(number))


@given(st.text(alphabet="0123456789", min_size=18, max_size=18))
def test_ibans_with_the_right_remainder_are_found(account: str) -> None:
    check = 98 - int(account + "131400") % 97  # D, E are 13, 14
    good, bad = f"DE{check:02d}{account}", f"DE{check % 97 + 1:02d}{account}"
    assert ibans(f"to {good}.") == [good]
    assert check % 97 + 1 == check or ibans(bad) == []


def test_lengths_are_those_of_the_registry() -> None:
    assert IBAN_LENGTHS["MT"] == 31 and IBAN_LENGTHS["SE"] == 24
