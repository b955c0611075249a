"""Files as Excel writes them in five countries, each with a hand-written table of what its cells mean.

Each file has either the rows that it means, or the code of the error that asks the user. In `unread` are the cells that
are errors of their row, because they cannot be read with certainty.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Any

from tests.bulk_import.intake.spreadsheets.workbooks import DATE, PADDED, TIME, xls, xlsx


@dataclass(frozen=True)
class File:
    """A file, the query parameters of its upload, and what it means."""

    body: bytes
    rows: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    unread: list[tuple[int, str, str]] = field(default_factory=list)  # line, field and code of the error
    ignored: list[str] = field(default_factory=list)


BR, DE, FR, US, JA = ({"locale": name} for name in ("pt-BR", "de-DE", "fr-FR", "en-US", "ja-JP"))
HEADER = ["sku", "name", "price"]
TENT = {"sku": "A-1", "name": "Tent", "price": "12.50"}
NA = b'<c r="@" t="e"><v>#N/A</v></c>'
NO_RESULT = b'<c r="@"><f>SUM(A1)</f></c>'

EXCEL_FILES = {
    # --- Excel
    "excel pt-BR, csv with semicolons, windows-1252": File(
        "SKU;Nome;Preço;Moeda;Estoque;Categoria;Ativo\r\n"
        "A-1;Barraca São João;1.234,50;BRL;7;camping;VERDADEIRO\r\nA-2;Pão;12,50;BRL;1.200;camping;FALSO\r\n".encode(
            "cp1252"
        ),
        [
            {
                "sku": "A-1",
                "name": "Barraca São João",
                "price": "1234.50",
                "currency": "BRL",
                "stock": "7",
                "category": "camping",
                "is_active": "true",
            },
            {
                "sku": "A-2",
                "name": "Pão",
                "price": "12.50",
                "currency": "BRL",
                "stock": "1200",
                "category": "camping",
                "is_active": "false",
            },
        ],
        BR,
    ),
    "excel pt-BR, csv utf-8 with byte order mark": File(
        codecs.BOM_UTF8 + "SKU;Descrição;Cor;Peso (kg)\r\nA-1;Leve;azul;2,5\r\n".encode(),
        [{"sku": "A-1", "description": "Leve", "color": "azul", "weight_kg": "2.5"}],
        BR,
    ),
    "excel pt-BR, unicode text (utf-16 with tabs)": File(
        "SKU\tNome\tPreço\r\nA-1\tCaneca\t9,90\r\n".encode("utf-16"),
        [{"sku": "A-1", "name": "Caneca", "price": "9.90"}],
        BR,
    ),
    "excel de-DE, csv windows-1252": File(
        "sku;name;price;weight_kg\r\nA-1;Zelt für Größe XL;1.299,00;3,250\r\n".encode("cp1252"),
        [{"sku": "A-1", "name": "Zelt für Größe XL", "price": "1299.00", "weight_kg": "3.250"}],
        DE,
    ),
    "excel de-DE, windows-1252 without a locale": File(
        "sku;name\r\nA-1;Zelt für zwei\r\n".encode("cp1252"), error="unknown_encoding"
    ),
    "excel de-DE, windows-1252 that is named": File(
        "sku;name\r\nA-1;Zelt „Größe“ … 5 €\r\n".encode("cp1252"),
        [{"sku": "A-1", "name": "Zelt „Größe“ … 5 €"}],
        {"encoding": "windows-1252"},
    ),
    "excel fr-FR, csv latin-1 with blanks in numbers": File(
        "sku;name;price;is_active\r\nA-1;Tente légère;1\u00a0234,50;oui\r\n".encode("latin-1").replace(b"\xa0", b" "),
        [{"sku": "A-1", "name": "Tente légère", "price": "1234.50", "is_active": "true"}],
        FR,
    ),
    "excel fr-FR, narrow blanks in utf-8": File(
        "sku;name;price\r\nA-1;Tente;12\u202f345,00\r\n".encode(),
        [{"sku": "A-1", "name": "Tente", "price": "12345.00"}],
        FR,
    ),
    "excel en-US, csv": File(
        b'sku,name,price\r\nA-1,"Tent, large","1,234.50"\r\n',
        [{"sku": "A-1", "name": "Tent, large", "price": "1234.50"}],
        US,
    ),
    "excel ja-JP, csv shift_jis": File(
        'sku,name,price\r\nA-1,テント,"1,200"\r\n'.encode("cp932"),
        [{"sku": "A-1", "name": "テント", "price": "1200"}],
        JA,
    ),
    "excel ja-JP, shift_jis without a locale": File(
        "sku,name\r\nA-1,テント\r\n".encode("cp932"), error="unknown_encoding"
    ),
    "excel for mac, macintosh": File(
        "sku;name\rA-1;São José\r".encode("mac-roman"), options=BR, error="unknown_encoding"
    ),
    "excel for mac, macintosh that is named": File(
        "sku;name\nA-1;Descrição\n".encode("mac-roman"),
        [{"sku": "A-1", "name": "Descrição"}],
        {"encoding": "macintosh", "locale": "pt-BR"},
    ),
    "excel, sep=": File(b"sep=;\r\nsku;name;price\r\nA-1;Tent, large;12.50\r\n", [{**TENT, "name": "Tent, large"}]),
    "excel, trailing separators and empty rows": File(
        b"sku;name;price;;;\r\nA-1;Tent;12.50;;;\r\n;;;;;\r\n;;;;;\r\n", [TENT]
    ),
    "excel, title rows": File(
        b"Price list, spring;;\r\n;;\r\nas of today;;\r\nsku;name;price\r\nA-1;Tent;12.50\r\n", [TENT]
    ),
    "excel, long numbers and dates are damaged": File(
        b"sku;size;barcode\nA-1;mar/05;7,89E+12\nA-2;XL;\n",
        [{"sku": "A-1", "size": "mar/05", "barcode": "7,89E+12"}, {"sku": "A-2", "size": "XL"}],
        unread=[(2, "size", "excel_date"), (2, "barcode", "excel_number")],
    ),
    "excel, damage that is accepted": File(
        b"sku,size\nA-1,Mar-26\n", [{"sku": "A-1", "size": "Mar-26"}], {"damage": "accept"}
    ),
    "excel, lost zeros": File(
        b"sku,name\n00123,Tent\n00124,Pan\n125,Mug\n",
        [{"sku": "00123", "name": "Tent"}, {"sku": "00124", "name": "Pan"}, {"sku": "125", "name": "Mug"}],
        unread=[(4, "sku", "excel_zeros")],
    ),
    "excel, an error of a formula in a csv": File(
        b"sku,name\nA-1,#N/A\nA-2,#REF!\n",
        [{"sku": "A-1", "name": "#N/A"}, {"sku": "A-2", "name": "#REF!"}],
        unread=[(2, "name", "formula_error"), (3, "name", "formula_error")],
    ),
    "excel, xlsx with numbers and text": File(
        xlsx(["sku", "name", "price", "stock"], ["007", "Tent", 12.5, 7]),
        [{"sku": "007", "name": "Tent", "price": 12.5, "stock": 7}],
    ),
    "excel, xlsx with digits that excel does not show": File(
        xlsx(HEADER, ["A-1", "Tent", 12.499999999999998], ["A-2", "Pan", 0.30000000000000004]),
        [{"sku": "A-1", "name": "Tent", "price": 12.5}, {"sku": "A-2", "name": "Pan", "price": 0.3}],
    ),
    "excel, xlsx with a truth value": File(
        xlsx(["sku", "is_active"], ["A-1", True], ["A-2", False]),
        [{"sku": "A-1", "is_active": True}, {"sku": "A-2", "is_active": False}],
    ),
    "excel, xlsx with numbers that are shown with zeros": File(
        xlsx(["sku", "name"], [(123, PADDED), "Tent"], [(45678, PADDED), "Pan"]),
        [{"sku": "00123", "name": "Tent"}, {"sku": "45678", "name": "Pan"}],
    ),
    "excel, xlsx with a date in a text": File(
        xlsx(["sku", "size"], ["A-1", (46000, DATE)]),
        [{"sku": "A-1", "size": "2025-12-09"}],
        unread=[(2, "size", "excel_date")],
    ),
    "excel, xlsx with a date in an unknown column": File(
        xlsx(["sku", "name", "Seen"], ["A-1", "Tent", (46000.5, TIME)]),
        [{"sku": "A-1", "name": "Tent", "Seen": "2025-12-09T12:00:00"}],
        ignored=["Seen"],
    ),
    "excel, xlsx with an error of a formula": File(
        xlsx(HEADER, ["A-1", "Tent", NA]), [{"sku": "A-1", "name": "Tent"}], unread=[(2, "price", "formula_error")]
    ),
    "excel, xlsx with an error in an unknown column": File(
        xlsx([*HEADER, "Note"], ["A-1", "Tent", 12.5, NA]),
        [{**TENT, "price": 12.5, "Note": "formula_error"}],
        ignored=["Note"],
    ),
    "python, xlsx with a formula without a result": File(
        xlsx(HEADER, ["A-1", "Tent", NO_RESULT]),
        [{"sku": "A-1", "name": "Tent"}],
        unread=[(2, "price", "formula_without_result")],
    ),
    "excel, xlsx with too many digits": File(
        xlsx(["sku", "barcode"], ["A-1", 7894900011517000123]),
        [{"sku": "A-1", "barcode": 7.8949000115170e18}],
        unread=[(2, "barcode", "excel_digits")],
    ),
    "excel, xlsx with a barcode": File(
        xlsx(["sku", "barcode"], ["A-1", 7894900011517]), [{"sku": "A-1", "barcode": 7894900011517}]
    ),
    "excel, xlsx with title and blank rows": File(
        xlsx(["Price list"], [], HEADER, [], ["A-1", "Tent", "12.50"], start=3), [TENT]
    ),
    "excel, xlsx with several sheets": File(xlsx(HEADER, ["A-1", "Tent", 12.5], Old=[HEADER]), error="choose_sheet"),
    "excel, xlsx with a chosen sheet": File(
        xlsx(HEADER, ["A-1", "Tent", 12.5], Old=[HEADER, ["B-1", "Pan", 1]]),
        [{"sku": "B-1", "name": "Pan", "price": 1}],
        {"sheet": "Old"},
    ),
    "excel, xlsx with the number of a sheet": File(
        xlsx(HEADER, ["A-1", "Tent", 12.5], Old=[HEADER]), [{**TENT, "price": 12.5}], {"sheet": "1"}
    ),
    "excel, xlsx without the chosen sheet": File(xlsx(HEADER), options={"sheet": "New"}, error="choose_sheet"),
    "excel, xlsx with hidden and empty sheets": File(
        xlsx(HEADER, ["A-1", "Tent", 12.5], Lists=[["x"]], Sheet2=[], hidden=("Lists",)), [{**TENT, "price": 12.5}]
    ),
    "excel pt-BR, xlsx with numbers as text": File(
        xlsx(["SKU", "Preço", "Ativo"], ["A-1", "12,50", "Sim"], ["A-2", "1.200,00", "Não"]),
        [
            {"sku": "A-1", "price": "12.50", "is_active": "true"},
            {"sku": "A-2", "price": "1200.00", "is_active": "false"},
        ],
        BR,
    ),
    "excel 97 de-DE, xls": File(
        xls(["SKU", "Name", "Price", "Is active"], ["007", "Größe", 12.5, True]),
        [{"sku": "007", "name": "Größe", "price": 12.5, "is_active": True}],
    ),
    "excel 97, xls with errors of formulas": File(
        xls(["sku", "name", "price"], ["A-1", "Tent", b"\x2a"], ["A-2", "Pan", 1.5]),
        [{"sku": "A-1", "name": "Tent"}, {"sku": "A-2", "name": "Pan", "price": 1.5}],
        unread=[(2, "price", "formula_error")],
    ),
}
