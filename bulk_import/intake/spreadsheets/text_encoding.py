"""Finds the encoding of a text file. An encoding that is not certain is never assumed: the user has to name it.

A byte order mark is certain. So is UTF-8, because text in another encoding is practically never valid UTF-8. The bytes
of all other encodings are valid in several of them. They are certain only if the upload names its locale, and if all
special characters of the file are letters of that locale.
"""

from __future__ import annotations

import codecs
from typing import Any

from django.utils.translation import gettext as _

from bulk_import.exceptions import BadImport
from bulk_import.intake.spreadsheets.locales import JAPANESE, LOCALES, WESTERN

ENCODINGS = {
    "utf-8": "utf-8-sig",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "windows-1252": WESTERN,
    "iso-8859-1": "latin-1",
    "iso-8859-15": "iso8859-15",
    "windows-1250": "cp1250",
    "ibm850": "cp850",
    "macintosh": "mac-roman",
    "shift_jis": JAPANESE,
}
"""The encodings that an upload can name, and their names in Python."""

CANDIDATES = ("windows-1252", "macintosh", "ibm850", "shift_jis")
"""The encodings that are suggested for a file that is not in UTF-8."""

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
PIECE_BYTES = 1024 * 1024
SAMPLE_BYTES = 100
SAMPLE_CHARACTERS = 40
OTHER_SIGNS = "€®™°ºª§«»"
"""Signs that also occur in texts of every Western locale."""


def find_encoding(body: bytes, named: str, locale: str) -> str:
    """Return the encoding of a file, a key of ENCODINGS. `named` and `locale` are those of the upload, or "".

    Raises BadImport if the file is not in the encoding that is named, or if its encoding is not certain.
    """
    if named and named != "utf-8":
        if _undecodable_byte(body, ENCODINGS[named]) is not None:
            message = _("This file is not in the encoding “%(encoding)s”. Name another one, or save it as UTF-8.")
            raise BadImport(message % {"encoding": named}, code="wrong_encoding")
        return named
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if body.startswith(mark) and _undecodable_byte(body, ENCODINGS[encoding]) is None:
            return encoding
    for encoding in _encodings_of_nuls(body):
        if _undecodable_byte(body, encoding) is None:
            return encoding
    wrong = _undecodable_byte(body, ENCODINGS["utf-8"])
    if wrong is None:
        return "utf-8"
    if not named and locale and _is_written_in(body, locale):
        return {WESTERN: "windows-1252", JAPANESE: "shift_jis"}[LOCALES[locale].encoding]
    raise _unknown_encoding(body, wrong)


def _encodings_of_nuls(body: bytes) -> list[str]:
    """Return the kinds of UTF-16 that a text without a byte order mark may have: every other byte is a NUL."""
    start = body[: PIECE_BYTES & ~1]
    zeros = [start[position::2].count(0) for position in (0, 1)]
    if max(zeros) * 4 < len(start):
        return []
    return ["utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"]


def _undecodable_byte(body: bytes, encoding: str) -> int | None:
    """Return the position of the first byte that cannot be decoded; None if there is none."""
    decoder = codecs.getincrementaldecoder(encoding)()
    for start in range(0, len(body), PIECE_BYTES):
        incomplete = len(decoder.getstate()[0])  # bytes of a character that began in the previous piece
        piece = body[start : start + PIECE_BYTES]
        try:
            decoder.decode(piece, start + PIECE_BYTES >= len(body))
        except UnicodeDecodeError as error:
            return start - incomplete + error.start
    return None


def _is_written_in(body: bytes, locale: str) -> bool:
    """Return whether the special characters of a file are letters of the locale, read in the locale's encoding."""
    conventions = LOCALES[locale]
    if _undecodable_byte(body, conventions.encoding) is not None:
        return False
    if conventions.encoding == JAPANESE:
        text = body.decode(JAPANESE)
        return not any("\uff61" <= character <= "\uff9f" for character in text)  # half-width katakana are often wrong
    letters = conventions.letters + conventions.letters.upper() + OTHER_SIGNS
    special = {bytes([byte]).decode(conventions.encoding) for byte in set(body) if byte > 127}  # noqa: PLR2004 - the last byte of ASCII
    return special <= set(letters)


def _unknown_encoding(body: bytes, position: int) -> BadImport:
    """Return the error for a file that is not in UTF-8. It shows how a line reads in each encoding that it may have."""
    line = body.count(b"\n", 0, position) + 1
    start = body.rfind(b"\n", 0, position) + 1
    start = max(start, position - SAMPLE_BYTES // 2)
    sample = body[start : start + SAMPLE_BYTES].partition(b"\n")[0]
    samples: list[dict[str, Any]] = [
        {"encoding": name, "sample": sample.decode(ENCODINGS[name], "replace").strip()[:SAMPLE_CHARACTERS]}
        for name in CANDIDATES
        if _undecodable_byte(body, ENCODINGS[name]) is None
    ]
    message = _(
        "This CSV is not in UTF-8 (line %(line)d). Save it as “CSV UTF-8”, or send the name of its encoding in "
        "“encoding”. It is probably one of these: %(choices)s."
    )
    choices = ", ".join(f"{choice['encoding']} (“{choice['sample']}”)" for choice in samples) or "?"
    return BadImport(message % {"line": line, "choices": choices}, code="unknown_encoding", encodings=samples)
