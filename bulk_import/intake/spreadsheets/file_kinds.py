"""Recognises what a file is by its first bytes. Names and media types of uploads are often wrong."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

ZIP = b"PK\x03\x04"
COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How a file of Excel 97, Word 97 and Outlook begins. Encrypted .xlsx files begin with it too."""

OTHER_KINDS: dict[bytes, _StrPromise] = {
    b"\x89PNG\r\n": _("a PNG image"),
    b"\xff\xd8\xff": _("a JPEG image"),
    b"GIF8": _("a GIF image"),
    b"BM": _("a BMP image"),
    b"%PDF-": _("a PDF document"),
    b"{\\rtf": _("an RTF document"),
    b"\x1f\x8b": _("a gzip archive"),
    b"7z\xbc\xaf\x27\x1c": _("a 7z archive"),
    b"Rar!": _("a RAR archive"),
    b"SQLite format 3\0": _("an SQLite database"),
    b"PAR1": _("a Parquet file"),
    b"\x7fELF": _("a program"),
    b"MZ": _("a program"),
}
"""How files begin that are no tables, and what they are."""

MARKUP = (b"<!doctype html", b"<html", b"<?xml")
"""How web pages and XML documents begin, in lower case. Some programs give a web page a name that ends in .xls."""

TAB = 9

SHORT_MARKS = frozenset({b"BM", b"MZ"})
"""Marks that a CSV may also begin with. They count only if a control character follows."""

ZIP_MEMBERS = (b"xl/workbook.", b"content.xml")
"""Names of files in a zip file that make it a workbook: of Excel, and of LibreOffice.

They are searched in the bytes. To list the files in a zip file that has a million of them would need too much memory.
"""


def is_workbook(body: bytes) -> bool:
    """Return whether a file is an .xlsx, .xls or .ods file, or looks like one. Its reader reports any other."""
    if body.startswith(COMPOUND_FILE):
        return True
    return body.startswith(ZIP) and any(name in body for name in ZIP_MEMBERS)


def name_other_kind(body: bytes) -> _StrPromise | None:
    """Return what a file is that cannot be imported, such as "a PNG image"; None if it may contain rows."""
    if body.startswith(ZIP):
        return None if is_workbook(body) else _("a ZIP archive")
    start = body[:64]
    for mark, kind in OTHER_KINDS.items():
        if start.startswith(mark) and (mark not in SHORT_MARKS or any(byte < TAB for byte in start)):
            return kind
    text = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith(MARKUP):
        return _("an XML document") if text.startswith(b"<?xml") else _("a web page")
    return None
