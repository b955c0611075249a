"""Reads one sheet of a workbook, in a process of its own. `workbook_source` starts it, and reads what it writes.

A small file can need any amount of memory: compressed XML, texts that many cells share, or one cell in the last row and
column of a sheet. The parser cannot limit this, and ends the process that runs out of memory. So the process limits
itself before it reads the file. Apart from `xls_errors`, it imports nothing of the project, so that it starts fast.

Usage: python workbook_process.py MEMORY_BYTES PROCESSOR_SECONDS OUTPUT_BYTES SHEET < workbook > rows

SHEET is the name or the number of a sheet, from 1; with "", it is the only visible sheet that is not empty. Writes one
line of JSON about the workbook, and then one for each row that is not blank: its number and its cells. A date is an
object with `date`, so that it differs from text, and a cell that cannot be read is an object with `error`.
"""

from __future__ import annotations

import contextlib
import io
import re
import resource
import struct
import sys
import zipfile
from datetime import date, datetime, time
from typing import Any

import msgspec

from bulk_import.intake.spreadsheets.xls_errors import error_cells

COMPOUND_FILE = b"\xd0\xcf\x11\xe0"
"""How an .xls file begins."""

WIDEST = 16_384
"""Columns that a sheet may have: as many as in Excel."""

CELL_ERROR = re.compile(rb"""<(?:\w+:)?c\b([^>]*?\bt=["']e["'][^>]*)>""")
UNCALCULATED = re.compile(
    rb"""<(?:\w+:)?c\b([^>]*)><(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)"""
    rb"""(?:<(?:\w+:)?v ?/>|<(?:\w+:)?v></(?:\w+:)?v>)?</(?:\w+:)?c>"""
)
PADDED = re.compile(rb"""<(?:\w+:)?c\b([^>]*?\bs=["']([0-9]+)["'][^>]*)><(?:\w+:)?v>([0-9]+)</""")
REFERENCE = re.compile(rb"""\br=["']([A-Z]+)([0-9]+)["']""")
FORMAT = re.compile(rb'<numFmt\b[^>]*?numFmtId="([0-9]+)"[^>]*?formatCode="(0{2,})"')
STYLE = re.compile(rb'<xf\b[^>]*?numFmtId="([0-9]+)"')

Cells = dict[int, dict[int, Any]]
"""Cells by the numbers of their row, from 1, and of their column, from 0."""


def main(memory_bytes: str, seconds: str, output_bytes: str, sheet: str) -> None:
    limit(resource.RLIMIT_AS, int(memory_bytes))
    limit(resource.RLIMIT_CPU, int(seconds))
    limit(resource.RLIMIT_FSIZE, int(output_bytes))
    import python_calamine  # noqa: PLC0415 - it must be loaded under the limits

    body = sys.stdin.buffer.read()
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(body))
        write_sheet(workbook, body, sheet)
    except python_calamine.PasswordError:
        write({"error": "password"})
    except (python_calamine.CalamineError, zipfile.BadZipFile, struct.error):
        write({"error": "damaged"})


