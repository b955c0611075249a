"""Text in the cells of a CSV, protected against formula injection.

`inert` writes a cell and `as_sent` reads it back. Text that a spreadsheet would run as a formula gets an apostrophe
in front, which spreadsheets do not show. A file that is downloaded and uploaded again has the same text as before.
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
that `as_sent` removes only the apostrophe that `inert` added.
"""


def inert(text: str) -> str:
    """Return the text for a cell. NUL becomes U+FFFD, because many programs end a text at NUL."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return "'" + text if FORMULA.match(text) else text


def as_sent(cell: str) -> str:
    """Return the text that `inert` was given for this cell."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
