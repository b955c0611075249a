"""Escapes text in the cells of a CSV, so that a spreadsheet does not run it as a formula.

A text that a spreadsheet could take for a formula gets an apostrophe in front, which spreadsheets do not show.
`escape_cell` adds it when a CSV is written, and `unescape_cell` removes it when a corrected CSV is uploaded. So a text
that is downloaded and uploaded again does not change.
"""

from __future__ import annotations

import re

FORMULA = re.compile(
    r"'*(?:[\t\r\n]|[\s\x00-\x1f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*"
    r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b])"
)
"""Start of a text that a spreadsheet may run.

Spreadsheets ignore blanks, characters of zero width and direction marks before the sign, and accept the full-width
forms of the signs. The pattern also matches apostrophes in front. A text such as "'=1" therefore becomes "''=1", so
that `unescape_cell` removes only the apostrophe that `escape_cell` added.
"""


def escape_cell(text: str) -> str:
    """Return the text as it is written to a cell. NUL becomes U+FFFD, because many programs cut a text at a NUL."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return "'" + text if FORMULA.match(text) else text


def unescape_cell(cell: str) -> str:
    """Return the text that was passed to `escape_cell` to write this cell."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
