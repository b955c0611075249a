"""Writes small workbooks byte by byte: as Excel, LibreOffice and other programs write them, or hostile ones."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STYLES = (
    f'<styleSheet xmlns="{MAIN}"><numFmts><numFmt numFmtId="164" formatCode="00000"/></numFmts><cellXfs>'
    '<xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/><xf numFmtId="164"/></cellXfs></styleSheet>'
)
DATE, TIME, PADDED = 1, 2, 3
"""Styles of a cell in `xlsx`: a date, a date with a time, and a number with leading zeros."""

SECTOR = 512
END_OF_CHAIN, FREE, FAT_SECTOR = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def zipped(files: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def column(number: int) -> str:
    return chr(ord("A") + number)


def cell(where: str, value: object) -> str:
    """Return the XML of a cell. A tuple is a number and its style, and bytes are XML of their own."""
    if isinstance(value, bytes):
        return value.decode().replace("@", where)
    if isinstance(value, tuple):
        return f'<c r="{where}" s="{value[1]}"><v>{value[0]}</v></c>'
    if isinstance(value, bool):
        return f'<c r="{where}" t="b"><v>{value:d}</v></c>'
    if isinstance(value, str):
        return f'<c r="{where}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return "" if value is None else f'<c r="{where}"><v>{value}</v></c>'


def sheet_xml(rows: dict[int, Sequence[object]]) -> str:
    xml = "".join(
        f'<row r="{number}">{"".join(cell(f"{column(at)}{number}", value) for at, value in enumerate(row))}</row>'
        for number, row in rows.items()
    )
    return f'<worksheet xmlns="{MAIN}"><sheetData>{xml}</sheetData></worksheet>'


def xlsx(
    *rows: Sequence[object], start: int = 1, hidden: tuple[str, ...] = (), **others: Sequence[Sequence[object]]
) -> bytes:
    """Return a workbook whose first sheet has these rows. `others` are further sheets."""
    sheets = {"Products": list(rows), **others}
    return xlsx_of_xml(
        {name: sheet_xml(dict(enumerate(found, start))) for name, found in sheets.items()}, hidden=hidden
    )


def xlsx_of_xml(sheets: dict[str, str], hidden: tuple[str, ...] = ()) -> bytes:
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    states = {name: ' state="hidden"' if name in hidden else "" for name in sheets}
    names = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"{states[name]}/>'
        for number, name in enumerate(sheets, 1)
    )
    targets = "".join(
        f'<Relationship Id="rId{number}" Type="{OFFICE}/relationships/worksheet" Target="worksheets/s{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Override PartName="/xl/workbook.xml" '
            f'ContentType="{kind}"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{OFFICE}/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}/relationships"><sheets>{names}</sheets>'
            "</workbook>",
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{targets}<Relationship '
            f'Id="rId99" Type="{OFFICE}/relationships/styles" Target="styles.xml"/></Relationships>',
            "xl/styles.xml": STYLES,
            **{f"xl/worksheets/s{number}.xml": xml for number, xml in enumerate(sheets.values(), 1)},
        }
    )


def ods(*rows: list[str], name: str = "Tabelle1") -> bytes:
    """Return a sheet of LibreOffice. Each cell is XML; `text`, `number` and `date` make it."""
    table = "".join(f"<table:table-row>{''.join(row)}</table:table-row>" for row in rows)
    spaces = " ".join(
        f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{prefix}:1.0"' for prefix in ("office", "table", "text")
    )
    content = (
        f'<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name="{name}">{table}'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    spaces = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
    manifest = f'<manifest:manifest xmlns:manifest="{spaces}"/>'
    return zipped({"mimetype": kind, "META-INF/manifest.xml": manifest, "content.xml": content})


def text(value: str) -> str:
    return f'<table:table-cell office:value-type="string"><text:p>{escape(value)}</text:p></table:table-cell>'


def number(value: float, shown: str = "") -> str:
    shown = f"<text:p>{shown or value}</text:p>"
    return f'<table:table-cell office:value-type="float" office:value="{value}">{shown}</table:table-cell>'


def xls(*rows: Sequence[object]) -> bytes:
    """Return a workbook of Excel 97 with texts, numbers and truth values. Bytes are the code of an error."""
    begin, end = struct.pack("<HHHHIIHH", 0x0809, 16, 0x0600, 0x0005, 0, 0, 0, 0), struct.pack("<HH", 0x000A, 0)
    name = "Blatt1"
    bound = struct.pack("<IHBB", len(begin) + 4 + 8 + len(name) + len(end), 0, len(name), 0) + name.encode()
    start = begin + struct.pack("<HH", 0x0085, len(bound)) + bound + end
    records = [struct.pack("<HHHHIIHH", 0x0809, 16, 0x0600, 0x0010, 0, 0, 0, 0)]
    for line, row in enumerate(rows):
        for at, value in enumerate(row):
            where = struct.pack("<HHH", line, at, 0)
            if isinstance(value, str):
                data = where + struct.pack("<HB", len(value), 1) + value.encode("utf-16-le")
                records.append(struct.pack("<HH", 0x0204, len(data)) + data)
            elif isinstance(value, bytes):
                records.append(struct.pack("<HH", 0x0205, 8) + where + value + b"\1")
            elif isinstance(value, bool):
                records.append(struct.pack("<HH", 0x0205, 8) + where + bytes([value, 0]))
            elif isinstance(value, int | float):
                records.append(struct.pack("<HH", 0x0203, 14) + where + struct.pack("<d", value))
    return compound_file((start + b"".join(records) + end).ljust(4096, b"\0"))


def compound_file(stream: bytes) -> bytes:
    """Return a compound file with one stream, "Workbook", of at least 4,096 bytes."""
    sectors = -(-len(stream) // SECTOR)
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, END_OF_CHAIN, 0, END_OF_CHAIN, 0)
    header += struct.pack("<I", 0) + struct.pack("<I", FREE) * 108
    chain = [*range(3, sectors + 2), END_OF_CHAIN]
    fat = struct.pack(f"<{2 + len(chain)}I", FAT_SECTOR, END_OF_CHAIN, *chain).ljust(SECTOR, b"\xff")

    def entry(name: str, kind: int, child: int, first: int, size: int) -> bytes:
        written = name.encode("utf-16-le")
        found = written.ljust(64, b"\0") + struct.pack(
            "<HBBIII", len(written) + 2 if name else 0, kind, 1, FREE, FREE, child
        )
        return found + bytes(36) + struct.pack("<IQ", first, size)

    directory = entry("Root Entry", 5, 1, END_OF_CHAIN, 0) + entry("Workbook", 2, FREE, 2, len(stream))
    directory += entry("", 0, FREE, 0, 0) * 2
    return header + fat + directory + stream.ljust(sectors * SECTOR, b"\0")
