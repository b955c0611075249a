"""Recognises values that a spreadsheet has damaged, so that they are not imported as if nothing had happened.

Each function returns an error of the row, with `code` and `message`, or None. A message says how to get the value back.
"""

from __future__ import annotations

import re
from typing import Any

from django.utils.translation import gettext as _

MONTHS = (
    "jan jän jän feb fev fév févr mar mär mrz mars apr abr avr may mai jun juin jul juil aug ago août aoû "
    "sep set sept oct out okt nov dec dez déc ene dic"
)
MONTH = "|".join(sorted(set(MONTHS.split()), key=len, reverse=True))
SCIENTIFIC = re.compile(r"[1-9](?:[.,]\d+)?E\+\d{2,3}", re.IGNORECASE)
MONTH_DATE = re.compile(rf"\d{{1,2}}[/.-]\s?(?:{MONTH})\.?|(?:{MONTH})\.?[/-]\d{{2}}(?:\d{{2}})?", re.IGNORECASE)
FORMULA_ERROR = re.compile(r"#[A-ZÀ-Ý/0-9]+[!?]|#N/[AD]|#NV|Err:\d{3}|#{3,}")
GARBLED = re.compile("\ufffd|[ÃÂ][\u0080-\u00bf]|â€")

SUSPICIOUS = re.compile(
    rf"(?=[\d#]|Err|{MONTH})(?:{SCIENTIFIC.pattern}|{MONTH_DATE.pattern}|{FORMULA_ERROR.pattern})$", re.IGNORECASE
)
"""Matches every text that one of the other patterns matches, in a single test."""

CODES_OF_CELLS = frozenset(
    {
        "ambiguous_date",
        "ambiguous_number",
        "excel_date",
        "excel_digits",
        "excel_number",
        "excel_zeros",
        "formula_error",
        "formula_without_result",
        "garbled_text",
    }
)
"""The codes of the errors that only the reading of a cell finds, and not the validation of the row that was read."""

EXCEL_DIGITS = 10**15
"""Excel keeps 15 digits of a number, and replaces the others with zeros."""


def damaged_text(text: str) -> dict[str, Any] | None:
    """Return the error of a text that looks as if a spreadsheet had replaced the original one."""
    if SUSPICIOUS.match(text):
        if SCIENTIFIC.fullmatch(text):
            return excel_number(text)
        return excel_date(text) if MONTH_DATE.fullmatch(text) else formula_error(text)
    return garbled(text) if not text.isascii() and GARBLED.search(text) else None


def excel_number(text: str) -> dict[str, Any]:
    message = _(
        "A spreadsheet has shortened a long number to “%(value)s”. Format this column as text, enter the number again, "
        "and save the file again. If the value is right, send damage=accept."
    )
    return {"code": "excel_number", "message": message % {"value": text}}


def excel_date(text: str) -> dict[str, Any]:
    message = _(
        "A spreadsheet has probably turned this value into the date “%(value)s”. Format this column as text, enter the "
        "value again, and save the file again. If the value is right, send damage=accept."
    )
    return {"code": "excel_date", "message": message % {"value": text}}


def formula_error(text: str) -> dict[str, Any]:
    message = _("This cell contains an error of a formula, “%(value)s”. Correct the formula, and save the file again.")
    return {"code": "formula_error", "message": message % {"value": text}}


def formula_without_result() -> dict[str, Any]:
    message = _("The formula in this cell has no result. Open the file in a spreadsheet, and save it again.")
    return {"code": "formula_without_result", "message": message}


def garbled(text: str) -> dict[str, Any]:
    message = _(
        "The special characters of “%(value)s” are damaged: a program has read this text in the wrong encoding. Export "
        "the file again as “CSV UTF-8”. If the value is right, send damage=accept."
    )
    return {"code": "garbled_text", "message": message % {"value": text[:40]}}


def lost_digits(text: str) -> dict[str, Any]:
    message = _(
        "“%(value)s” has more than 15 digits. A spreadsheet keeps only 15 of them. Format this column as text, and "
        "enter the number again."
    )
    return {"code": "excel_digits", "message": message % {"value": text}}


def lost_zeros(text: str, digits: int) -> dict[str, Any]:
    message = _(
        "“%(value)s” has probably lost its leading zeros: other values of this column have %(digits)d digits. "
        "Format the column as text, and write %(padded)s. If the value is right, send damage=accept."
    )
    values = {"value": text, "digits": digits, "padded": text.zfill(digits)}
    return {"code": "excel_zeros", "message": message % values}
