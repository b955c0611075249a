"""The other files: of LibreOffice, Google Sheets, Numbers and SAP, files that were edited by hand, and no tables."""

from __future__ import annotations

import codecs

from tests.bulk_import.intake.spreadsheets.excel_files import BR, DE, HEADER, JA, TENT, US, File
from tests.bulk_import.intake.spreadsheets.workbooks import number, ods, text, xlsx, zipped

OTHER_FILES = {
    # --- LibreOffice
    "libreoffice fr-FR, ods": File(
        ods([text("sku"), text("name"), text("price")], [text("007"), text("Été"), number(12.5, "12,50 €")]),
        [{"sku": "007", "name": "Été", "price": 12.5}],
    ),
    "libreoffice, ods with an error of a formula": File(
        ods([text("sku"), text("name")], [text("A-1"), text("Err:502")]),
        [{"sku": "A-1", "name": "Err:502"}],
        unread=[(2, "name", "formula_error")],
    ),
    "libreoffice de-DE, csv with tabs": File(
        b"sku\tname\tprice\nA-1\tZelt\t12,50\n", [{"sku": "A-1", "name": "Zelt", "price": "12.50"}], DE
    ),
    "libreoffice, csv with line breaks in cells": File(
        b'sku,name,description\nA-1,Tent,"Two\nlines, ""quoted"""\n',
        [{"sku": "A-1", "name": "Tent", "description": 'Two\nlines, "quoted"'}],
    ),
    # --- Google Sheets
    "google sheets pt-BR, csv": File(
        'SKU,Nome,Preço,Ativo\r\nA-1,Barraca,"R$ 1.234,50",VERDADEIRO\r\n'.encode(),
        [{"sku": "A-1", "name": "Barraca", "price": "1234.50", "is_active": "true"}],
        BR,
    ),
    "google sheets en-US, tsv": File(b"SKU\tName\tPrice\r\nA-1\tTent\t$12.50\r\n", [TENT], US),
    "google sheets, without a locale": File(
        'SKU,Nome,Preço\r\nA-1,Barraca,"12,50"\r\n'.encode(), [{"sku": "A-1", "name": "Barraca", "price": "12,50"}]
    ),
    "google sheets ja-JP, yen": File(
        "SKU,Name,Price\nA-1,テント,￥1200\n".encode(), [{"sku": "A-1", "name": "テント", "price": "1200"}], JA
    ),
    # --- Numbers
    "numbers de-DE, csv": File(
        "SKU;Name;Price;Weight kg\nA-1;Zelt;12,50 €;1.250,5\n".encode(),
        [{"sku": "A-1", "name": "Zelt", "price": "12.50", "weight_kg": "1250.5"}],
        DE,
    ),
    "numbers, table name above the header": File(b"Table 1,,\nsku,name,price\nA-1,Tent,12.50\n", [TENT]),
    # --- SAP
    "sap de-DE, minus behind the number": File(
        b"sku;name;price;stock\nA-1;Zelt;1.234,50-;12-\n",
        [{"sku": "A-1", "name": "Zelt", "price": "-1234.50", "stock": "-12"}],
        DE,
    ),
    "sap de-DE, three decimals of a whole number": File(
        b"sku;stock\nA-1;1,000\nA-2;12,000\n", [{"sku": "A-1", "stock": "1.000"}, {"sku": "A-2", "stock": "12.000"}], DE
    ),
    "sap, utf-16 without a byte order mark": File(
        "sku\tname\r\nA-1\tGrößen\r\n".encode("utf-16-le"), [{"sku": "A-1", "name": "Größen"}]
    ),
    "sap, big-endian utf-16": File(
        codecs.BOM_UTF16_BE + "sku;name\nA-1;Größen\n".encode("utf-16-be"), [{"sku": "A-1", "name": "Größen"}]
    ),
    "sap, columns that are chosen": File(
        b"MATNR;MAKTX;WERKS\nA-1;Zelt;1000\n",
        [{"sku": "A-1", "name": "Zelt"}],
        {"columns": {"MATNR": "sku", "MAKTX": "name", "WERKS": None}},
        ignored=["WERKS"],
    ),
    "sap, a chosen column that does not exist": File(
        b"sku;name\nA-1;Zelt\n", options={"columns": {"MATNR": "sku"}}, error="unknown_column"
    ),
    # --- edited by hand
    "by hand, an ambiguous number": File(
        b"sku;weight_kg\nA-1;1.200\n",
        [{"sku": "A-1", "weight_kg": "1.200"}],
        BR,
        unread=[(2, "weight_kg", "ambiguous_number")],
    ),
    "by hand, the rest of the column makes it clear": File(
        b"sku;price\nA-1;1.200\nA-2;9,90\n", [{"sku": "A-1", "price": "1200"}, {"sku": "A-2", "price": "9.90"}], BR
    ),
    "by hand, both separators in one column": File(
        b"sku;price\nA-1;1.200\nA-2;9,90\nA-3;12.5\n",
        [{"sku": "A-1", "price": "1.200"}, {"sku": "A-2", "price": "9.90"}, {"sku": "A-3", "price": "12.5"}],
        BR,
        unread=[(2, "price", "ambiguous_number")],
    ),
    "by hand, the decimal separator is named": File(
        b"sku;weight_kg\nA-1;1.200\n", [{"sku": "A-1", "weight_kg": "1.200"}], {**BR, "decimal": {"weight_kg": "."}}
    ),
    "by hand, the thousands separator is named": File(
        b"sku;weight_kg\nA-1;1.200\n", [{"sku": "A-1", "weight_kg": "1200"}], {**BR, "decimal": {"weight_kg": ","}}
    ),
    "by hand, a decimal comma after a zero": File(
        b"sku;weight_kg\nA-1;1.200\nA-2;0,850\n",
        [{"sku": "A-1", "weight_kg": "1200"}, {"sku": "A-2", "weight_kg": "0.850"}],
        BR,
    ),
    "by hand, a decimal comma although the point is named": File(
        b"sku;weight_kg\nA-1;1.200\nA-2;0,850\n",
        [{"sku": "A-1", "weight_kg": "1.200"}, {"sku": "A-2", "weight_kg": "0,850"}],
        {**BR, "decimal": {"weight_kg": "."}},
    ),
    "by hand, whole thousands are ambiguous": File(
        b"sku;stock\nA-1;2.000\n", [{"sku": "A-1", "stock": "2.000"}], BR, unread=[(2, "stock", "ambiguous_number")]
    ),
    "by hand, a whole number cannot be 1.2": File(b"sku;stock\nA-1;1.200\n", [{"sku": "A-1", "stock": "1200"}], BR),
    "by hand, commas in a column of another country": File(
        b'sku,price\nA-1,"1,200"\nA-2,"9,90"\n',
        [{"sku": "A-1", "price": "1,200"}, {"sku": "A-2", "price": "9,90"}],
        US,
        unread=[(2, "price", "ambiguous_number")],
    ),
    "by hand, capitals, accents and blanks in the header": File(
        b" S K U ;NAME;Is-Active;WEIGHT_KG\nA-1;Tent;true;1\n",
        [{"sku": "A-1", "name": "Tent", "is_active": "true", "weight_kg": "1"}],
    ),
    "by hand, two columns for one field": File(b"sku,Name,NAME\nA-1,Tent,Pan\n", error="ambiguous_column"),
    "by hand, the exact name is better": File(
        b"sku,Name,name\nA-1,Tent,Pan\n", [{"sku": "A-1", "name": "Pan"}], ignored=["Name"]
    ),
    "by hand, unknown columns": File(
        b"sku,name,Supplier\nA-1,Tent,Nord\n",
        [{"sku": "A-1", "name": "Tent", "Supplier": "Nord"}],
        ignored=["Supplier"],
    ),
    "by hand, unknown columns that are refused": File(
        b"sku,name,Supplier\nA-1,Tent,Nord\n", options={"unknown": "reject"}, error="unknown_columns"
    ),
    "by hand, a value in a column without a name": File(b"sku,,price\nA-1,x,1\n", error="malformed_header"),
    "by hand, text that was garbled": File(
        "sku,name\nA-1,Descri\u00c3\u00a7\u00c3\u00a3o\n".encode(),
        [{"sku": "A-1", "name": "Descri\u00c3\u00a7\u00c3\u00a3o"}],
        unread=[(2, "name", "garbled_text")],
    ),
    "by hand, json with the wrong name": File(b'[{"sku": "A-1"}]', [{"sku": "A-1"}]),
    # --- no tables
    "a png image": File(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", error="not_a_table"),
    "a pdf document": File(b"%PDF-1.7\n", error="not_a_table"),
    "a web page that is called .xls": File(b"<html><table><tr><td>sku</td></tr></table>", error="not_a_table"),
    "a damaged workbook": File(xlsx(HEADER)[:-40], error="workbook_damaged"),
    "a word document": File(zipped({"word/document.xml": "x"}), error="not_a_table"),
    "a text of libreoffice": File(zipped({"content.xml": "x"}), error="workbook_damaged"),
}
