"""English dates and the same in Chinese: a translation by rule, embedded.

What stands last in English comes first in Chinese, years are read digit by digit and days by place, and a weekday
moves to the end:

    the twenty-third of March, nineteen oh five   一九〇五年三月二十三日
    Thursday, March 23, 1905                      一九〇五年三月二十三日星期四
"""

from dataclasses import dataclass
from datetime import date

from aigc_lab.data.pairs import Pair, PairData, Part
from aigc_lab.data.splits import by_hash
from aigc_lab.types import PositiveInt


def _words(text: str) -> list[str]:
    return text.split()


ONES = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
TENS = _words("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
} | {
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}
MONTHS = _words("January February March April May June July August September October November December")
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
DAYS = range(date(1800, 1, 1).toordinal(), date(2100, 1, 1).toordinal())
DIGITS = "〇一二三四五六七八九"
CHINESE_WEEKDAYS = "一二三四五六日"

FORMS = (
    "the {ordinal} of {month}, {spoken}",
    "{month} the {ordinal}, {spoken}",
    "{weekday}, {month} {day}, {year}",
    "{day} {month} {year}, a {weekday}",
    "{weekday} the {ordinal} of {month} {spoken}",
)
"""How a date is written in English."""


def english(when: date, form: str) -> str:
    """A date in one of `FORMS`."""
    return form.format(
        ordinal=ordinal(when.day),
        day=when.day,
        month=MONTHS[when.month - 1],
        weekday=WEEKDAYS[when.weekday()],
        year=when.year,
        spoken=spoken_year(when.year),
    )


def chinese(when: date, *, weekday: bool) -> str:
    """A date in Chinese, with its weekday or without."""
    year = "".join(DIGITS[int(digit)] for digit in str(when.year))
    name = f"星期{CHINESE_WEEKDAYS[when.weekday()]}" if weekday else ""
    return f"{year}年{by_place(when.month)}月{by_place(when.day)}日{name}"


def spoken_year(year: int) -> str:
    """A year between 1100 and 2099 as it is said: nineteen oh five, nineteen hundred, two thousand six."""
    century, rest = divmod(year, 100)
    if year // 10 == 200:
        return "two thousand" + (f" {ONES[rest]}" if rest else "")
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {cardinal(rest) if rest > 9 else f'oh {ONES[rest]}'}"


def cardinal(number: int) -> str:
    """A number below 100 in words."""
    tens, ones = divmod(number, 10)
    if number < 20:
        return ONES[number]
    return f"{TENS[tens]}-{ONES[ones]}" if ones else TENS[tens]


def ordinal(number: int) -> str:
    """The ordinal number of one between 1 and 99, in words."""
    head, dash, last = cardinal(number).rpartition("-")
    return head + dash + ORDINALS.get(last, f"{last}th")


def by_place(number: int) -> str:
    """A number between 1 and 99 in Chinese numerals."""
    tens, ones = divmod(number, 10)
    return (DIGITS[tens] if tens > 1 else "") + ("十" if tens else "") + (DIGITS[ones] if ones else "")


@dataclass(kw_only=True)
class TranslatedDates(PairData):
    """Dates of the years 1800 to 2099, each in one of `FORMS`. Which dates, and in which form, is fixed for ever;
    no date stands in two parts.

    Args:
        n_train, n_validation, n_test: dates in each part; at most 109,573 together.
    """

    n_train: PositiveInt
    n_validation: PositiveInt
    n_test: PositiveInt

    def __post_init__(self) -> None:
        if (wanted := self.n_train + self.n_validation + self.n_test) > len(DAYS):
            raise ValueError(f"{wanted} dates are wanted, and there are {len(DAYS)}")

    @property
    def name(self) -> str:
        return "dates"

    def _read(self) -> dict[Part, list[Pair]]:
        days = [date.fromordinal(n) for n in DAYS]
        order = by_hash([day.isoformat().encode() for day in days])
        test, validation = self.n_test, self.n_test + self.n_validation
        chosen = order[: validation + self.n_train]
        pairs = [_pair(days[i], FORMS[n % len(FORMS)]) for n, i in enumerate(chosen)]
        return {"test": pairs[:test], "validation": pairs[test:validation], "train": pairs[validation:]}


def _pair(when: date, form: str) -> Pair:
    return Pair(english(when, form), chinese(when, weekday="{weekday}" in form), f"the date {when}")