def limit(kind: int, amount: int) -> None:
    """Set a limit of this process, unless the system does not have it."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (amount, amount))


def write_sheet(workbook: Any, body: bytes, wanted: str) -> None:
    """Write the chosen sheet. If it is not clear which one is meant, write only the names of the sheets."""
    names = workbook.sheet_names
    visible = [found.name for found in workbook.sheets_metadata if is_table(found)]
    if wanted:
        by_number = names[int(wanted) - 1 : int(wanted)] if wanted.isdecimal() and int(wanted) else []
        chosen = [workbook.get_sheet_by_name(name) for name in ([wanted] if wanted in names else by_number)]
    else:
        chosen = [sheet for sheet in map(workbook.get_sheet_by_name, visible) if sheet.start]
    if not chosen:
        write({"error": "no_sheet" if wanted else "empty", "sheets": visible})
    elif len(chosen) > 1:
        write({"error": "sheet", "sheets": [sheet.name for sheet in chosen]})
    elif chosen[0].width > WIDEST:
        write({"error": "too_large"})
    else:
        write({"sheet": chosen[0].name, "sheets": visible})
        write_rows(chosen[0], special_cells(body, names.index(chosen[0].name)))


def is_table(sheet: Any) -> bool:
    return str(sheet.visible).endswith(".Visible") and str(sheet.typ).endswith(".WorkSheet")


def write_rows(sheet: Any, special: Cells) -> None:
    """Write the rows that are not blank. The cells in `special` replace those that calamine reads."""
    first_column = sheet.start[1] if sheet.start else 0
    for number, row in enumerate(sheet.iter_rows(), 1):
        cells = [cell if type(cell) is str else to_json(cell) for cell in row]
        for column, cell in special.get(number, {}).items():
            cells += [""] * (column - first_column - len(cells) + 1)
            cells[column - first_column] = cell
        if any(cell != "" for cell in cells):
            write([number, cells])


def to_json(cell: Any) -> Any:
    """Return a number without the digits that Excel does not show, and a date in ISO format."""
    if isinstance(cell, bool) or cell is None:
        return cell
    if isinstance(cell, int | float):
        return int(cell) if float(cell).is_integer() and abs(cell) < 10**15 else float(f"{cell:.15g}")
    if isinstance(cell, datetime):
        is_date = cell.time() == time.min
        return {"date": (cell.date() if is_date else cell).isoformat()}
    if isinstance(cell, date | time):
        return {"date": cell.isoformat()}
    return str(cell)


def sheet_xml(body: bytes, position: int) -> bytes:
    """Return the XML of a sheet of an .xlsx file, and b"" for another format."""
    if not body.startswith(b"PK"):
        return b""
    archive = zipfile.ZipFile(io.BytesIO(body))
    names = archive.namelist()
    if "xl/workbook.xml" not in names:
        return b""
    sheets = re.findall(rb'<(?:\w+:)?sheet\b[^>]*?\br:id="([^"]+)"', archive.read("xl/workbook.xml"))
    for relation in re.findall(rb"<(?:\w+:)?Relationship\b[^>]*>", archive.read("xl/_rels/workbook.xml.rels")):
        if position < len(sheets) and b'Id="%s"' % sheets[position] in relation:
            path = re.search(rb'Target="/?(?:xl/)?([^"]+)"', relation)
            name = f"xl/{path[1].decode()}" if path else ""
            return archive.read(name) if name in names else b""
    return b""


def special_cells(body: bytes, sheet_number: int) -> Cells:
    """Return the cells of an .xlsx or .xls file that calamine does not report as Excel shows them.

    These are errors such as #N/A, formulas without a result, and numbers that are shown with leading zeros because of
    a number format such as 00000.
    """
    special: Cells = {}
    if body.startswith(COMPOUND_FILE):
        for row, column in error_cells(body, sheet_number):
            special.setdefault(row + 1, {})[column] = {"error": "formula_error"}
        return special
    xml = sheet_xml(body, sheet_number)
    for pattern, error in ((CELL_ERROR, "formula_error"), (UNCALCULATED, "formula_without_result")):
        for attributes in pattern.findall(xml):
            add(special, attributes, {"error": error})
    if xml and (widths := padded_styles(body)):
        for attributes, style, digits in PADDED.findall(xml):
            if style in widths:
                add(special, attributes, digits.decode().zfill(widths[style]))
    return special


def add(special: Cells, attributes: bytes, cell: Any) -> None:
    if reference := REFERENCE.search(attributes):
        special.setdefault(int(reference[2]), {})[column_number(reference[1])] = cell


def padded_styles(body: bytes) -> dict[bytes, int]:
    """Return the styles that show leading zeros, each with its number of digits."""
    archive = zipfile.ZipFile(io.BytesIO(body))
    if "xl/styles.xml" not in archive.namelist():
        return {}
    styles = archive.read("xl/styles.xml")
    widths = {number: len(zeros) for number, zeros in FORMAT.findall(styles)}
    formats = STYLE.findall(styles.partition(b"<cellXfs")[2].partition(b"</cellXfs>")[0])
    return {b"%d" % style: widths[number] for style, number in enumerate(formats) if number in widths}


def column_number(letters: bytes) -> int:
    """Return the number of a column, from 0, such as 26 for AA."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number - 1


def write(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
