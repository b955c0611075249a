"""Reads the numbers, dates and truth values of one column, as they are written in a locale.

The whole column decides how a value is read. Whoever reads a column first passes every cell to `observe`, and then
calls `read` for each of them. A value that may mean two things is an error, which says how to choose.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from bulk_import.intake.spreadsheets.locales import BLANKS, FALSE, TRUE, Locale

OTHER_SEPARATOR = {",": ".", ".": ","}
NUMBERS = {
    ",": re.compile(rf"(?:[1-9]\d{{0,2}}(?:\.\d{{3}})+|[1-9]\d{{0,2}}(?:[{BLANKS}]\d{{3}})+|\d+)(?:,\d+)?", re.ASCII),
    ".": re.compile(rf"(?:[1-9]\d{{0,2}}(?:,\d{{3}})+|[1-9]\d{{0,2}}(?:[{BLANKS}]\d{{3}})+|\d+)(?:\.\d+)?", re.ASCII),
}
"""The numbers that are possible with each decimal separator. Only a fraction begins with a zero: 0,850 is below one."""

DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?", re.ASCII)
JAPANESE_DATE = re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日", re.ASCII)
YEAR_DIGITS = 4
SWAPPED = {"dmy": "mdy", "mdy": "dmy", "ymd": "ymd"}

Result = tuple[str, dict[str, Any] | None]
"""The value as the API expects it, or the unchanged text, and the error if it is ambiguous."""


class NumberColumn:
    """Reads the numbers of a column. `decimal` is the decimal separator that the upload names for it, or ""."""

    def __init__(self, field: str, locale: Locale | None, decimal: str, *, is_integer: bool) -> None:
        self._field = field
        self._currencies = locale.currencies if locale else ()
        self._decimal = decimal or (locale.decimal if locale else ".")
        self._is_chosen = bool(decimal)
        self._is_integer = is_integer
        self._has_own = self._has_other = False

    def observe(self, text: str) -> None:
        if text.isdecimal():
            return
        own, other = self._readings(text)
        self._has_own |= other is None and own is not None
        self._has_other |= own is None and other is not None

    def read(self, text: str) -> Result:
        """Return the number with a decimal point. A text that is no number in this locale stays as it is."""
        if text.isdecimal():
            return text, None
        own, other = self._readings(text)
        if own is None:
            return text, None
        if other is None or own == other or self._is_chosen:
            return own, None
        if self._is_integer and (is_whole(own), is_whole(other)) == (True, False):
            return own, None
        # "1.200" is 1200 in German, but many programs write 1.2 in this way, in every language.
        may_be_a_program = self._decimal == "," and "," not in text
        if self._has_other or (may_be_a_program and not self._has_own):
            return text, self._ambiguous(text, own, other)
        return own, None

    def _readings(self, text: str) -> tuple[str | None, str | None]:
        """Return the number with the decimal separator of the column, and with the other one; None if it is none."""
        bare = text.strip(BLANKS)
        for sign in self._currencies:
            bare = bare.removeprefix(sign).removesuffix(sign).strip(BLANKS)
        minus = ""
        if bare.endswith("-"):  # as SAP writes negative numbers
            bare, minus = bare[:-1].rstrip(BLANKS), "-"
        elif bare.startswith(("-", "\N{MINUS SIGN}", "+")):
            bare, minus = bare[1:], "" if bare[0] == "+" else "-"
        return parse(bare, self._decimal, minus), parse(bare, OTHER_SEPARATOR[self._decimal], minus)

    def _ambiguous(self, text: str, own: str, other: str) -> dict[str, Any]:
        message = _(
            "“%(value)s” can mean %(own)s or %(other)s. Choose the decimal separator of this column: send "
            'decimal={"%(field)s": "%(decimal)s"} for %(own)s, or {"%(field)s": "%(point)s"} for %(other)s.'
        )
        values = {"value": text, "own": own, "other": other, "field": self._field, "decimal": self._decimal}
        message %= {**values, "point": OTHER_SEPARATOR[self._decimal]}
        return {"code": "ambiguous_number", "message": message}


class DateColumn:
    """Reads the dates of a column, in the order of day, month and year that the locale has."""

    def __init__(self, locale: Locale) -> None:
        self._order = locale.date_order
        self._is_contradicted = False

    def observe(self, text: str) -> None:
        parts = date_parts(text)
        if parts and as_date(parts, self._order) is None and as_date(parts, SWAPPED[self._order]) is not None:
            self._is_contradicted = True

    def read(self, text: str) -> Result:
        """Return the date in ISO format. A text that is no date in this locale stays as it is."""
        parts = date_parts(text)
        if parts is None:
            return text, None
        if not any(len(part) == YEAR_DIGITS for part in parts[:3]):
            message = _("The year of “%(value)s” has two digits. Write it with four, like this: 2026-12-31.")
            return text, {"code": "ambiguous_date", "message": message % {"value": text}}
        own, other = as_date(parts, self._order), as_date(parts, SWAPPED[self._order])
        if own is None:
            return text, None
        if self._is_contradicted and other not in (own, None):
            message = _(
                "“%(value)s” can mean %(own)s or %(other)s, because this column has dates in both orders. "
                "Write all dates like this: 2026-12-31."
            )
            return text, {"code": "ambiguous_date", "message": message % {"value": text, "own": own, "other": other}}
        return own, None


class BooleanColumn:
    """Reads the words for yes and no of a locale."""

    def __init__(self, locale: Locale) -> None:
        self._words = {**dict.fromkeys(locale.yes, TRUE), **dict.fromkeys(locale.no, FALSE)}

    def observe(self, text: str) -> None:
        pass

    def read(self, text: str) -> Result:
        return self._words.get(text.strip().lower(), text), None


def parse(text: str, decimal: str, minus: str) -> str | None:
    """Return a number with a decimal point and without thousands separators; None if the text is no number."""
    if not NUMBERS[decimal].fullmatch(text):
        return None
    whole, _separator, fraction = text.partition(decimal)
    digits = "".join(character for character in whole if character.isdecimal())
    return f"{minus}{digits}.{fraction}" if fraction else minus + digits


def is_whole(number: str) -> bool:
    return not number.partition(".")[2].strip("0")


def date_parts(text: str) -> tuple[str, ...] | None:
    """Return the three numbers of a date, and the parts of its time; None if the text is no date."""
    text = text.strip()
    if japanese := JAPANESE_DATE.fullmatch(text):
        return japanese.groups()
    found = DATE.fullmatch(text)
    return (found[1], found[3], *found.groups()[3:]) if found else None


def as_date(parts: tuple[str, ...], order: str) -> str | None:
    """Return the ISO format of a date whose parts are in this order; None if there is no such date."""
    if len(parts[0]) == YEAR_DIGITS:
        order = "ymd"
    numbers = dict(zip(order, parts, strict=False))
    if len(numbers["y"]) != YEAR_DIGITS:
        return None
    day = f"{numbers['y']}-{numbers['m']:0>2}-{numbers['d']:0>2}"
    time = ":".join(f"{part:0>2}" for part in parts[3:] if part)
    text = f"{day}T{time}" if time else day
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text
