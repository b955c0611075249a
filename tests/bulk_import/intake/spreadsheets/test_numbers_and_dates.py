"""The whole column decides how a date is read. What can mean two things is an error."""

from __future__ import annotations

import pytest

from bulk_import.intake.spreadsheets.locales import LOCALES
from bulk_import.intake.spreadsheets.numbers_and_dates import DateColumn, NumberColumn


def read_dates(locale: str, *texts: str) -> list[str]:
    """Return the dates, or the codes of their errors."""
    column = DateColumn(LOCALES[locale])
    for text in texts:
        column.observe(text)
    results = [column.read(text) for text in texts]
    return [error["code"] if error else value for value, error in results]


@pytest.mark.parametrize(
    ("locale", "text", "date"),
    [
        ("pt-BR", "05/03/2026", "2026-03-05"),
        ("de-DE", "5.3.2026", "2026-03-05"),
        ("fr-FR", "05/03/2026 14:30", "2026-03-05T14:30"),
        ("en-US", "03/05/2026", "2026-03-05"),
        ("en-GB", "05-03-2026 7:05:09", "2026-03-05T07:05:09"),
        ("ja-JP", "2026/3/5", "2026-03-05"),
        ("ja-JP", "2026年3月5日", "2026-03-05"),
        ("pt-BR", "2026-03-05", "2026-03-05"),
        ("pt-BR", "05/03/26", "ambiguous_date"),
        ("pt-BR", "03/25/2026", "03/25/2026"),  # the serializer refuses it
        ("pt-BR", "31/02/2026", "31/02/2026"),
        ("pt-BR", "5 de março", "5 de março"),
    ],
)
def test_a_date_is_read_in_the_order_of_the_locale(locale: str, text: str, date: str) -> None:
    assert read_dates(locale, text) == [date]


def test_dates_in_both_orders_are_ambiguous_unless_only_one_order_is_possible() -> None:
    assert read_dates("pt-BR", "04/03/2026", "04/25/2026", "25/04/2026", "05/05/2026") == [
        "ambiguous_date",
        "04/25/2026",
        "2026-04-25",
        "2026-05-05",
    ]


@pytest.mark.parametrize(
    ("locale", "text", "number"),
    [
        ("pt-BR", "R$ 1.234,50", "1234.50"),
        ("pt-BR", "-12,5", "-12.5"),
        ("de-DE", "1.234,50-", "-1234.50"),
        ("fr-FR", "1\u202f234,5 €", "1234.5"),
        ("en-US", "$1,234.50", "1234.50"),
        ("en-US", "1.200", "1.200"),
        ("de-DE", "12.50", "12.50"),
        ("de-DE", "0.850", "0.850"),  # thousands do not begin with a zero
        ("en-US", "0,850", "0,850"),
        ("en-US", "12,50", "12,50"),  # the serializer refuses it
        ("pt-BR", "12,5 kg", "12,5 kg"),
        ("pt-BR", "1.23,5", "1.23,5"),
        ("pt-BR", "", ""),
    ],
)
def test_a_number_gets_a_decimal_point(locale: str, text: str, number: str) -> None:
    column = NumberColumn("price", LOCALES[locale], "", is_integer=False)
    column.observe(text)

    assert column.read(text) == (number, None)
